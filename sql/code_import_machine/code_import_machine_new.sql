-- An operator registers a host before it first asks. Hosts that simply ask come online by themselves.

create or replace function vcs.code_import_machine_new(
    p_hostname text,
    p_state    text default 'offline'
)
returns vcs.code_import_machine
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_machine_id bigint;
begin
    perform vcs._check_hostname(p_hostname);
    if p_state is null then
        perform vcs._refuse_null('code_import_machine', 'state');
    elsif p_state not in ('offline', 'online') then
        perform vcs._refuse_value(
            'code_import_machine',
            format('a new machine is offline or online, not %L', left(p_state, 40))
        );
    end if;

    insert into vcs._code_import_machine (date_created, hostname, state)
    values (now(), p_hostname, 'offline')
    on conflict on constraint code_import_machine_hostname_is_registered_once do nothing
    returning id into v_machine_id;
    if not found then
        perform vcs._refuse(
            '23505', 'code_import_machine', format('code import machine %s is registered already', p_hostname),
            p_detail => (
                select format('It is machine %s.', machine.id)
                from vcs._code_import_machine as machine
                where machine.hostname = p_hostname
            ),
            p_constraint => 'code_import_machine_hostname_is_registered_once'
        );
    end if;

    if p_state = 'online' then
        perform vcs._set_machine_state(v_machine_id, 'online', 'online');
    end if;
    return vcs._machine(v_machine_id);
end;
$$;

comment on function vcs.code_import_machine_new(text, text) is
$$Register a machine, offline or online, and return it.

state   none -> offline or online
event   online, if it is
error   IJ400 no hostname, or a state that no machine starts in
error   23505 a machine of that hostname is there$$;
