-- What the batch forms share.

-- The arrays of one call go together: as many values as ids, no id null or twice.
-- A null length means that the array may be left out.
create or replace function vcs._check_job_ids(p_job_ids bigint[], p_length integer, p_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_job_ids is null then
        perform vcs._refuse_null('code_import_job', 'job_ids');
    elsif p_length is null then
        perform vcs._refuse_null('code_import_job', p_name);
    elsif p_length <> cardinality(p_job_ids) then
        perform vcs._refuse_value(
            'code_import_job', format('there are %s job_ids and %s %s', cardinality(p_job_ids), p_length, p_name)
        );
    elsif exists (select from unnest(p_job_ids) as given (id) where given.id is null) then
        perform vcs._refuse_value('code_import_job', 'a job_id is null');
    elsif exists (select from unnest(p_job_ids) as given (id) group by given.id having count(*) > 1) then
        perform vcs._refuse_value('code_import_job', 'a job_id is there twice');
    end if;
end;
$$;

-- Lock the jobs that are there, also those that only wait: on an old snapshot that fails for a run
-- which has started since.
create or replace function vcs._lock_jobs(p_job_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from vcs._code_import_schedule as schedule
    where schedule.job_id = any (p_job_ids)
    order by schedule.code_import_id
    for no key update;
end;
$$;
