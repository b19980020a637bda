-- What becomes of each run that ends: a reading of the rules, which _end_runs then writes down.
--
-- A failure of the source counts towards failing and doubles the wait; a success starts both
-- afresh; what is neither leaves them. The next date keeps the beat of the due dates, with at
-- least half a wait of rest after a late start.

-- Of each that is a run whose end the caller may tell: whoever reclaims has judged that already. The
-- rows are not locked, which would be written to the WAL, but known by their version.
-- In the order of imports, in which they are to be written.
create or replace function vcs._ended_runs(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[]
)
returns vcs._ended_run[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- What is asked of the settings by name is asked only when it counts.
    return array(
        with ended as (
            select
                run.*, run.xmin as version, given.place, given.status, given.log_file_id
            from unnest(p_job_ids, p_statuses, p_log_file_ids)
                with ordinality as given (job_id, status, log_file_id, place)
            join vcs._code_import_schedule as run on run.job_id = given.job_id
            left join vcs._code_import_machine as machine on machine.id = run.machine_id
            -- It runs, said so that these are looked for by their ids, not among all that run.
            where run.date_started is not null
              and (
                  given.status = 'reclaimed'
                  or machine.owner_role is null
                  or machine.owner_role = session_user
                  or vcs._is_operator()
              )
        ),
        counted as materialized (
            select
                run.*,
                greatest(now(), run.heartbeat) as date_ended,
                run.status in ('success', 'success_nochange') as is_successful,
                run.status like 'failure%' as is_failure,
                coalesce(
                    run.update_interval,
                    (
                        select setting.interval_value
                        from vcs._code_import_setting as setting
                        where setting.name = 'default_interval_' || run.rcs_type
                    )
                ) as effective_interval,
                case
                    when run.status like 'success%' then 0
                    when run.status like 'failure%' then run.consecutive_failure_count + 1
                    else run.consecutive_failure_count
                end as failures,
                case
                    when run.status = 'reclaimed' then run.consecutive_reclaim_count + 1
                    else 0
                end as reclaims
            from ended as run
        ),
        judged as materialized (
            select
                run.*,
                coalesce(
                    run.review_status = 'reviewed' and case
                        when run.is_failure
                            then run.failures > (select vcs._number_setting('consecutive_failure_limit'))
                        when run.status = 'reclaimed'
                            then run.reclaims >= (select vcs._number_setting('consecutive_reclaim_limit'))
                    end,
                    false
                ) as turns_failing,
                case
                    when run.is_failure then vcs._retry_wait(
                        run.effective_interval, run.failures,
                        greatest(
                            (select vcs._interval_setting('maximum_retry_interval')),
                            run.effective_interval
                        )
                    )
                    else run.effective_interval
                end as wait
            from counted as run
        ),
        dated as (
            select
                run.*,
                case
                    when run.review_status <> 'reviewed' or run.turns_failing then null
                    when run.status in ('success_partial', 'reclaimed')
                        or run.again_requested_by is not null or run.is_due_after_run then now()
                    -- In UTC, where every day has 24 hours.
                    else greatest(
                        now(),
                        (run.date_due at time zone 'UTC' + run.wait) at time zone 'UTC',
                        (run.date_started at time zone 'UTC' + run.wait / 2) at time zone 'UTC'
                    )
                end as next_due
            from judged as run
        )
        -- Ids are drawn from left to right: the finish, whose id the result has, comes last.
        select row(
            run.code_import_id,
            run.job_id,
            run.machine_id,
            case when run.status = 'reclaimed' then nextval('vcs._code_import_event_id_seq') end,
            case
                when run.is_successful and run.date_last_successful is null
                    then nextval('vcs._code_import_event_id_seq')
            end,
            case when run.turns_failing then nextval('vcs._code_import_event_id_seq') end,
            nextval('vcs._code_import_event_id_seq'),
            run.start_event_id,
            run.log_file_id,
            case when run.next_due is not null then nextval('vcs._code_import_job_id_seq') end,
            run.date_started,
            run.date_ended,
            case when run.is_successful then run.date_ended else run.date_last_successful end,
            run.next_due,
            run.failures,
            run.reclaims,
            run.turns_failing,
            run.status,
            run.requesting_user,
            run.again_requested_by,
            tail.logtail,
            run.result_count + 1,
            run.place,
            run.version
        )::vcs._ended_run
        from dated as run
        left join vcs._code_import_logtail as tail on tail.job_id = run.job_id
        order by run.code_import_id
    );
end;
$$;
