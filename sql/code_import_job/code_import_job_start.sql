-- A machine starts one job that it knows by id. Claims choose for it instead.

create or replace function vcs.code_import_job_start(p_job_id bigint, p_machine_id bigint)
returns vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_machine  vcs._code_import_machine;
    v_schedule vcs._code_import_schedule;
begin
    if p_job_id is null then
        perform vcs._refuse_null('code_import_job', 'job_id');
    end if;
    v_machine := vcs._lock_machine(p_machine_id);
    perform vcs._check_machine_owner(v_machine);
    if v_machine.state <> 'online' then
        perform vcs._refuse_machine_state(v_machine, 'online');
    end if;
    perform vcs._own_machine(v_machine);
    if v_machine.oldest_start > now() then
        perform vcs._look_around(p_machine_id);
    end if;
    v_schedule := vcs._lock_job(p_job_id);
    if v_schedule.state = 'running' then
        perform vcs._refuse_job_state(p_job_id, 'running', 'pending');
    elsif v_schedule.machine_id <> p_machine_id then
        perform vcs._refuse(
            'IJ409', 'code_import_job',
            format('code import job %s is scheduled for another machine than %s', p_job_id, v_machine.hostname)
        );
    end if;

    update vcs._code_import_schedule as schedule
    set state = 'running',
        machine_id = p_machine_id,
        date_started = greatest(now(), schedule.date_created),
        heartbeat = greatest(now(), schedule.date_created),
        start_event_id = nextval('vcs._code_import_event_id_seq')
    where schedule.job_id = p_job_id;
    return vcs._job(p_job_id);
end;
$$;

comment on function vcs.code_import_job_start(bigint, bigint) is
$$Start a waiting job on an online machine, and return it.

state   pending, or scheduled for this machine -> running
event   start; modify for a machine that a worker role makes its own
error   IJ400 a null id
error   IJ403 the machine belongs to another role
error   IJ404 no such machine
error   IJ409 the job is running or scheduled for another machine, or the machine is not online
error   IJ410 no such job$$;
