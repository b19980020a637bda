-- Reclaim what is silent. Many callers at once share the work: each skips what another has locked.

create or replace function vcs.code_import_job_reclaim_stale(p_max_jobs integer default 1000)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._check_limit('max_jobs', p_max_jobs);
    return vcs._reclaim_stale(p_max_jobs);
end;
$$;

comment on function vcs.code_import_job_reclaim_stale(integer) is
$$Reclaim up to max_jobs silent runs, and return how many it was.

state   running -> gone, and a new pending job
event   reclaim, then finish, for each
error   IJ400 max_jobs is null or negative$$;

-- The heartbeat is in the row that is locked, so a run renewed meanwhile is seen as such. Each machine
-- has its range of runs, which starts where its living ones may begin.
create or replace function vcs._reclaim_stale(p_max_jobs integer)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_limit   timestamptz := vcs._oldest_live_heartbeat();
    v_job_ids bigint[];
begin
    v_job_ids := array(
        select schedule.job_id
        from vcs._code_import_machine as machine
        join vcs._code_import_schedule as schedule
            on schedule.machine_id = machine.id
            and schedule.state = 'running'
            and schedule.date_started >= coalesce(machine.oldest_start, '-infinity')
        where schedule.heartbeat < v_limit
        order by schedule.code_import_id
        limit p_max_jobs
        for no key update of schedule skip locked
    );
    if cardinality(v_job_ids) > 0 then
        perform vcs._end_runs(
            v_job_ids, array_fill('reclaimed'::text, array[cardinality(v_job_ids)])
        );
    end if;
    return cardinality(v_job_ids);
end;
$$;

create or replace function vcs._check_limit(p_name text, p_limit integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_limit is null then
        perform vcs._refuse_null('code_import_job', p_name);
    elsif p_limit < 0 then
        perform vcs._refuse_value('code_import_job', format('%s is %s, and cannot be negative', p_name, p_limit));
    end if;
end;
$$;
