-- Create the schedule: one narrow row an import, which is its job, its run and its counts.
-- depends: 0002.code-import-machine

create sequence if not exists vcs._code_import_job_id_seq as bigint;

create table if not exists vcs._code_import_schedule (
    code_import_id             bigint      primary key
        references vcs._code_import (id) on delete no action,
    job_id                     bigint,
    date_created               timestamptz,
    date_due                   timestamptz,
    date_started               timestamptz,
    heartbeat                  timestamptz,
    date_last_started          timestamptz,
    date_last_successful       timestamptz,
    machine_id                 bigint,
    start_event_id             bigint,
    ordering                   integer,
    consecutive_failure_count  integer     not null default 0,
    consecutive_reclaim_count  integer     not null default 0,
    is_pinned                  boolean     not null default false,
    is_due_after_run           boolean     not null default false,
    state                      text,
    rcs_type                   text        not null,
    review_status              text        not null,
    requesting_user            text,
    kill_requested_by          text,
    again_requested_by         text,
    update_interval            interval,

    constraint code_import_job_is_one_run unique (job_id),
    constraint code_import_rcs_type_is_known
        check (rcs_type in ('git', 'svn', 'hg', 'cvs', 'bzr')),
    constraint code_import_review_status_is_known
        check (review_status in ('new', 'invalid', 'reviewed', 'suspended', 'failing')),
    constraint code_import_job_state_is_known
        check (state in ('pending', 'scheduled', 'running')),
    constraint code_import_counts_are_not_negative
        check (consecutive_failure_count >= 0 and consecutive_reclaim_count >= 0),
    constraint code_import_job_has_an_id_a_creation_and_a_due_date check (
        num_nonnulls(job_id, date_created, date_due) = case when state is null then 0 else 3 end
    ),
    constraint code_import_job_has_a_start_and_a_heartbeat_iff_running check (
        num_nonnulls(date_started, heartbeat, start_event_id)
        = case when state = 'running' then 3 else 0 end
    ),
    constraint code_import_job_has_a_machine_iff_scheduled_or_running
        check ((machine_id is not null) = (state is not null and state <> 'pending')),
    constraint code_import_job_is_pinned_iff_scheduled_until_it_runs
        check (state = 'running' or is_pinned = (state is not null and state = 'scheduled')),
    constraint code_import_job_is_killed_or_asked_for_again_only_running check (
        state = 'running'
        or (num_nonnulls(kill_requested_by, again_requested_by) = 0 and not is_due_after_run)
    ),
    constraint code_import_without_a_job_has_no_requester_or_ordering
        check (state is not null or num_nonnulls(requesting_user, ordering) = 0)
) with (fillfactor = 75);

-- A waiting job is in exactly one of three indexes, each in the order in which it is claimed.
-- 0 stands for any machine, so that a job pinned elsewhere is never walked over.
create index if not exists _code_import_schedule_due_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is null and ordering is null;
create index if not exists _code_import_schedule_ordered_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is null and ordering is not null;
create index if not exists _code_import_schedule_requested_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, ordering, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is not null;

-- A heartbeat changes no indexed column.
create index if not exists _code_import_schedule_running_idx
    on vcs._code_import_schedule (machine_id, date_started)
    where state = 'running';

create index if not exists _code_import_schedule_not_reviewed_idx
    on vcs._code_import_schedule (review_status, code_import_id)
    where review_status <> 'reviewed';

comment on table vcs._code_import_schedule is
    'One row an import for its whole life. Its lock makes all that happens to the import one line.';
comment on column vcs._code_import_schedule.date_created is
    'When the present job was made.';
comment on column vcs._code_import_schedule.date_last_started is
    'Start of the newest run that has ended; null before the first.';
comment on column vcs._code_import_schedule.start_event_id is
    'Id of the start event, which is read from this row and then from the result.';
comment on column vcs._code_import_schedule.is_pinned is
    'The machine was chosen by a person; kept while the job runs, so that a release can restore it.';
comment on column vcs._code_import_schedule.is_due_after_run is
    'The source was changed during the run: the next job is due at once.';

create table if not exists vcs._code_import_logtail (
    job_id   bigint primary key,
    logtail  text   not null
) with (fillfactor = 40);

comment on table vcs._code_import_logtail is
    'The newest lines of each running job: apart, so that a heartbeat rewrites little else.';
