-- What follows a run, however many end at once. A few statements for all of them, so that a hundred
-- cost little more than one.

-- End runs by their jobs, each with its status and log file, and say what became of them. What is no
-- run, or not the caller's to end, or was changed by another before it was locked, is left as it is.
create or replace function vcs._end_runs(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[] default null
)
returns vcs._ended_run[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_written record := vcs._write_ends(vcs._ended_runs(p_job_ids, p_statuses, p_log_file_ids));
begin
    if v_written.is_told then
        perform vcs._tell_ends(v_written.ended);
    end if;
    if v_written.has_logtail then
        delete from vcs._code_import_logtail as tail
        using unnest(v_written.ended) as run
        where tail.job_id = run.job_id;
    end if;
    if v_written.is_due then
        perform vcs._wake_workers();
    end if;
    return v_written.ended;
end;
$$;

-- Of each row that is as it was read: the import gets its next job, or stays without one, and the run
-- its result. Say which, and whether one of the jobs is due already, and whether one of the runs has
-- events besides its finish, or a log tail.
create or replace function vcs._write_ends(
    p_ended vcs._ended_run[],
    out ended       vcs._ended_run[],
    out is_due      boolean,
    out is_told     boolean,
    out has_logtail boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    with written as (
        update vcs._code_import_schedule as schedule
        set job_id = run.next_job_id,
            date_created = case when run.next_due is not null then run.date_ended end,
            date_due = run.next_due,
            state = case when run.next_due is not null then 'pending' end,
            requesting_user = case when run.next_due is not null then run.again_requested_by end,
            review_status = case
                when run.turns_failing then 'failing'
                else schedule.review_status
            end,
            consecutive_failure_count = run.failures,
            consecutive_reclaim_count = run.reclaims,
            date_last_started = run.date_started,
            date_last_successful = run.date_successful,
            machine_id = null,
            date_started = null,
            heartbeat = null,
            start_event_id = null,
            ordering = null,
            is_pinned = false,
            result_count = run.result_number,
            is_due_after_run = false,
            kill_requested_by = null,
            again_requested_by = null
        from unnest(p_ended) as run
        where schedule.code_import_id = run.code_import_id
          and schedule.xmin = run.version
        returning run.*
    ),
    -- Filed by the clock: however old this transaction is, nothing comes to lie among what tidy-up
    -- has looked through.
    filed as (
        insert into vcs._code_import_result (
            id, date_filed, date_created, code_import_id, machine_id, job_id, start_event_id,
            log_file_id, date_job_started, result_number, status, requesting_user, log_excerpt
        )
        select
            run.result_id, greatest(run.date_ended, clock_timestamp()), run.date_ended,
            run.code_import_id, run.machine_id, run.job_id, run.start_event_id, run.log_file_id,
            run.date_started, run.result_number, run.status, run.requesting_user,
            coalesce(run.logtail, '')
        from written as run
    )
    select
        coalesce(array_agg(run::vcs._ended_run), '{}'),
        bool_or(run.next_due <= now()),
        bool_or(
            num_nonnulls(run.reclaim_event_id, run.publish_event_id, run.modify_event_id) > 0
        ),
        bool_or(run.logtail is not null)
    into ended, is_due, is_told, has_logtail
    from written as run;
end;
$$;

-- The events of ends, but for the finishes, which are read from the results.
create or replace function vcs._tell_ends(p_ended vcs._ended_run[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into vcs._code_import_event
        (id, date_created, event_type, code_import_id, machine_id, data)
    select
        event.id, run.date_ended, event.event_type, run.code_import_id, event.machine_id, event.data
    from unnest(p_ended) as run
    cross join lateral (select jsonb_build_object('job_id', run.job_id)) as this (run)
    cross join lateral (
        values
            (run.reclaim_event_id, 'reclaim', run.machine_id, this.run),
            (run.publish_event_id, 'publish', run.machine_id, this.run),
            (
                run.modify_event_id, 'modify', null,
                vcs._turned_failing_json(run.code_import_id, run.turns_failing)
            )
    ) as event (id, event_type, machine_id, data)
    where event.id is not null;
end;
$$;

-- The data of the event of an import that has turned failing; null for one that has not.
create or replace function vcs._turned_failing_json(
    p_code_import_id bigint,
    p_turns_failing  boolean
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not p_turns_failing then
        return null;
    end if;
    return (
        select vcs._import_json(import) || jsonb_build_object('old_review_status', 'reviewed')
        from vcs.code_import as import
        where import.id = p_code_import_id
    );
end;
$$;
