-- An operator lets a machine run dry. It goes offline when it next asks with nothing running.

create or replace function vcs.code_import_machine_set_quiescing(
    p_machine_id bigint,
    p_person     text,
    p_message    text default null
)
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
    if v_machine.state <> 'online' then
        perform vcs._refuse_machine_state(v_machine, 'online');
    end if;
    perform vcs._set_machine_state(p_machine_id, 'quiescing', 'quiesce', null, p_person, p_message);
    return vcs._machine(p_machine_id);
end;
$$;

comment on function vcs.code_import_machine_set_quiescing(bigint, text, text) is
$$Let a machine finish what it has and take nothing new; return it.

state   online -> quiescing
event   quiesce
error   IJ400 a person that is no name, or null
error   IJ404 no such machine
error   IJ409 it is not online$$;
