-- What the machine functions share.

-- Lock a machine's row and return it. Everything that starts a job or changes a state
-- comes through here first.
create or replace function vcs._lock_machine(p_machine_id bigint)
returns vcs._code_import_machine
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_machine vcs._code_import_machine;
begin
    if p_machine_id is null then
        perform vcs._refuse_null('code_import_machine', 'machine_id');
    end if;
    select machine.* into v_machine
    from vcs._code_import_machine as machine
    where machine.id = p_machine_id
    for no key update;
    if not found then
        perform vcs._refuse(
            'IJ404', 'code_import_machine', format('code import machine %s does not exist', p_machine_id)
        );
    end if;
    return v_machine;
end;
$$;

create or replace function vcs._refuse_machine_state(p_machine vcs._code_import_machine, p_needed text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ409', 'code_import_machine',
        format('code import machine %s is %s, not %s', p_machine.hostname, p_machine.state, p_needed)
    );
end;
$$;

create or replace function vcs._check_hostname(p_hostname text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_hostname is null then
        perform vcs._refuse_null('code_import_machine', 'hostname');
    elsif length(p_hostname) > 255 or p_hostname !~ '^[^[:space:][:cntrl:]]+$' then
        perform vcs._refuse_value(
            'code_import_machine', format('hostname %L is not one', left(p_hostname, 40)),
            'It has 1 to 255 characters, none of them a space or a control character.'
        );
    end if;
end;
$$;

create or replace function vcs._check_machine_owner(p_machine vcs._code_import_machine)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not vcs._may_act_for(p_machine.owner_role) then
        perform vcs._refuse(
            'IJ403', 'code_import_machine',
            format('code import machine %s belongs to the role %s', p_machine.hostname, p_machine.owner_role),
            'An operator can free it with code_import_machine_disown.'
        );
    end if;
end;
$$;

-- A machine belongs to the worker role that first acts as it. Operators may act as any
-- machine, and never become its owner by doing so.
create or replace function vcs._own_machine(p_machine vcs._code_import_machine)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_machine.owner_role is null and not vcs._is_operator() then
        perform vcs._set_machine_owner(p_machine, session_user, null);
    end if;
end;
$$;

create or replace function vcs._set_machine_owner(
    p_machine    vcs._code_import_machine,
    p_owner_role text,
    p_person     text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update vcs._code_import_machine as machine
    set owner_role = p_owner_role
    where machine.id = p_machine.id;

    perform vcs._record_event(
        'modify', p_machine_id => p_machine.id, p_person => p_person,
        p_data => jsonb_build_object('owner_role', p_owner_role, 'old_owner_role', p_machine.owner_role)
    );
end;
$$;

-- Change the state and record it. Null texts stay out of the event's data.
create or replace function vcs._set_machine_state(
    p_machine_id bigint,
    p_state      text,
    p_event_type text,
    p_reason     text default null,
    p_person     text default null,
    p_message    text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update vcs._code_import_machine as machine
    set state = p_state
    where machine.id = p_machine_id;

    perform vcs._record_event(
        p_event_type, p_machine_id => p_machine_id, p_person => p_person,
        p_data => jsonb_strip_nulls(jsonb_build_object('reason', p_reason, 'message', nullif(p_message, '')))
    );
end;
$$;

create or replace function vcs._machine(p_machine_id bigint)
returns vcs.code_import_machine
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select machine from vcs.code_import_machine as machine where machine.id = p_machine_id);
end;
$$;

-- Heartbeats move the machine's, but seldom: its row is the one that every claim locks.
-- A row that is locked is being moved by somebody else.
create or replace function vcs._beat_machines(p_machine_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    with late as materialized (
        select machine.id
        from vcs._code_import_machine as machine
        where machine.id = any (p_machine_ids)
          and (machine.heartbeat is null or machine.heartbeat < now() - interval '10 s')
        order by machine.id
        for no key update skip locked
    )
    update vcs._code_import_machine as machine
    set heartbeat = greatest(now(), machine.heartbeat)
    from late
    where machine.id = late.id;
end;
$$;
