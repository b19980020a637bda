-- A person wants a run that starts from now on: what runs at present may have missed the
-- newest change. However many ask meanwhile, one more run follows, in the first one's name.

create or replace function vcs.code_import_request_again(p_code_import_id bigint, p_person text)
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
    v_schedule := vcs._lock_import(p_code_import_id);
    if v_schedule.state is distinct from 'running' then
        return vcs.code_import_request(p_code_import_id, p_person);
    elsif v_schedule.review_status <> 'reviewed' then
        perform vcs._refuse_import_status(v_schedule, 'reviewed');
    elsif v_schedule.again_requested_by is null then
        update vcs._code_import_schedule as schedule
        set again_requested_by = p_person
        where schedule.code_import_id = p_code_import_id;

        perform vcs._record_event('request', p_code_import_id, p_person => p_person);
    end if;
    return vcs._job(v_schedule.job_id);
end;
$$;

comment on function vcs.code_import_request_again(bigint, text) is
$$Ask for a run from now on, after the present one; return the job.

event   request, for the first who asks
error   IJ400 a person that is no name, or null
error   IJ404 no such import
error   IJ409 the import has no job, or is no longer reviewed$$;
