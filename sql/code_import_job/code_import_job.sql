-- The next or present run of each import that has one.

create or replace view vcs.code_import_job as
select
    schedule.job_id as id,
    schedule.date_created,
    schedule.code_import_id,
    schedule.machine_id,
    schedule.date_due,
    schedule.state,
    schedule.requesting_user,
    schedule.ordering,
    schedule.heartbeat,
    case when schedule.state = 'running' then coalesce(tail.logtail, '') end as logtail,
    schedule.date_started,
    schedule.kill_requested_by,
    schedule.again_requested_by,
    schedule.rcs_type
from vcs._code_import_schedule as schedule
left join vcs._code_import_logtail as tail on tail.job_id = schedule.job_id
where schedule.job_id is not null;

comment on view vcs.code_import_job is
    'The jobs: the next or present run of each import.';
comment on column vcs.code_import_job.id is
    'Names one run, is never used again, and grows within an import: the fencing token.';
comment on column vcs.code_import_job.machine_id is
    'Where it runs, or the one machine that may run it.';
comment on column vcs.code_import_job.date_due is
    'Not before. It starts when a machine next asks for work after this time.';
comment on column vcs.code_import_job.state is
    'pending, scheduled (pinned to a machine, not yet running) or running.';
comment on column vcs.code_import_job.requesting_user is
    'Who asked for this run at once; requested jobs go first.';
comment on column vcs.code_import_job.ordering is
    'Lower goes first among jobs that are due; null goes last.';
comment on column vcs.code_import_job.heartbeat is
    'Last sign of life. Too old means that the run may be reclaimed.';
comment on column vcs.code_import_job.logtail is
    'The newest lines of the log.';
comment on column vcs.code_import_job.kill_requested_by is
    'Who wants this run stopped; its next heartbeat answers stop.';
comment on column vcs.code_import_job.again_requested_by is
    'Who asked for one more run while this one goes on.';
comment on column vcs.code_import_job.rcs_type is
    'The rcs_type of its import. Jobs of one type that wait lie in the order of their due dates.';
