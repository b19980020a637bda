-- Refuse to put an older API on a newer database; then note which text was loaded, and commit.

do $$
declare
    v_unknown text;
begin
    select string_agg(mark.migration_id, ', ' order by mark.migration_id) into v_unknown
    from vcs._yoyo_migration as mark
    where mark.migration_id <> all (
        string_to_array(current_setting('code_import.known_migrations'), ' '));

    if v_unknown is not null then
        raise exception 'the schema vcs is newer than this code-import: it has %', v_unknown
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Install with the newest code-import that was used on this database.';
    end if;
end;
$$;

\if :{?digest}
\else
\set digest ''
\endif
insert into vcs._yoyo_log (id, operation, username, hostname, comment, created_at_utc)
values (gen_random_uuid(), 'load', session_user, host(inet_client_addr()), nullif(:'digest', ''),
    clock_timestamp() at time zone 'UTC');

commit;
\echo code-import is installed in schema vcs
