-- A worker says how its run ended. Said again after a lost answer, it is told the same.

create or replace function vcs.code_import_job_finish(
    p_job_id      bigint,
    p_status      text,
    p_log_file_id bigint default null
)
returns vcs.code_import_result
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_ended   vcs._ended_run[] := vcs._finish_runs(
        array[p_job_id], array[p_status], array[p_log_file_id]
    );
    v_refusal record;
begin
    if cardinality(v_ended) > 0 then
        return vcs._result_of(v_ended[1]);
    elsif p_job_id is null then
        perform vcs._refuse_null('code_import_job', 'job_id');
    end if;
    select refusal.* into v_refusal
    from vcs._finish_refusal(p_job_id, p_status, p_log_file_id) as refusal;
    if v_refusal.error_code is not null then
        perform vcs._refuse(v_refusal.error_code, v_refusal.relation, v_refusal.message, v_refusal.hint);
    end if;
    return (select result from vcs.code_import_result as result where result.job_id = p_job_id);
end;
$$;

comment on function vcs.code_import_job_finish(bigint, text, bigint) is
$$End a running job with a status, make the next, and return the result.

A finish said again with the same status returns the first result and changes nothing.
state   running -> gone, and a new pending job; or the import turns failing
event   publish at the first success, modify if it turns failing, then finish
error   IJ400 a status that none can end with, or null
error   IJ403 the job runs on a machine of another role
error   IJ404 no such log file of this run
error   IJ409 the job is not running, or was finished with another status
error   IJ410 no such run: it was reclaimed, released or deleted, or never was$$;
