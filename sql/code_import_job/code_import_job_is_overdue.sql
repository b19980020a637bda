-- Usable as a computed column: select job.*, vcs.code_import_job_is_overdue(job) from vcs.code_import_job as job.

create or replace function vcs.code_import_job_is_overdue(p_job vcs.code_import_job)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_job.date_due <= now();
end;
$$;

comment on function vcs.code_import_job_is_overdue(vcs.code_import_job) is
$$Say whether a job's due date has come.$$;
