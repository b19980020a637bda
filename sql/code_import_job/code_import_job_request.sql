-- A person wants a run at once. It goes before all that nobody asked for.

create or replace function vcs.code_import_job_request(p_job_id bigint, p_person text)
returns vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    perform vcs._check_person('code_import_job', p_person);
    v_schedule := vcs._lock_job(p_job_id);
    if v_schedule.state = 'running' then
        perform vcs._refuse(
            'IJ423', 'code_import_job', format('code import job %s is running already', p_job_id),
            'code_import_request_again asks for one more run after this one.'
        );
    elsif v_schedule.requesting_user is not null then
        perform vcs._refuse(
            'IJ429', 'code_import_job', format('code import job %s is requested already', p_job_id),
            'It runs as soon as a machine is free.',
            p_detail => format('Requested by %s.', v_schedule.requesting_user)
        );
    end if;

    -- An overdue date keeps its place among the requested.
    update vcs._code_import_schedule as schedule
    set requesting_user = p_person,
        date_due = least(schedule.date_due, now())
    where schedule.job_id = p_job_id;

    if v_schedule.date_due < now() then
        perform vcs._recall_claims();
    end if;
    perform vcs._record_event('request', v_schedule.code_import_id, p_person => p_person);
    perform vcs._wake_workers();
    return vcs._job(p_job_id);
end;
$$;

comment on function vcs.code_import_job_request(bigint, text) is
$$Ask for a job to run at once, and return it.

state   pending or scheduled, due now
event   request
error   IJ400 a person that is no name, or null
error   IJ410 no such job
error   IJ423 it is running already
error   IJ429 it is requested already; DETAIL names the requester$$;
