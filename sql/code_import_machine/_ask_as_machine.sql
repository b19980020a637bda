-- A host asks for work: its machine is found or made, locked before anything else, and
-- told how much it may take. Whoever asks also reclaims what others left behind.

create or replace function vcs._ask_as_machine(
    p_hostname     text,
    p_worker_limit integer,
    out machine_id bigint,
    out room       integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    c_reclaimed_at_once constant integer := 100;
    v_machine vcs._code_import_machine;
    v_is_new  boolean := vcs._lock_or_make_machine(p_hostname);
    v_running bigint;
begin
    select machine.* into v_machine
    from vcs._code_import_machine as machine
    where machine.hostname = p_hostname;
    perform vcs._check_machine_owner(v_machine);
    perform vcs._reclaim_stale(c_reclaimed_at_once);

    machine_id := v_machine.id;
    room := 0;
    if v_is_new then
        perform vcs._set_machine_state(machine_id, 'online', 'online');
    elsif v_machine.state = 'offline' then
        return;
    end if;
    perform vcs._own_machine(v_machine);
    perform vcs._beat_machines(array[machine_id]);

    select count(*) into v_running
    from vcs._code_import_schedule as schedule
    where schedule.machine_id = v_machine.id and schedule.state = 'running';
    if v_machine.state = 'quiescing' then
        if v_running = 0 then
            perform vcs._set_machine_state(machine_id, 'offline', 'offline', 'quiesced');
        end if;
    else
        room := greatest(p_worker_limit - v_running, 0)::integer;
    end if;
end;
$$;

-- Lock the machine's row by its name; say whether it had to be made, offline as yet.
create or replace function vcs._lock_or_make_machine(p_hostname text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from vcs._code_import_machine as machine
    where machine.hostname = p_hostname
    for no key update;
    if found then
        return false;
    end if;
    insert into vcs._code_import_machine (date_created, hostname, state, owner_role)
    values (now(), p_hostname, 'offline', case when not vcs._is_operator() then session_user end)
    on conflict on constraint code_import_machine_hostname_is_registered_once do nothing;
    if found then
        return true;
    end if;
    return vcs._lock_or_make_machine(p_hostname);
end;
$$;
