-- An operator removes a machine that is out of use. Jobs pinned to it may run anywhere again.

create or replace function vcs.code_import_machine_delete(p_machine_id bigint, p_person text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_machine vcs._code_import_machine;
    v_job     record;
begin
    perform vcs._check_person('code_import_machine', p_person);
    v_machine := vcs._lock_machine(p_machine_id);
    if v_machine.state <> 'offline' then
        perform vcs._refuse_machine_state(v_machine, 'offline');
    end if;
    if exists (
        select from vcs._code_import_schedule as schedule
        where schedule.machine_id = p_machine_id and schedule.state = 'running'
    ) then
        perform vcs._refuse(
            'IJ409', 'code_import_machine',
            format('code import machine %s has running jobs', v_machine.hostname),
            'Wait for them, or reclaim them.'
        );
    end if;

    -- What waits lies in three indexes, so it is asked for in three parts.
    for v_job in
        select schedule.job_id, schedule.ordering
        from vcs._code_import_schedule as schedule
        where coalesce(schedule.machine_id, 0) = p_machine_id
          and schedule.state in ('pending', 'scheduled')
          and (
              (schedule.requesting_user is null and schedule.ordering is null)
              or (schedule.requesting_user is not null and schedule.ordering is null)
              or schedule.ordering is not null
          )
        order by schedule.code_import_id
        for no key update
    loop
        perform vcs._pin_job(v_job.job_id, null, v_job.ordering, p_person);
    end loop;

    perform vcs._record_event(
        'delete', p_machine_id => p_machine_id, p_person => p_person,
        p_data => jsonb_build_object('hostname', v_machine.hostname)
    );
    delete from vcs._code_import_machine as machine where machine.id = p_machine_id;
end;
$$;

comment on function vcs.code_import_machine_delete(bigint, text) is
$$Remove a machine that is offline and runs nothing.

event   delete, and modify for each job that was pinned
error   IJ400 a person that is no name, or null
error   IJ404 no such machine
error   IJ409 it is not offline, or has running jobs$$;
