-- A worker asks for work for its host: up to max_jobs of the first due jobs, already started.
--
-- What workers call all the time is planned once a session, since planning costs more than the
-- call; and always by index, since that plan may be made while the tables are empty and then
-- serve a million imports.

create or replace function vcs.code_import_job_claim(
    p_hostname     text,
    p_worker_limit integer,
    p_max_jobs     integer,
    p_rcs_types    text[] default null
)
returns setof vcs.code_import_assignment
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_asking  record;
    v_job_ids bigint[];
begin
    if num_nulls(p_worker_limit, p_max_jobs) > 0 or least(p_worker_limit, p_max_jobs) < 0
        or p_rcs_types is not null
        or current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
    then
        perform vcs._check_claim(p_worker_limit, p_max_jobs, p_rcs_types);
    end if;
    v_asking := vcs._ask_for_room(p_hostname, p_worker_limit);
    if least(v_asking.room, p_max_jobs) = 0 then
        return;
    end if;
    v_job_ids := vcs._lock_due_jobs(
        v_asking.machine_id,
        vcs._served_types(p_rcs_types),
        least(v_asking.room, p_max_jobs)
    );

    -- Start events are told, and jobs returned, in the order of their turn.
    return query
    with turn as materialized (
        select given.job_id, nextval('vcs._code_import_event_id_seq') as start_event_id
        from unnest(v_job_ids) as given (job_id)
    ),
    started as (
        update vcs._code_import_schedule as schedule
        set state = 'running',
            machine_id = v_asking.machine_id,
            date_started = greatest(now(), schedule.date_created),
            heartbeat = greatest(now(), schedule.date_created),
            start_event_id = turn.start_event_id
        from turn
        where schedule.job_id = turn.job_id
        returning schedule.*
    )
    select
        run.job_id, run.date_created, run.code_import_id, run.machine_id, run.date_due,
        run.state, run.requesting_user, run.ordering, run.heartbeat, ''::text,
        run.date_started, run.kill_requested_by, run.again_requested_by,
        run.rcs_type, import.url, import.cvs_root, import.cvs_module, import.target
    from started as run
    join vcs._code_import as import on import.id = run.code_import_id
    order by run.start_event_id;
end;
$$;

comment on function vcs.code_import_job_claim(text, integer, integer, text[]) is
$$Start up to max_jobs due jobs on a host and return them in order.

state   pending, or scheduled for this machine -> running; the machine comes or goes as asked
event   start for each; online for a new host; offline for a quiescing one that has run dry
event   modify for a machine that a worker role makes its own
error   IJ400 a hostname, limit or rcs_type that cannot be, or null
error   IJ403 the machine belongs to another role
error   0A000 above READ COMMITTED, where a limit cannot be kept$$;

create or replace function vcs._check_claim(
    p_worker_limit integer,
    p_max_jobs     integer,
    p_rcs_types    text[]
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        perform vcs._refuse(
            '0A000', 'code_import_job',
            format('a claim needs READ COMMITTED, not %s', upper(current_setting('transaction_isolation'))),
            'A worker limit cannot be kept on an old snapshot.'
        );
    end if;
    perform vcs._check_limit('worker_limit', p_worker_limit);
    perform vcs._check_limit('max_jobs', p_max_jobs);
    perform vcs._check_rcs_types(p_rcs_types);
end;
$$;

create or replace function vcs._check_rcs_types(p_rcs_types text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from unnest(p_rcs_types) as served (rcs_type)
        where served.rcs_type is null or served.rcs_type not in ('git', 'svn', 'hg', 'cvs', 'bzr')
    ) then
        perform vcs._refuse_value(
            'code_import_job',
            'rcs_types has an element that is none of git, svn, hg, cvs, bzr',
            'Null stands for all of them.'
        );
    end if;
end;
$$;

-- Null stands for all types; a type named twice is one.
create or replace function vcs._served_types(p_rcs_types text[])
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_rcs_types is null then
        return array['git', 'svn', 'hg', 'cvs', 'bzr'];
    end if;
    return array(select distinct served.rcs_type from unnest(p_rcs_types) as served (rcs_type));
end;
$$;
