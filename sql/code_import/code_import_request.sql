-- A person wants an import to run at once.

create or replace function vcs.code_import_request(
    p_code_import_id             bigint,
    p_person                     text,
    p_error_if_already_requested boolean default false
)
returns vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    perform vcs._check_person('code_import', p_person);
    if p_error_if_already_requested is null then
        perform vcs._refuse_null('code_import', 'error_if_already_requested');
    end if;
    v_schedule := vcs._lock_import(p_code_import_id);
    if v_schedule.job_id is null then
        perform vcs._refuse_import_status(v_schedule, 'reviewed');
    elsif v_schedule.requesting_user is not null
        and v_schedule.state <> 'running'
        and not p_error_if_already_requested
    then
        return vcs._job(v_schedule.job_id);
    end if;
    return vcs.code_import_job_request(v_schedule.job_id, p_person);
end;
$$;

comment on function vcs.code_import_request(bigint, text, boolean) is
$$Ask for an import to run at once, and return its job.

Asked for already, nothing happens.
state   pending or scheduled, due now
event   request, if it was not requested
error   IJ400 a person that is no name, or null
error   IJ404 no such import
error   IJ409 the import has no job
error   IJ423 it is running already
error   IJ429 it is requested already, if asked to say so; DETAIL names the requester$$;
