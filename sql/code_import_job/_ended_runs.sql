-- What becomes of each run that ends: a reading of the rules, which _end_runs then writes down.
--
-- A failure of the source counts towards failing and doubles the wait; a success starts both
-- afresh; what is neither leaves them. The next date keeps the beat of the due dates, with at
-- least half a wait of rest after a late start.

create or replace function vcs._ended_runs(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[]
)
returns table (
    code_import_id bigint, job_id bigint, machine_id bigint, status text,
    log_file_id bigint, logtail text, requesting_user text, start_event_id bigint,
    date_started timestamptz, date_ended timestamptz, date_successful timestamptz,
    failures integer, reclaims integer, turns_failing boolean, next_due timestamptz,
    reclaim_event_id bigint, publish_event_id bigint, modify_event_id bigint,
    result_id bigint, result_number integer, next_job_id bigint
)
language plpgsql
volatile
rows 10
set search_path = pg_catalog, pg_temp
as $$
declare
    v_failure_limit bigint   := vcs._number_setting('consecutive_failure_limit');
    v_reclaim_limit bigint   := vcs._number_setting('consecutive_reclaim_limit');
    v_retry_limit   interval := vcs._interval_setting('maximum_retry_interval');
begin
    return query
    with counted as (
        select
            run.*,
            given.status,
            given.log_file_id,
            coalesce(tail.logtail, '') as logtail,
            greatest(now(), run.heartbeat) as date_ended,
            coalesce(run.update_interval, setting.interval_value) as effective_interval,
            case
                when given.status like 'success%' then 0
                when given.status like 'failure%' then run.consecutive_failure_count + 1
                else run.consecutive_failure_count
            end as failures,
            case when given.status = 'reclaimed' then run.consecutive_reclaim_count + 1 else 0 end as reclaims
        from unnest(p_job_ids, p_statuses, p_log_file_ids) as given (job_id, status, log_file_id)
        join vcs._code_import_schedule as run on run.job_id = given.job_id
        join vcs._code_import_setting as setting on setting.name = 'default_interval_' || run.rcs_type
        left join vcs._code_import_logtail as tail on tail.job_id = run.job_id
    ),
    judged as (
        select
            run.*,
            coalesce(
                run.review_status = 'reviewed' and case
                    when run.status like 'failure%' then run.failures > v_failure_limit
                    when run.status = 'reclaimed' then run.reclaims >= v_reclaim_limit
                end,
                false
            ) as turns_failing,
            case
                when run.status like 'failure%' then vcs._retry_wait(
                    run.effective_interval, run.failures, greatest(v_retry_limit, run.effective_interval)
                )
                else run.effective_interval
            end as wait
        from counted as run
    ),
    dated as materialized (
        select
            run.*,
            case
                when run.review_status <> 'reviewed' or run.turns_failing then null
                when run.status in ('success_partial', 'reclaimed')
                    or run.again_requested_by is not null or run.is_due_after_run then now()
                else greatest(
                    now(),
                    vcs._plus(run.date_due, run.wait),
                    vcs._plus(run.date_started, run.wait / 2)
                )
            end as next_due,
            run.status in ('success', 'success_nochange') as is_successful
        from judged as run
        order by run.code_import_id
    )
    -- Ids are drawn from left to right: the finish, whose id the result has, comes last.
    select
        run.code_import_id, run.job_id, run.machine_id, run.status,
        run.log_file_id, run.logtail, run.requesting_user, run.start_event_id,
        run.date_started, run.date_ended,
        case when run.is_successful then run.date_ended else run.date_last_successful end,
        run.failures, run.reclaims, run.turns_failing, run.next_due,
        case when run.status = 'reclaimed' then nextval('vcs._code_import_event_id_seq') end,
        case
            when run.is_successful and run.date_last_successful is null
                then nextval('vcs._code_import_event_id_seq')
        end,
        case when run.turns_failing then nextval('vcs._code_import_event_id_seq') end,
        nextval('vcs._code_import_event_id_seq'),
        run.result_count + 1,
        case when run.next_due is not null then nextval('vcs._code_import_job_id_seq') end
    from dated as run;
end;
$$;

-- The data of the event of an import that turns failing; null for one that does not.
create or replace function vcs._turned_failing_json(
    p_code_import_id bigint,
    p_failures       integer,
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
        select vcs._import_json(import) || jsonb_build_object(
            'review_status', 'failing',
            'old_review_status', import.review_status,
            'consecutive_failure_count', p_failures
        )
        from vcs.code_import as import
        where import.id = p_code_import_id
    );
end;
$$;
