-- Create the credentials: logins for sources, sealed with keys that the database does not have.
-- depends: 0011.shorter-updates

create table if not exists vcs._code_import_credential (
    id                 bigint      primary key generated always as identity,
    date_created       timestamptz not null,
    code_import_id     bigint
        references vcs._code_import (id) on delete no action,
    host               text        not null,
    username           text        not null,
    secret             bytea       not null,
    key_name           text        not null,
    allow_unencrypted  boolean     not null,
    date_expires       timestamptz,

    constraint code_import_credential_is_the_only_one_of_its_import unique (code_import_id),
    constraint code_import_credential_has_a_sealed_secret
        check (octet_length(secret) between 1 and 16384)
);

create unique index if not exists code_import_credential_is_the_only_one_of_its_host
    on vcs._code_import_credential (host) where code_import_id is null;
create index if not exists _code_import_credential_host_idx
    on vcs._code_import_credential (host, id);

comment on table vcs._code_import_credential is
    'Who workers are to a host: for one import, or for all from that host.';
comment on column vcs._code_import_credential.host is
    'The only host that it may be shown to: host, or host:port where the port is not its scheme''s own.';
comment on column vcs._code_import_credential.secret is
    'Sealed by whoever stored it; host, import and username are sealed in it too.';
comment on column vcs._code_import_credential.key_name is
    'Which key it is sealed with. The database has none.';
