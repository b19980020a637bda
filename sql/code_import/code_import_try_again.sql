-- A person thinks that a failing import will work now.

create or replace function vcs.code_import_try_again(p_code_import_id bigint, p_person text)
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
    if v_schedule.review_status <> 'failing' then
        perform vcs._refuse_import_status(v_schedule, 'failing');
    elsif v_schedule.state = 'running' then
        perform vcs._refuse(
            'IJ423', 'code_import', format('code import %s is still running', p_code_import_id),
            'Try again when this last run has ended.'
        );
    end if;
    perform vcs.code_import_update(p_code_import_id, '{"review_status": "reviewed"}', p_person);
    return vcs.code_import_request(p_code_import_id, p_person);
end;
$$;

comment on function vcs.code_import_try_again(bigint, text) is
$$Let a failing import run again at once, and return its job.

state   none -> pending, due now
event   modify, then request
error   IJ400 a person that is no name, or null
error   IJ404 no such import
error   IJ409 the import is not failing
error   IJ423 its last run goes on$$;
