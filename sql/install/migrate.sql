-- One migration, unless it is marked: the psql variable "migration" names its file.

select not exists (
    select from vcs._yoyo_migration where migration_id = :'migration'
) as pending \gset
\if :pending
\ir ../../migrations/:migration.sql
insert into vcs._yoyo_migration (migration_hash, migration_id, applied_at_utc)
values (encode(sha256(convert_to(:'migration', 'UTF8')), 'hex'), :'migration',
    clock_timestamp() at time zone 'UTC');
insert into vcs._yoyo_log
    (id, migration_hash, migration_id, operation, username, hostname, created_at_utc)
values (gen_random_uuid(), encode(sha256(convert_to(:'migration', 'UTF8')), 'hex'), :'migration',
    'apply', session_user, host(inet_client_addr()), clock_timestamp() at time zone 'UTC');
\endif
select set_config('code_import.known_migrations',
    concat_ws(' ', current_setting('code_import.known_migrations', true), :'migration'),
    true) as known_migrations \gset
