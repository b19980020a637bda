-- Choosing what a machine runs next.
--
-- The order is: requested first, then ordering (nulls last), then date_due, then id. No single
-- index has it together with "due", "served by this worker" and "pinned here or nowhere", so
-- each combination is a short range of one index, and the heads of the ranges are merged.

-- Lock up to max_jobs of the first due jobs and return their ids in the order of their turn.
-- Others may be locking the same ones: look at twice as many each time, until enough are locked
-- or no more are due.
create or replace function vcs._lock_due_jobs(p_machine_id bigint, p_rcs_types text[], p_max_jobs integer)
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_dates    timestamptz[] := array['-infinity', '-infinity', '-infinity']::timestamptz[];
    v_ids      bigint[] := array[0, 0, 0]::bigint[];
    v_walked   bigint := - vcs._entries_read();
    v_hinted   boolean;
    v_look     integer := p_max_jobs;
    v_due      integer;
    v_seen     timestamptz[];
    v_seen_ids bigint[];
    v_job_ids  bigint[];
begin
    v_hinted := current_setting('code_import.claim_floor', true) <> '';
    if v_hinted then
        select floor.dates, floor.job_ids into v_dates, v_ids
        from vcs._claim_floor(p_machine_id, p_rcs_types) as floor;
    end if;
    loop
        with special as materialized (
            select exists (
                select from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and num_nonnulls(schedule.requesting_user, schedule.ordering, schedule.machine_id) > 0
                  and (schedule.date_due, schedule.job_id) >= (least(v_dates[1], v_dates[2], v_dates[3]), least(v_ids[1], v_ids[2], v_ids[3]))
                  and schedule.date_due <= now()
            ) as is_due
        ),
        head as materialized (
            select lane.*
            from special
            cross join unnest(p_rcs_types) as served (rcs_type)
            cross join unnest(
                case when special.is_due then array[0, p_machine_id] else array[0::bigint] end
            ) as pinned (machine_id)
            cross join lateral (
                (
                    select
                        1 as lane, schedule.requesting_user is null as is_unasked,
                        schedule.ordering, schedule.date_due, schedule.job_id
                    from vcs._code_import_schedule as schedule
                    where special.is_due
                      and schedule.state in ('pending', 'scheduled')
                      and schedule.requesting_user is not null and schedule.ordering is null
                      and coalesce(schedule.machine_id, 0) = pinned.machine_id
                      and schedule.rcs_type = served.rcs_type
                      and (schedule.date_due, schedule.job_id) >= (v_dates[1], v_ids[1])
                      and schedule.date_due <= now()
                    order by schedule.date_due, schedule.job_id
                    limit v_look
                )
                union all
                (
                    -- In another order than the index: all that is due has to be read.
                    select
                        2, schedule.requesting_user is null,
                        schedule.ordering, schedule.date_due, schedule.job_id
                    from vcs._code_import_schedule as schedule
                    where special.is_due
                      and schedule.state in ('pending', 'scheduled')
                      and schedule.ordering is not null
                      and coalesce(schedule.machine_id, 0) = pinned.machine_id
                      and schedule.rcs_type = served.rcs_type
                      and (schedule.date_due, schedule.job_id) >= (v_dates[2], v_ids[2])
                      and schedule.date_due <= now()
                )
                union all
                (
                    select
                        3, true,
                        schedule.ordering, schedule.date_due, schedule.job_id
                    from vcs._code_import_schedule as schedule
                    where schedule.state in ('pending', 'scheduled')
                      and schedule.requesting_user is null and schedule.ordering is null
                      and coalesce(schedule.machine_id, 0) = pinned.machine_id
                      and schedule.rcs_type = served.rcs_type
                      and (schedule.date_due, schedule.job_id) >= (v_dates[3], v_ids[3])
                      and schedule.date_due <= now()
                    order by schedule.date_due, schedule.job_id
                    limit v_look
                )
            ) as lane
        ),
        due as materialized (
            select head.*
            from head
            order by head.is_unasked, head.ordering, head.date_due, head.job_id
            limit v_look
        ),
        locked as materialized (
            select schedule.job_id
            from due
            join vcs._code_import_schedule as schedule on schedule.job_id = due.job_id
            where schedule.state in ('pending', 'scheduled')
              and coalesce(schedule.machine_id, p_machine_id) = p_machine_id
              and schedule.date_due <= now()
            order by due.is_unasked, due.ordering, due.date_due, due.job_id
            limit p_max_jobs
            for no key update of schedule skip locked
        )
        select
            array(select locked.job_id from locked),
            (select count(*) from due),
            array[
                min(head.date_due) filter (where head.lane = 1),
                min(head.date_due) filter (where head.lane = 2),
                min(head.date_due) filter (where head.lane = 3)
            ],
            array[
                min(head.job_id) filter (where head.lane = 1),
                min(head.job_id) filter (where head.lane = 2),
                min(head.job_id) filter (where head.lane = 3)
            ]
        into v_job_ids, v_due, v_seen, v_seen_ids
        from head;
        exit when cardinality(v_job_ids) >= p_max_jobs or v_due < v_look;
        v_look := least(v_look, 1000000) * 2;
    end loop;
    v_walked := v_walked + vcs._entries_read();
    if v_walked > 200 + 2 * v_due or (v_hinted and v_dates[1] = '-infinity') then
        perform vcs._keep_claim_floor(
            p_machine_id, p_rcs_types, v_dates[1] > '-infinity', v_seen, v_seen_ids, v_walked
        );
    end if;
    return v_job_ids;
end;
$$;
