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
        update vcs._code_import_machine as machine
        set owner_role = null
        where machine.id = p_machine_id;

        perform vcs._record_event(
            'modify', p_machine_id => p_machine_id, p_person => p_person,
            p_data => jsonb_build_object('owner_role', null, 'old_owner_role', v_machine.owner_role)
        );
    end if;
    return vcs._machine(p_machine_id);
end;
$$;

comment on function vcs.code_import_machine_disown(bigint, text) is
$$Free a machine for another worker role, and return it.

event   modify, if it had an owner
error   IJ400 a person that is no name, or null
error   IJ404 no such machine$$;
