-- An import goes, and with it its job, whatever it is doing, and its credential. History stays.

create or replace function vcs.code_import_delete(p_code_import_id bigint, p_person text default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    perform vcs._check_optional_person('code_import', p_person);
    v_schedule := vcs._lock_import(p_code_import_id);
    if v_schedule.state = 'running' then
        perform vcs._keep_start_event(v_schedule);
    end if;
    perform vcs._record_event('delete', import.id, p_person => p_person, p_data => vcs._import_json(import))
    from vcs.code_import as import
    where import.id = p_code_import_id;

    delete from vcs._code_import_logtail as tail where tail.job_id = v_schedule.job_id;
    delete from vcs._code_import_schedule as schedule where schedule.code_import_id = p_code_import_id;
    delete from vcs._code_import_credential as credential
    where credential.code_import_id = p_code_import_id;
    delete from vcs._code_import as import where import.id = p_code_import_id;
end;
$$;

comment on function vcs.code_import_delete(bigint, text) is
$$Delete an import, its job and its credential; its worker gets IJ410.

event   delete
error   IJ400 a person that is no name, or a null code_import_id
error   IJ404 no such import$$;
