-- Credentials as anybody may see them: without what is secret.

create or replace view vcs.code_import_credential as
select
    credential.id,
    credential.date_created,
    credential.code_import_id,
    credential.host,
    credential.username,
    credential.key_name,
    credential.allow_unencrypted,
    credential.date_expires
from vcs._code_import_credential as credential;

comment on view vcs.code_import_credential is
    'Logins that workers use at hosts; their secrets are not shown.';
comment on column vcs.code_import_credential.code_import_id is
    'The only import that uses it; null: all that come from the host and have none of their own.';
comment on column vcs.code_import_credential.host is
    'The only host that it is shown to; with a port, only at that port.';
comment on column vcs.code_import_credential.key_name is
    'Which key its secret is sealed with; workers have the keys, the database has not.';
comment on column vcs.code_import_credential.allow_unencrypted is
    'Whether it may cross the network for others to read, as over http.';
comment on column vcs.code_import_credential.date_expires is
    'No run gets it from then on.';
