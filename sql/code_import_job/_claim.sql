-- Choosing what a machine runs next.
--
-- The order is: requested first, then ordering (nulls last), then date_due, then id. No single
-- index has it together with "due", "served by this worker" and "pinned here or nowhere", so
-- each combination is a short range of one index, and the heads of the ranges are merged.

-- The first waiting jobs that this machine may take, without a lock.
create or replace function vcs._due_jobs(p_machine_id bigint, p_rcs_types text[], p_max_jobs integer)
returns table (job_id bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select head.job_id
    from unnest(p_rcs_types) as served (rcs_type)
    cross join (values (0::bigint), (p_machine_id)) as pinned (machine_id)
    cross join lateral (
        (
            select 1 as class, schedule.ordering, schedule.date_due, schedule.job_id
            from vcs._code_import_schedule as schedule
            where schedule.state in ('pending', 'scheduled')
              and schedule.requesting_user is not null
              and coalesce(schedule.machine_id, 0) = pinned.machine_id
              and schedule.rcs_type = served.rcs_type
              and schedule.date_due <= now()
            order by schedule.ordering, schedule.date_due, schedule.job_id
            limit p_max_jobs
        )
        union all
        (
            select 2, schedule.ordering, schedule.date_due, schedule.job_id
            from vcs._code_import_schedule as schedule
            where schedule.state in ('pending', 'scheduled')
              and schedule.requesting_user is null
              and schedule.ordering is not null
              and coalesce(schedule.machine_id, 0) = pinned.machine_id
              and schedule.rcs_type = served.rcs_type
              and schedule.date_due <= now()
            order by schedule.ordering, schedule.date_due, schedule.job_id
            limit p_max_jobs
        )
        union all
        (
            select 3, null, schedule.date_due, schedule.job_id
            from vcs._code_import_schedule as schedule
            where schedule.state in ('pending', 'scheduled')
              and schedule.requesting_user is null
              and schedule.ordering is null
              and coalesce(schedule.machine_id, 0) = pinned.machine_id
              and schedule.rcs_type = served.rcs_type
              and schedule.date_due <= now()
            order by schedule.date_due, schedule.job_id
            limit p_max_jobs
        )
    ) as head
    order by head.class, head.ordering, head.date_due, head.job_id
    limit p_max_jobs;
end;
$$;

-- Lock up to max_jobs of the first due jobs. Others may be locking the same ones: look at
-- twice as many each time, until enough are locked or no more are due.
create or replace function vcs._lock_due_jobs(p_machine_id bigint, p_rcs_types text[], p_max_jobs integer)
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_look   integer := p_max_jobs;
    v_due    bigint[];
    v_locked bigint[];
begin
    loop
        v_due := array(select due.job_id from vcs._due_jobs(p_machine_id, p_rcs_types, v_look) as due);
        v_locked := array(
            select schedule.job_id
            from unnest(v_due) with ordinality as due (job_id, place)
            join vcs._code_import_schedule as schedule on schedule.job_id = due.job_id
            where schedule.state in ('pending', 'scheduled')
              and coalesce(schedule.machine_id, p_machine_id) = p_machine_id
              and schedule.date_due <= now()
            order by due.place
            limit p_max_jobs
            for no key update of schedule skip locked
        );
        exit when cardinality(v_locked) >= p_max_jobs or cardinality(v_due) < v_look;
        v_look := least(v_look, 1000000) * 2;
    end loop;
    return v_locked;
end;
$$;

