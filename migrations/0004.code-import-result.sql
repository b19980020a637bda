-- Create the history of runs, and their logs.
-- depends: 0003.code-import-schedule

-- Events and results draw from one sequence: a finish event has its result's id.
create sequence if not exists vcs._code_import_event_id_seq as bigint;

create table if not exists vcs._code_import_log_file (
    id            bigint      primary key generated always as identity,
    date_created  timestamptz not null,
    job_id        bigint      not null,
    content       bytea       not null
);

create index if not exists _code_import_log_file_date_created_idx
    on vcs._code_import_log_file (date_created);

comment on table vcs._code_import_log_file is
    'Whole logs, or their ends. Kept for log_retention, apart from the results that name them.';

create table if not exists vcs._code_import_result (
    id                bigint      primary key,
    date_created      timestamptz not null,
    code_import_id    bigint      not null,
    machine_id        bigint      not null,
    job_id            bigint      not null,
    start_event_id    bigint      not null,
    log_file_id       bigint,
    date_job_started  timestamptz not null,
    status            text        not null,
    requesting_user   text,
    log_excerpt       text        not null,

    constraint code_import_result_is_the_only_one_of_its_run unique (job_id),
    constraint code_import_result_ends_after_its_start check (date_created >= date_job_started),
    constraint code_import_result_status_is_known check (
        status in (
            'success', 'success_nochange', 'success_partial',
            'failure', 'failure_invalid', 'failure_unsupported_feature',
            'failure_forbidden', 'failure_remote_broken',
            'internal_failure', 'reclaimed', 'killed'
        )
    )
);

create index if not exists _code_import_result_code_import_idx
    on vcs._code_import_result (code_import_id, id);
create index if not exists _code_import_result_machine_idx
    on vcs._code_import_result (machine_id, id);

comment on table vcs._code_import_result is
    'How each run ended. No foreign keys: results outlive the imports and machines they name.';
