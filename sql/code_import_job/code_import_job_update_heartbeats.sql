-- A worker beats for all its runs in one call.

create or replace function vcs.code_import_job_update_heartbeats(p_job_ids bigint[], p_logtails text[])
returns table (job_id bigint, directive text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_own      bigint[];
    v_logtails text[];
    v_kill     bigint[];
begin
    perform vcs._check_job_ids(p_job_ids, cardinality(p_logtails), 'logtails');
    perform vcs._beat_machines(array(
        select distinct schedule.machine_id
        from vcs._code_import_schedule as schedule
        where schedule.job_id = any (p_job_ids)
          and schedule.state = 'running'
          and vcs._may_act_for(vcs._machine_owner(schedule.machine_id))
    ));

    perform vcs._lock_jobs(p_job_ids);
    select
        array_agg(run.job_id),
        array_agg(given.logtail),
        array_agg(run.job_id) filter (where run.kill_requested_by is not null)
    into v_own, v_logtails, v_kill
    from unnest(p_job_ids, p_logtails) as given (job_id, logtail)
    join vcs._code_import_schedule as run on run.job_id = given.job_id
    left join vcs._code_import_machine as machine on machine.id = run.machine_id
    where run.date_started is not null and vcs._may_act_for(machine.owner_role);
    update vcs._code_import_schedule as schedule
    set heartbeat = greatest(now(), schedule.heartbeat)
    where schedule.job_id = any (v_own);
    perform vcs._keep_logtails(v_own, v_logtails);

    return query
    select
        given.job_id,
        case
            when given.job_id = any (v_kill) then 'stop'
            when given.job_id = any (v_own) then 'continue'
            else 'gone'
        end
    from unnest(p_job_ids) with ordinality as given (job_id, place)
    order by given.place;
end;
$$;

comment on function vcs.code_import_job_update_heartbeats(bigint[], text[]) is
$$Beat for many runs; a row each with continue, stop or gone.

gone: what is no run, or no run of one's own.
state   running, with a new heartbeat; a null logtail leaves the old one
error   IJ400 arrays of unequal length, null or repeated ids$$;
