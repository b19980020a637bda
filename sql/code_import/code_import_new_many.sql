-- Register many imports in one call. One that is refused does not undo the others.

create or replace function vcs.code_import_new_many(p_imports jsonb, p_registrant text)
returns table (target text, code_import_id bigint, error_code text, message text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._check_person('code_import', p_registrant);
    if p_imports is null then
        perform vcs._refuse_null('code_import', 'imports');
    elsif jsonb_typeof(p_imports) <> 'array' then
        perform vcs._refuse_value('code_import', 'imports is not a JSON array');
    end if;
    perform vcs._lock_lists();
    return query
    select
        made.target, made.code_import_id, made.error_code,
        case when made.message is not null then vcs._one_line(made.message) end
    from vcs._register(p_imports, p_registrant) as made;
end;
$$;

comment on function vcs.code_import_new_many(jsonb, text) is
$$Register many imports; a row each, also of those refused.

event   create for each
error   IJ400 imports is no array of objects, or a registrant that is no name$$;
