-- Create the audit trail.
-- depends: 0004.code-import-result

create table if not exists vcs._code_import_event (
    id              bigint      primary key,
    date_created    timestamptz not null,
    event_type      text        not null,
    code_import_id  bigint,
    machine_id      bigint,
    person          text,
    data            jsonb       not null,

    constraint code_import_event_type_is_known check (
        event_type in (
            'create', 'modify', 'delete',
            'start', 'finish', 'publish', 'reclaim', 'release',
            'request', 'kill',
            'online', 'offline', 'quiesce'
        )
    )
);

create index if not exists _code_import_event_code_import_idx
    on vcs._code_import_event (code_import_id, id) where code_import_id is not null;
create index if not exists _code_import_event_machine_idx
    on vcs._code_import_event (machine_id, id) where machine_id is not null;

comment on table vcs._code_import_event is
    'What happened, but for starts and finishes, which are read from the runs themselves.';
