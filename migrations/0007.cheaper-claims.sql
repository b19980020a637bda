-- Make claims and finishes cheaper: one check a row, hints of where to look, and a type for what a
-- run leaves behind.
--
-- The schedule keeps its fillfactor of 75: of the heartbeats of runs just claimed, 75 % stay on
-- their page; at 100, after a VACUUM FULL, 2 %. Autovacuum keeps its own settings: at 1,160 cycles
-- a second in 200,000 imports, scale factors of 0.05 and 0.02 changed neither the sizes nor the
-- latencies.
-- depends: 0006.code-import-setting

create type vcs._ended_run as (
    code_import_id      bigint,
    job_id              bigint,
    machine_id          bigint,
    reclaim_event_id    bigint,
    publish_event_id    bigint,
    modify_event_id     bigint,
    result_id           bigint,
    start_event_id      bigint,
    log_file_id         bigint,
    next_job_id         bigint,
    date_started        timestamptz,
    date_ended          timestamptz,
    date_successful     timestamptz,
    next_due            timestamptz,
    failures            integer,
    reclaims            integer,
    turns_failing       boolean,
    status              text,
    requesting_user     text,
    again_requested_by  text,
    logtail             text,
    result_number       integer
);

alter table vcs._code_import_schedule
    drop constraint code_import_rcs_type_is_known,
    drop constraint code_import_review_status_is_known,
    drop constraint code_import_job_state_is_known,
    drop constraint code_import_counts_are_not_negative,
    drop constraint code_import_job_has_an_id_a_creation_and_a_due_date,
    drop constraint code_import_job_has_a_start_and_a_heartbeat_iff_running,
    drop constraint code_import_job_has_a_machine_iff_scheduled_or_running,
    drop constraint code_import_job_is_pinned_iff_scheduled_until_it_runs,
    drop constraint code_import_job_is_killed_or_asked_for_again_only_running,
    drop constraint code_import_without_a_job_has_no_requester_or_ordering;

-- Three ranges of waiting jobs, each in the order of date_due, so that a date bounds every one of
-- them. What has an ordering is sorted when it is due.
drop index vcs._code_import_schedule_requested_idx;
drop index vcs._code_import_schedule_ordered_idx;
create index _code_import_schedule_requested_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is not null and ordering is null;
create index _code_import_schedule_ordered_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and ordering is not null;

-- Most of the time nothing that is due is requested, ordered or pinned: then claims look no further.
create index _code_import_schedule_special_idx
    on vcs._code_import_schedule (date_due, job_id)
    where state in ('pending', 'scheduled')
      and num_nonnulls(requesting_user, ordering, machine_id) > 0;

alter table vcs._code_import_machine
    add column date_look_again timestamptz,
    add column oldest_start timestamptz;

comment on column vcs._code_import_machine.date_look_again is
    'When its next claim looks for silent runs and takes these hints anew; null means at once.';
comment on column vcs._code_import_machine.oldest_start is
    'No run of this machine has started before, nor will one.';

create sequence vcs._code_import_recall_seq as bigint;

comment on sequence vcs._code_import_recall_seq is
    'Moves on whenever a waiting job appears before now, where claims may have looked already.';

-- These return something else.
drop function if exists vcs._lock_own_runs(bigint[]);
drop function if exists vcs._end_runs(bigint[], text[], bigint[]);
drop function if exists vcs._ended_runs(bigint[], text[], bigint[]);
drop function if exists vcs._finish_runs(bigint[], text[], bigint[]);
drop function if exists vcs._ask_as_machine(text, integer);
