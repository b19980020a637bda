-- Take away the waiting job of an import that no longer runs. By hand it mostly refuses: at
-- every commit such an import has none, or one that runs.

create or replace function vcs.code_import_job_delete_pending(p_code_import_id bigint)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule := vcs._lock_import(p_code_import_id);
begin
    if v_schedule.review_status = 'reviewed' then
        perform vcs._refuse_import_status(v_schedule, 'new, invalid, suspended or failing');
    elsif v_schedule.job_id is null then
        perform vcs._refuse(
            'IJ409', 'code_import_job', format('code import %s has no job', p_code_import_id)
        );
    elsif v_schedule.state = 'running' then
        perform vcs._refuse_job_state(v_schedule.job_id, 'running', 'pending or scheduled');
    end if;

    update vcs._code_import_schedule as schedule
    set job_id = null,
        date_created = null,
        date_due = null,
        state = null,
        machine_id = null,
        is_pinned = false,
        requesting_user = null,
        ordering = null
    where schedule.code_import_id = p_code_import_id;
end;
$$;

comment on function vcs.code_import_job_delete_pending(bigint) is
$$Delete the waiting job of an import that is not reviewed.

state   pending or scheduled -> gone
error   IJ400 a null code_import_id
error   IJ404 no such import
error   IJ409 the import is reviewed, has no job, or its job is running$$;
