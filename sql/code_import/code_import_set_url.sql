-- Change where an import comes from, and nothing else.

create or replace function vcs.code_import_set_url(p_code_import_id bigint, p_url text, p_person text)
returns setof vcs.code_import_event
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._check_person('code_import', p_person);
    return query
    select event.*
    from vcs.code_import_update(p_code_import_id, jsonb_build_object('url', p_url), p_person) as event;
end;
$$;

comment on function vcs.code_import_set_url(bigint, text, text) is
$$Change the url of an import; return the event, or no row if unchanged.

event   modify
error   IJ400 a url that cannot be, or null
error   IJ404 no such import
error   23505 the source is there already; DETAIL names the other one$$;
