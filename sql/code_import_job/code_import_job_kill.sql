-- A person stops a run. The worker is told by its next heartbeat; one that never asks again is reclaimed.

create or replace function vcs.code_import_job_kill(p_job_id bigint, p_person text)
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
    if v_schedule.state <> 'running' then
        perform vcs._refuse_job_state(p_job_id, v_schedule.state, 'running');
    end if;
    if v_schedule.kill_requested_by is null then
        update vcs._code_import_schedule as schedule
        set kill_requested_by = p_person
        where schedule.job_id = p_job_id;

        perform vcs._record_event(
            'kill', v_schedule.code_import_id, v_schedule.machine_id, p_person,
            jsonb_build_object('job_id', p_job_id)
        );
    end if;
    return vcs._job(p_job_id);
end;
$$;

comment on function vcs.code_import_job_kill(bigint, text) is
$$Ask for a running job to be stopped, and return it.

state   running; its heartbeats answer stop
event   kill, the first time
error   IJ400 a person that is no name, or null
error   IJ409 it is not running
error   IJ410 no such job$$;
