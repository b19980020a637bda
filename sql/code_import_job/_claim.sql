-- Choosing what a machine runs next.
--
-- The order is: requested first, then ordering (nulls last), then date_due, then id. No single
-- index has it together with "due", "served by this worker" and "pinned here or nowhere", so
-- each combination is a short range of one index, and the heads of the ranges are merged.

-- The first due jobs of each range, and of the ordered ones all, which are not in the order of their
-- index. Most of the time nothing that is due is requested, ordered or pinned: then there is but one
-- range for each type.
create or replace function vcs._due_jobs(
    p_machine_id bigint,
    p_rcs_types  text[],
    p_max_jobs   integer,
    p_dates      timestamptz[],
    p_job_ids    bigint[]
)
returns table (
    lane integer, is_unasked boolean, ordering integer, date_due timestamptz, job_id bigint
)
language plpgsql
stable
rows 100
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pins bigint[] := array[0];
begin
    if exists (
        select from vcs._code_import_schedule as schedule
        where schedule.state in ('pending', 'scheduled')
          and num_nonnulls(schedule.requesting_user, schedule.ordering, schedule.machine_id) > 0
          and (schedule.date_due, schedule.job_id) >= (
              least(p_dates[1], p_dates[2], p_dates[3]),
              least(p_job_ids[1], p_job_ids[2], p_job_ids[3])
          )
          and schedule.date_due <= now()
    ) then
        v_pins := array[0, p_machine_id];
        return query
        select head.*
        from unnest(p_rcs_types) as served (rcs_type)
        cross join unnest(v_pins) as pinned (machine_id)
        cross join lateral (
            (
                select 1, false, schedule.ordering, schedule.date_due, schedule.job_id
                from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and schedule.requesting_user is not null and schedule.ordering is null
                  and coalesce(schedule.machine_id, 0) = pinned.machine_id
                  and schedule.rcs_type = served.rcs_type
                  and (schedule.date_due, schedule.job_id) >= (p_dates[1], p_job_ids[1])
                  and schedule.date_due <= now()
                order by schedule.date_due, schedule.job_id
                limit p_max_jobs
            )
            union all
            (
                select
                    2, schedule.requesting_user is null,
                    schedule.ordering, schedule.date_due, schedule.job_id
                from vcs._code_import_schedule as schedule
                where schedule.state in ('pending', 'scheduled')
                  and schedule.ordering is not null
                  and coalesce(schedule.machine_id, 0) = pinned.machine_id
                  and schedule.rcs_type = served.rcs_type
                  and (schedule.date_due, schedule.job_id) >= (p_dates[2], p_job_ids[2])
                  and schedule.date_due <= now()
            )
        ) as head;
    end if;
    return query
    select 3, true, null::integer, head.date_due, head.job_id
    from unnest(p_rcs_types) as served (rcs_type)
    cross join unnest(v_pins) as pinned (machine_id)
    cross join lateral (
        select schedule.date_due, schedule.job_id
        from vcs._code_import_schedule as schedule
        where schedule.state in ('pending', 'scheduled')
          and schedule.requesting_user is null and schedule.ordering is null
          and coalesce(schedule.machine_id, 0) = pinned.machine_id
          and schedule.rcs_type = served.rcs_type
          and (schedule.date_due, schedule.job_id) >= (p_dates[3], p_job_ids[3])
          and schedule.date_due <= now()
        order by schedule.date_due, schedule.job_id
        limit p_max_jobs
    ) as head;
end;
$$;

-- Lock up to max_jobs of the first due jobs and return their ids in the order of their turn.
-- Others may be locking the same ones: look at twice as many each time, until enough are locked
-- or no more are due.
create or replace function vcs._lock_due_jobs(
    p_machine_id bigint,
    p_rcs_types  text[],
    p_max_jobs   integer
)
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_floor   record := vcs._claim_floor(p_machine_id, p_rcs_types);
    v_seen    record;
    v_look    integer := p_max_jobs;
    v_walked  bigint := - vcs._entries_read();
    v_job_ids bigint[];
begin
    loop
        with head as materialized (
            select due.*
            from vcs._due_jobs(
                p_machine_id, p_rcs_types, v_look, v_floor.dates, v_floor.job_ids
            ) as due
        ),
        first as materialized (
            select head.*
            from head
            order by head.is_unasked, head.ordering, head.date_due, head.job_id
            limit v_look
        ),
        locked as materialized (
            select schedule.job_id
            from first
            join vcs._code_import_schedule as schedule on schedule.job_id = first.job_id
            where schedule.state in ('pending', 'scheduled')
              and coalesce(schedule.machine_id, p_machine_id) = p_machine_id
              and schedule.date_due <= now()
            order by first.is_unasked, first.ordering, first.date_due, first.job_id
            limit p_max_jobs
            for no key update of schedule skip locked
        )
        select
            array(select locked.job_id from locked) as locked,
            count(*) as due,
            array[
                min(head.date_due) filter (where head.lane = 1),
                min(head.date_due) filter (where head.lane = 2),
                min(head.date_due) filter (where head.lane = 3)
            ] as dates,
            array[
                min(head.job_id) filter (where head.lane = 1),
                min(head.job_id) filter (where head.lane = 2),
                min(head.job_id) filter (where head.lane = 3)
            ] as job_ids
        into v_seen
        from head;
        v_job_ids := v_seen.locked;
        exit when cardinality(v_job_ids) >= p_max_jobs or v_seen.due < v_look;
        v_look := least(v_look, 1000000) * 2;
    end loop;

    v_walked := v_walked + vcs._entries_read();
    if v_walked > 200 + 2 * v_seen.due or (v_floor.is_kept and v_floor.dates[1] = '-infinity') then
        perform vcs._keep_claim_floor(
            p_machine_id, p_rcs_types, v_floor.dates[1] > '-infinity',
            v_seen.dates, v_seen.job_ids, v_walked
        );
    end if;
    return v_job_ids;
end;
$$;
