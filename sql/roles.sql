-- The roles, and the schema that code_import_owner owns. Run by whoever installs; from the end of
-- this file on the transaction runs as code_import_owner.

-- Who may not do it is told everything that an administrator must run, before anything is done.
do $$
declare
    v_before_16 boolean := current_setting('server_version_num')::integer < 160000;
    v_me        pg_catalog.pg_roles;
    v_schema    pg_catalog.pg_namespace;
    v_todo      text[];
    v_may_act   boolean;
begin
    if current_setting('server_version_num')::integer < 140000 then
        raise exception 'code-import needs PostgreSQL 14 or newer, and this is %',
            current_setting('server_version')
            using errcode = 'feature_not_supported';
    end if;

    select namespace.* into v_schema
    from pg_catalog.pg_namespace as namespace where namespace.nspname = 'vcs';
    if found and v_schema.nspowner is distinct from to_regrole('code_import_owner')::oid then
        raise exception 'database "%" has a schema "vcs" that is not of code-import',
            current_database()
            using errcode = 'duplicate_schema', schema = 'vcs',
                  hint = 'Install in another database, or rename that schema first.';
    end if;

    select role.* into v_me from pg_catalog.pg_roles as role where role.rolname = current_user;

    select array_agg(format('create role %I nologin;', wanted.name)) into v_todo
    from unnest(array['code_import_owner', 'code_import_reader', 'code_import_worker',
                      'code_import_operator', 'code_import_reclaimer']) as wanted(name)
    where to_regrole(wanted.name) is null and not (v_me.rolsuper or v_me.rolcreaterole);

    -- Acting as the owner takes membership, since 16 with SET; its creator may grant himself that.
    if (case
        when to_regrole('code_import_owner') is null then v_todo is not null
        when v_before_16 then
            not (pg_has_role('code_import_owner', 'member') or v_me.rolcreaterole)
        else
            not (pg_has_role('code_import_owner', 'set')
                or pg_has_role('code_import_owner', 'member with admin option'))
    end) then
        v_todo := v_todo || format('grant code_import_owner to %I;', current_user);
    end if;

    if v_schema.oid is null and not has_database_privilege(current_database(), 'create') then
        v_todo := v_todo || format('grant create on database %I to %I;',
            current_database(), current_user);
    end if;

    if v_todo <> '{}' then
        raise exception 'role "%" may not install code-import in database "%"',
            current_user, current_database()
            using errcode = 'insufficient_privilege',
                  hint = E'Let an administrator run this in the database, then try again:\n    '
                      || array_to_string(v_todo, E'\n    ');
    end if;
end;
$$;

-- Roles belong to the whole cluster, and at this moment another database may be making, using or
-- dropping them: a lost race is tried again.
do $$
declare
    v_act_as_owner text := case
        when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end;
    v_role         text;
begin
    for v_attempt in 1..50 loop
        begin
            foreach v_role in array array['code_import_owner', 'code_import_reader',
                'code_import_worker', 'code_import_operator', 'code_import_reclaimer']
            loop
                if to_regrole(v_role) is null then
                    execute format('create role %I nologin', v_role);
                end if;
            end loop;

            if not pg_has_role('code_import_owner', v_act_as_owner) then
                execute format('grant code_import_owner to %I', current_user);
            end if;
            if to_regnamespace('vcs') is null then
                create schema vcs authorization code_import_owner;
            end if;

            -- What a role may use, nobody can drop it from under us.
            set local role code_import_owner;
            grant usage on schema vcs to code_import_reader, code_import_worker,
                code_import_operator, code_import_reclaimer;
            return;
        exception
            when duplicate_object or unique_violation or undefined_object or internal_error then
                if v_attempt = 50 then
                    raise;
                end if;
                perform pg_sleep(0.1 * random());
        end;
    end loop;
end;
$$;
