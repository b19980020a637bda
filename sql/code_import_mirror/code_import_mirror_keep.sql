-- A person has looked at what is held, and wants the mirror to stay as it is.

create or replace function vcs.code_import_mirror_keep(
    p_code_import_id bigint,
    p_person         text,
    p_refs           text[] default null
)
returns setof vcs.code_import_held_ref
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select held.* from vcs._decide_held(p_code_import_id, p_person, p_refs, 'keep') as held;
end;
$$;

comment on function vcs.code_import_mirror_keep(bigint, text, text[]) is
$$Let a mirror keep the refs whose changes are held; return them.

refs names some of them by their full names; null is all. Runs count as successes again, whatever
the source makes of these refs, until they are accepted. A run is requested; a failing import is
tried again.
event   modify, then request
error   IJ400 a person that is no name, or null
error   IJ404 no such import, or no such held ref
error   IJ409 nothing is held$$;
