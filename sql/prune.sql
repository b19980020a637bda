-- The schema is code-import's alone: refuse what others have put there, and drop the functions and
-- views of ours that this load did not write, which are those that sql/ no longer has.
--
-- "create or replace" stamps a row with the loading transaction, changed or not; but so do GRANT
-- and COMMENT, hence this comes before the grants. What others built on a view that goes makes the
-- install fail, rather than go with it.

do $$
declare
    v_foreign  text;
    v_routines text;
    v_views    text;
begin
    select string_agg(thing.name, ', ') into v_foreign
    from (
        select format('table vcs.%I', relation.relname), relation.relowner
        from pg_catalog.pg_class as relation
        where relation.relnamespace = 'vcs'::regnamespace
          and relation.relkind in ('r', 'v', 'm', 'f', 'p', 'S')
        union all
        select format('function vcs.%I(%s)', routine.proname,
            pg_get_function_identity_arguments(routine.oid)), routine.proowner
        from pg_catalog.pg_proc as routine
        where routine.pronamespace = 'vcs'::regnamespace
    ) as thing(name, owner)
    where thing.owner <> 'code_import_owner'::regrole;

    if v_foreign is not null then
        raise exception 'the schema vcs has things of others in it: %', v_foreign
            using errcode = 'object_not_in_prerequisite_state', schema = 'vcs',
                  hint = 'Move them to another schema.';
    end if;

    select string_agg(
        format('vcs.%I(%s)', routine.proname, pg_get_function_identity_arguments(routine.oid)), ', ')
    into v_routines
    from pg_catalog.pg_proc as routine
    where routine.pronamespace = 'vcs'::regnamespace
      and routine.proowner = 'code_import_owner'::regrole
      and not routine.xmin = pg_current_xact_id()::xid;

    select string_agg(format('vcs.%I', relation.relname), ', ') into v_views
    from pg_catalog.pg_class as relation
    join pg_catalog.pg_rewrite as rule
        on rule.ev_class = relation.oid and rule.rulename = '_RETURN'
    where relation.relnamespace = 'vcs'::regnamespace
      and relation.relkind = 'v'
      and relation.relowner = 'code_import_owner'::regrole
      and not rule.xmin = pg_current_xact_id()::xid;

    if v_routines is not null then
        execute 'drop routine ' || v_routines;
    end if;
    if v_views is not null then
        execute 'drop view ' || v_views;
    end if;
end;
$$;
