-- An operator frees a machine, so that another worker role can claim as it.

create or replace function vcs.code_import_machine_disown(p_machine_id bigint, p_person text)
returns vcs.code_import_machine
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_machine vcs._code_import_machine;
begin
    perform vcs._check_person('code_import_machine', p_person);
    v_machine := vcs._lock_machine(p_machine_id);
    if v_machine.owner_role is not null then
        perform vcs._set_machine_owner(v_machine, null, p_person);
    end if;
    return vcs._machine(p_machine_id);
end;
$$;

comment on function vcs.code_import_machine_disown(bigint, text) is
$$Free a machine for another worker role, and return it.

event   modify, if it had an owner
error   IJ400 a person that is no name, or null
error   IJ404 no such machine$$;
