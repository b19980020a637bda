-- Create the machines: who runs jobs, and whether they take new ones.
-- depends: 0001.code-import

create table if not exists vcs._code_import_machine (
    id            bigint      primary key generated always as identity,
    date_created  timestamptz not null,
    hostname      text        not null,
    state         text        not null,
    heartbeat     timestamptz,
    owner_role    text,

    constraint code_import_machine_hostname_is_registered_once unique (hostname),
    constraint code_import_machine_state_is_known
        check (state in ('offline', 'online', 'quiescing'))
) with (fillfactor = 70);

comment on table vcs._code_import_machine is
    'The hosts that run jobs. Every start of a job locks the row of its machine.';
comment on column vcs._code_import_machine.owner_role is
    'The database role that claims as this machine; null until a worker role does.';
