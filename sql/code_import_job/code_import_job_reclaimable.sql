-- The runs that have been silent for too long.

create or replace function vcs.code_import_job_reclaimable()
returns setof vcs.code_import_job
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select job.*
    from vcs.code_import_job as job
    where job.state = 'running'
      and job.heartbeat < vcs._oldest_live_heartbeat()
    order by job.heartbeat, job.id;
end;
$$;

comment on function vcs.code_import_job_reclaimable() is
$$Return the running jobs that have been silent for too long.

Their heartbeat is older than maximum_heartbeat_interval.$$;

create or replace function vcs._oldest_live_heartbeat()
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return vcs._plus(now(), - vcs._interval_setting('maximum_heartbeat_interval'));
end;
$$;
