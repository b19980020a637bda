-- A worker says that its run lives, shows the newest lines of its log, and hears what to do.

create or replace function vcs.code_import_job_update_heartbeat(p_job_id bigint, p_logtail text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_machine_id bigint;
    v_schedule   vcs._code_import_schedule;
begin
    select schedule.machine_id into v_machine_id
    from vcs._code_import_schedule as schedule
    where schedule.job_id = p_job_id and schedule.state = 'running';
    if vcs._may_act_for(vcs._machine_owner(v_machine_id)) then
        perform vcs._beat_machines(array[v_machine_id]);
    end if;

    v_schedule := vcs._lock_run(p_job_id);
    update vcs._code_import_schedule as schedule
    set heartbeat = greatest(now(), schedule.heartbeat)
    where schedule.job_id = p_job_id;
    if p_logtail is not null then
        perform vcs._keep_logtails(array[p_job_id], array[p_logtail]);
    end if;
    return case when v_schedule.kill_requested_by is null then 'continue' else 'stop' end;
end;
$$;

comment on function vcs.code_import_job_update_heartbeat(bigint, text) is
$$Beat for a running job and keep its log tail; return continue or stop.

state   running, with a new heartbeat; a null logtail leaves the old one
error   IJ400 a null job_id
error   IJ403 the job runs on a machine of another role
error   IJ409 the job is not running
error   IJ410 no such run: it has ended, or never was$$;
