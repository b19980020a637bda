-- What an idle worker sleeps until. Each range of the claim has its earliest date at its head.

create or replace function vcs.code_import_job_next_due(
    p_hostname  text   default null,
    p_rcs_types text[] default null
)
returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_machine vcs._code_import_machine;
begin
    perform vcs._check_rcs_types(p_rcs_types);
    if p_hostname is not null then
        perform vcs._check_hostname(p_hostname);
        select machine.* into v_machine
        from vcs._code_import_machine as machine
        where machine.hostname = p_hostname;
        if v_machine.state in ('offline', 'quiescing') then
            return null;
        end if;
    end if;
    return least(
        vcs._next_waiting(v_machine.id, vcs._served_types(p_rcs_types)),
        vcs._next_silence()
    );
end;
$$;

comment on function vcs.code_import_job_next_due(text, text[]) is
$$Return when a host should ask next, or null when nothing will come.

The earlier of the next job that falls due and the next run that can be reclaimed. Null when
neither will come, or the machine is offline or quiescing. A null hostname stands for
a host that is not known yet.
error   IJ400 a hostname or rcs_type that cannot be$$;

create or replace function vcs._next_waiting(p_machine_id bigint, p_rcs_types text[])
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_floor record := vcs._claim_floor(p_machine_id, p_rcs_types);
begin
    return (
        select least(
            min((
                select schedule.date_due
                from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and schedule.requesting_user is not null and schedule.ordering is null
                  and coalesce(schedule.machine_id, 0) = pinned.machine_id
                  and schedule.rcs_type = served.rcs_type
                  and (schedule.date_due, schedule.job_id) >= (v_floor.dates[1], v_floor.job_ids[1])
                order by schedule.date_due, schedule.job_id
                limit 1
            )),
            min((
                select schedule.date_due
                from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and schedule.ordering is not null
                  and coalesce(schedule.machine_id, 0) = pinned.machine_id
                  and schedule.rcs_type = served.rcs_type
                  and (schedule.date_due, schedule.job_id) >= (v_floor.dates[2], v_floor.job_ids[2])
                order by schedule.date_due, schedule.job_id
                limit 1
            )),
            min((
                select schedule.date_due
                from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and schedule.requesting_user is null and schedule.ordering is null
                  and coalesce(schedule.machine_id, 0) = pinned.machine_id
                  and schedule.rcs_type = served.rcs_type
                  and (schedule.date_due, schedule.job_id) >= (v_floor.dates[3], v_floor.job_ids[3])
                order by schedule.date_due, schedule.job_id
                limit 1
            ))
        )
        from unnest(p_rcs_types) as served (rcs_type)
        cross join unnest(array[0, p_machine_id]) as pinned (machine_id)
    );
end;
$$;
