-- A worker ends many runs in one call. One that is refused does not undo the others.

create or replace function vcs.code_import_job_finish_many(
    p_job_ids      bigint[],
    p_statuses     text[],
    p_log_file_ids bigint[] default null
)
returns table (job_id bigint, result_id bigint, status text, error_code text, message text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_log_file_ids bigint[] := case
        when p_log_file_ids is null
            then array_fill(null::bigint, array[coalesce(cardinality(p_job_ids), 0)])
        else array(select unnest(p_log_file_ids))
    end;
    v_ended      vcs._ended_run;
    v_result_ids bigint[] := array[]::bigint[];
begin
    perform vcs._check_job_ids(p_job_ids, cardinality(p_statuses), 'statuses');
    perform vcs._check_job_ids(p_job_ids, cardinality(v_log_file_ids), 'log_file_ids');
    foreach v_ended in array vcs._finish_runs(p_job_ids, p_statuses, v_log_file_ids) loop
        v_result_ids[v_ended.place] := v_ended.result_id;
    end loop;

    return query
    select told.job_id, told.result_id, told.status, told.error_code, told.message
    from (
        select
            given.place, given.job_id, v_result_ids[given.place] as result_id, given.status,
            null as error_code, null as message
        from unnest(p_job_ids, p_statuses) with ordinality as given (job_id, status, place)
        where v_result_ids[given.place] is not null
        union all
        select
            given.place, given.job_id, former.id, former.status,
            refusal.error_code, vcs._one_line(refusal.message)
        from unnest(p_job_ids, p_statuses, v_log_file_ids)
            with ordinality as given (job_id, status, log_file_id, place)
        cross join lateral vcs._finish_refusal(given.job_id, given.status, given.log_file_id) as refusal
        left join vcs._code_import_result as former
            on former.job_id = given.job_id and refusal.error_code is null
        where v_result_ids[given.place] is null
    ) as told
    order by told.place;
end;
$$;

comment on function vcs.code_import_job_finish_many(bigint[], text[], bigint[]) is
$$End many runs, each as finish would; a row each, also of those refused.

state   running -> gone, and a new pending job; or the import turns failing
event   for each as code_import_job_finish
error   IJ400 arrays of unequal length, null or repeated ids$$;
