-- A run that is known to be dead is closed, and its import runs again at once.

create or replace function vcs.code_import_job_reclaim(p_job_id bigint)
returns vcs.code_import_result
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule   vcs._code_import_schedule := vcs._lock_job(p_job_id);
    v_owner_role text := vcs._machine_owner(v_schedule.machine_id);
begin
    if v_schedule.state <> 'running' then
        perform vcs._refuse_job_state(p_job_id, v_schedule.state, 'running');
    -- A worker knows of its own machine only that the run is dead.
    elsif v_owner_role is distinct from session_user and not vcs._is_operator() then
        perform vcs._refuse_other_role(p_job_id, v_owner_role);
    end if;
    return vcs._result_of((vcs._end_runs(array[p_job_id], array['reclaimed']))[1]);
end;
$$;

comment on function vcs.code_import_job_reclaim(bigint) is
$$Close a dead run and return its result; its import is due again at once.

state   running -> gone, and a new pending job
event   reclaim, then finish; modify between them if consecutive_reclaim_limit makes it failing
error   IJ400 a null job_id
error   IJ403 the job runs on a machine that is not the caller's
error   IJ409 the job is not running
error   IJ410 no such job$$;
