-- A worker gives a run back undone: it shuts down, or never heard the answer to its claim.
-- Nothing is counted. The job is a new one, since the old id may still be in somebody's hands.

create or replace function vcs.code_import_job_release(p_job_id bigint)
returns setof vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run      vcs._code_import_schedule := vcs._lock_run(p_job_id);
    v_schedule vcs._code_import_schedule;
begin
    if v_run.kill_requested_by is not null then
        perform vcs._refuse(
            'IJ409', 'code_import_job', format('code import job %s is killed', p_job_id),
            'Its worker stops and finishes it as killed.'
        );
    end if;

    update vcs._code_import_schedule as schedule
    set (
        job_id, date_created, date_due, state, machine_id, requesting_user, ordering
    ) = (
        select
            nextval('vcs._code_import_job_id_seq'),
            greatest(now(), schedule.heartbeat),
            case
                when schedule.is_due_after_run or schedule.again_requested_by is not null
                    then least(now(), schedule.date_due)
                else schedule.date_due
            end,
            case when schedule.is_pinned then 'scheduled' else 'pending' end,
            case when schedule.is_pinned then schedule.machine_id end,
            coalesce(schedule.again_requested_by, schedule.requesting_user),
            schedule.ordering
        where schedule.review_status = 'reviewed'
    ),
        is_pinned = schedule.is_pinned and schedule.review_status = 'reviewed',
        date_started = null,
        heartbeat = null,
        start_event_id = null,
        is_due_after_run = false,
        kill_requested_by = null,
        again_requested_by = null
    where schedule.job_id = p_job_id
    returning schedule.* into v_schedule;
    delete from vcs._code_import_logtail as tail where tail.job_id = p_job_id;

    perform vcs._keep_start_event(v_run);
    perform vcs._record_event(
        'release', v_run.code_import_id, v_run.machine_id, p_data => jsonb_build_object('job_id', p_job_id)
    );
    if v_schedule.date_due <= now() then
        perform vcs._recall_claims();
        perform vcs._wake_workers();
    end if;
    return query
    select job.* from vcs.code_import_job as job where job.id = v_schedule.job_id;
end;
$$;

comment on function vcs.code_import_job_release(bigint) is
$$Give a run back undone; return the new job, or no row if none follows.

state   running -> gone, and a new job with the same due date, requester, pin and order
event   release
error   IJ400 a null job_id
error   IJ403 the job runs on a machine of another role
error   IJ409 the job is not running, or is killed
error   IJ410 no such run: it has ended, or never was$$;
