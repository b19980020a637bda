-- What follows a run, however many end at once. Callers have locked the rows and judged
-- them. One statement, so that a hundred cost little more than one.

create or replace function vcs._end_runs(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[] default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_due_now boolean;
begin
    with ended as materialized (
        select run.* from vcs._ended_runs(p_job_ids, p_statuses, p_log_file_ids) as run
    ),
    rescheduled as (
        update vcs._code_import_schedule as schedule
        set job_id = run.next_job_id,
            date_created = case when run.next_due is not null then run.date_ended end,
            date_due = run.next_due,
            state = case when run.next_due is not null then 'pending' end,
            requesting_user = case when run.next_due is not null then schedule.again_requested_by end,
            review_status = case when run.turns_failing then 'failing' else schedule.review_status end,
            consecutive_failure_count = run.failures,
            consecutive_reclaim_count = run.reclaims,
            date_last_started = schedule.date_started,
            date_last_successful = run.date_successful,
            machine_id = null,
            date_started = null,
            heartbeat = null,
            start_event_id = null,
            ordering = null,
            is_pinned = false,
            result_count = schedule.result_count + 1,
            is_due_after_run = false,
            kill_requested_by = null,
            again_requested_by = null
        from ended as run
        where schedule.code_import_id = run.code_import_id
    ),
    recorded as (
        insert into vcs._code_import_result (
            id, date_filed, date_created, code_import_id, machine_id, job_id, start_event_id,
            log_file_id, date_job_started, result_number, status, requesting_user, log_excerpt
        )
        -- Filed by the clock: however old this transaction is, nothing comes to lie among what
        -- tidy-up has looked through.
        select
            run.result_id, greatest(run.date_ended, clock_timestamp()), run.date_ended,
            run.code_import_id, run.machine_id, run.job_id,
            run.start_event_id, run.log_file_id, run.date_started, run.result_number, run.status,
            run.requesting_user, run.logtail
        from ended as run
        order by run.result_id
    ),
    told as (
        insert into vcs._code_import_event
            (id, date_created, event_type, code_import_id, machine_id, data)
        select event.id, run.date_ended, event.event_type, run.code_import_id, event.machine_id, event.data
        from ended as run
        cross join lateral (
            values
                (run.reclaim_event_id, 'reclaim', run.machine_id, jsonb_build_object('job_id', run.job_id)),
                (run.publish_event_id, 'publish', run.machine_id, jsonb_build_object('job_id', run.job_id)),
                (run.modify_event_id, 'modify', null, vcs._turned_failing_json(run.code_import_id, run.failures, run.turns_failing))
        ) as event (id, event_type, machine_id, data)
        where event.id is not null
    ),
    cleared as (
        delete from vcs._code_import_logtail as tail
        using ended as run
        where tail.job_id = run.job_id
    )
    select bool_or(run.next_due <= now()) into v_is_due_now
    from ended as run;

    if v_is_due_now then
        perform vcs._wake_workers();
    end if;
end;
$$;
