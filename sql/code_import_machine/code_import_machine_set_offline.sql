-- An operator, or tidy-up, takes a machine out. Its running jobs are left alone: they
-- finish, or are reclaimed.

create or replace function vcs.code_import_machine_set_offline(
    p_machine_id bigint,
    p_reason     text,
    p_person     text default null,
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
    perform vcs._check_optional_person('code_import_machine', p_person);
    if p_reason is null then
        perform vcs._refuse_null('code_import_machine', 'reason');
    elsif p_reason not in ('stopped', 'quiesced', 'watchdog') then
        perform vcs._refuse_value(
            'code_import_machine',
            format('reason is %L, and has to be one of stopped, quiesced, watchdog', left(p_reason, 40))
        );
    end if;
    v_machine := vcs._lock_machine(p_machine_id);
    if v_machine.state = 'offline' then
        perform vcs._refuse_machine_state(v_machine, 'online or quiescing');
    end if;
    perform vcs._set_machine_state(p_machine_id, 'offline', 'offline', p_reason, p_person, p_message);
    return vcs._machine(p_machine_id);
end;
$$;

comment on function vcs.code_import_machine_set_offline(bigint, text, text, text) is
$$Take a machine out: it gets no job; return it.

state   online or quiescing -> offline
event   offline, with the reason in its data
error   IJ400 a reason that is none, a person that is no name, or null
error   IJ404 no such machine
error   IJ409 it is offline already$$;
