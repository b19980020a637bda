-- One job by its id.

create or replace function vcs.code_import_job_get(p_job_id bigint)
returns setof vcs.code_import_job
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_job_id is null then
        perform vcs._refuse_null('code_import_job', 'job_id');
    end if;
    return query
    select job.* from vcs.code_import_job as job where job.id = p_job_id;
end;
$$;

comment on function vcs.code_import_job_get(bigint) is
$$Return one job; no row when it has ended, or never was.

error   IJ400 a null job_id$$;
