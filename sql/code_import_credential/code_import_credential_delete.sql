-- A login goes. Runs that have it already keep it to their end.

create or replace function vcs.code_import_credential_delete(p_credential_id bigint, p_person text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._check_person('code_import_credential', p_person);
    perform vcs._lock_credential(p_credential_id);
    perform vcs._record_credential(vcs._credential(p_credential_id), null, p_person);
    delete from vcs._code_import_credential as credential where credential.id = p_credential_id;
end;
$$;

comment on function vcs.code_import_credential_delete(bigint, text) is
$$Delete a credential. Runs that have it already keep it to their end.

event   delete; modify of the import, if it is for one
error   IJ400 a person that is no name, or a null
error   IJ404 no such credential$$;
