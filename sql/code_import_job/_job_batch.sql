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

-- Lock the jobs that are there, and return those that run on machines the caller may act for, each
-- with its place among those given and with what was given with it: arrays of one length, since a
-- text of an array is found only past all before it. What only waits is locked as well: on an old
-- snapshot that fails for a run which has started since.
create or replace function vcs._lock_own_runs(
    p_job_ids      bigint[],
    p_texts        text[],
    p_log_file_ids bigint[] default null,
    out runs         vcs._code_import_schedule[],
    out places       integer[],
    out texts        text[],
    out log_file_ids bigint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    with locked as materialized (
        select schedule, given.place, given.text, given.log_file_id
        from unnest(p_job_ids, p_texts, p_log_file_ids)
            with ordinality as given (job_id, text, log_file_id, place)
        join vcs._code_import_schedule as schedule on schedule.job_id = given.job_id
        order by schedule.code_import_id
        for no key update of schedule
    )
    select
        array_agg(locked.schedule), array_agg(locked.place::integer),
        array_agg(locked.text), array_agg(locked.log_file_id)
    into runs, places, texts, log_file_ids
    from locked
    left join vcs._code_import_machine as machine on machine.id = (locked.schedule).machine_id
    where (locked.schedule).state = 'running'
      and (
          machine.owner_role is null
          or machine.owner_role = session_user
          or vcs._is_operator()
      );
end;
$$;
