-- Judging a finish. The one that finishes a run is told of its result; a retry of it is told
-- the same; anything else is refused, by name.

-- End those of the runs that may end as asked, and say what became of them.
create or replace function vcs._finish_runs(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[]
)
returns vcs._ended_run[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_known   text[] := vcs._finish_statuses();
    v_job_ids bigint[] := p_job_ids;
    v_ended   vcs._ended_run[];
begin
    if not p_statuses <@ v_known or array_remove(p_log_file_ids, null) <> '{}' then
        v_job_ids := array(
            select case
                when given.status = any (v_known)
                    and (
                        given.log_file_id is null
                        or vcs._is_log_of(given.log_file_id, given.job_id)
                    )
                    then given.job_id
            end
            from unnest(p_job_ids, p_statuses, p_log_file_ids)
                with ordinality as given (job_id, status, log_file_id, place)
            order by given.place
        );
    end if;
    v_ended := vcs._end_runs(v_job_ids, p_statuses, p_log_file_ids);
    if cardinality(v_ended) < cardinality(p_job_ids) then
        perform vcs._lock_jobs(v_job_ids);
        v_ended := v_ended || vcs._end_runs(v_job_ids, p_statuses, p_log_file_ids);
    end if;
    return v_ended;
end;
$$;

-- Why a run cannot be finished so, when it was not; error_code is null when it was,
-- by this call or by the one that it repeats.
create or replace function vcs._finish_refusal(
    p_job_id      bigint,
    p_status      text,
    p_log_file_id bigint,
    out error_code text,
    out relation   text,
    out message    text,
    out hint       text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule   vcs._code_import_schedule;
    v_result     vcs._code_import_result;
    v_owner_role text;
begin
    relation := 'code_import_job';
    message := vcs._finish_status_refusal(p_status);
    if message is not null then
        error_code := 'IJ400';
        return;
    end if;
    select schedule.* into v_schedule from vcs._code_import_schedule as schedule where schedule.job_id = p_job_id;
    select result.* into v_result from vcs._code_import_result as result where result.job_id = p_job_id;
    v_owner_role := vcs._machine_owner(coalesce(v_schedule.machine_id, v_result.machine_id));

    if v_schedule.job_id is not null and v_schedule.state <> 'running' then
        error_code := 'IJ409';
        message := format('code import job %s is %s, not running', p_job_id, v_schedule.state);
    elsif not vcs._may_act_for(v_owner_role) then
        error_code := 'IJ403';
        message := format('code import job %s runs on a machine of the role %s', p_job_id, v_owner_role);
    elsif v_schedule.job_id is not null then
        error_code := 'IJ404';
        relation := 'code_import_log_file';
        message := format('code import job %s has no log file %s', p_job_id, p_log_file_id);
    elsif v_result.job_id is null or v_result.status = 'reclaimed' then
        error_code := 'IJ410';
        message := format('code import job %s has ended, or never was', p_job_id);
        hint := 'A worker stops this run quietly and publishes nothing.';
    elsif v_result.status <> p_status then
        error_code := 'IJ409';
        message := format('code import job %s was finished as %s, not %s', p_job_id, v_result.status, p_status);
    end if;
end;
$$;

create or replace function vcs._finish_status_refusal(p_status text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_status is null then 'status is null, and a value is needed'
        when p_status = 'reclaimed' then 'status reclaimed is given by a reclaim, not by a finish'
        when p_status <> all (vcs._finish_statuses())
            then format('status %L is none that a run can end with', left(p_status, 40))
    end;
end;
$$;

create or replace function vcs._is_log_of(p_log_file_id bigint, p_job_id bigint)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from vcs._code_import_log_file as file
        where file.id = p_log_file_id and file.job_id = p_job_id
          and file.date_created >= (
              select run.date_started from vcs._code_import_schedule as run where run.job_id = p_job_id
          )
    );
end;
$$;

-- What a run can be finished with.
create or replace function vcs._finish_statuses()
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array[
        'success', 'success_nochange', 'success_partial',
        'failure', 'failure_invalid', 'failure_unsupported_feature',
        'failure_forbidden', 'failure_remote_broken',
        'internal_failure', 'killed'
    ];
end;
$$;

-- The result of a run that has just ended, as people read it.
create or replace function vcs._result_of(p_ended vcs._ended_run)
returns vcs.code_import_result
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_result vcs.code_import_result;
begin
    v_result.id := p_ended.result_id;
    v_result.date_created := p_ended.date_ended;
    v_result.code_import_id := p_ended.code_import_id;
    v_result.machine_id := p_ended.machine_id;
    v_result.job_id := p_ended.job_id;
    v_result.requesting_user := p_ended.requesting_user;
    v_result.log_excerpt := coalesce(p_ended.logtail, '');
    v_result.log_file_id := p_ended.log_file_id;
    v_result.status := p_ended.status;
    v_result.date_job_started := p_ended.date_started;
    v_result.job_duration := p_ended.date_ended - p_ended.date_started;
    return v_result;
end;
$$;
