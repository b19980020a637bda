-- A host asks for work: its machine is found or made, locked before anything else, and
-- told how much it may take. Whoever asks also reclaims what others left behind.

create or replace function vcs._ask_for_room(
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
    v_machine vcs._code_import_machine;
    v_is_new  boolean := false;
    v_looks   boolean;
    v_running integer;
begin
    select machine.* into v_machine
    from vcs._code_import_machine as machine
    where machine.hostname = p_hostname
    for no key update;
    if not found then
        perform vcs._check_hostname(p_hostname);
        v_is_new := vcs._lock_or_make_machine(p_hostname);
        select machine.* into v_machine
        from vcs._code_import_machine as machine
        where machine.hostname = p_hostname;
    end if;
    if v_machine.owner_role <> session_user then
        perform vcs._check_machine_owner(v_machine);
    end if;
    -- Hints of a later time are none: this transaction is an old one, or the clock went back.
    v_looks := coalesce(
        v_machine.date_look_again not between now() and now() + interval '10 s'
            or v_machine.oldest_start > now(),
        true
    );
    if v_looks then
        perform vcs._reclaim_stale(100);
    end if;

    machine_id := v_machine.id;
    room := 0;
    if v_is_new then
        perform vcs._set_machine_state(machine_id, 'online', 'online');
    elsif v_machine.state = 'offline' then
        return;
    end if;
    if v_machine.owner_role is null then
        perform vcs._own_machine(v_machine);
    end if;
    if v_looks then
        v_machine.oldest_start := vcs._look_around(machine_id);
    end if;
    v_running := vcs._count_running(v_machine);
    if v_machine.state <> 'quiescing' then
        room := greatest(p_worker_limit - v_running, 0);
    elsif v_running = 0 then
        perform vcs._set_machine_state(machine_id, 'offline', 'offline', 'quiesced');
    end if;
end;
$$;

-- How many jobs run on a machine whose row is locked. Under an old snapshot the entries of ended
-- runs pile up before those of the living: when that shows, the next count starts after them.
create or replace function vcs._count_running(p_machine vcs._code_import_machine)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_index   regclass := 'vcs._code_import_schedule_running_idx';
    v_walked  bigint := - pg_stat_get_xact_tuples_returned(v_index);
    v_running integer;
begin
    select count(*) into v_running
    from vcs._code_import_schedule as schedule
    where schedule.machine_id = p_machine.id
      and schedule.state = 'running'
      and schedule.date_started >= p_machine.oldest_start;
    v_walked := v_walked + pg_stat_get_xact_tuples_returned(v_index);
    if v_walked > 200 + v_running
        and p_machine.date_look_again < now() + interval '9.5 s'
    then
        perform vcs._look_around(p_machine.id);
    end if;
    return v_running;
end;
$$;

-- A machine's heartbeat, and hints for its next claims, written together and seldom: every claim
-- reads this row. Return the oldest start: no run of the machine has started before, and whoever is
-- about to start one before, in a transaction that is older, comes here first.
create or replace function vcs._look_around(p_machine_id bigint)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_oldest_start timestamptz;
begin
    update vcs._code_import_machine as machine
    set heartbeat = greatest(now(), machine.heartbeat),
        -- A run that starts meanwhile is silent no sooner than after a whole interval.
        date_look_again = least(
            now() + interval '10 s',
            vcs._plus(now(), vcs._interval_setting('maximum_heartbeat_interval')),
            vcs._next_silence()
        ),
        oldest_start = least(
            now(),
            (
                select min(schedule.date_started)
                from vcs._code_import_schedule as schedule
                where schedule.machine_id = p_machine_id
                  and schedule.state = 'running'
                  and schedule.date_started >= coalesce(machine.oldest_start, '-infinity')
            )
        )
    where machine.id = p_machine_id
    returning machine.oldest_start into v_oldest_start;
    return v_oldest_start;
end;
$$;

-- When a run can be reclaimed, if no more is heard of any; null when none runs.
create or replace function vcs._next_silence()
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select vcs._plus(
            min(schedule.heartbeat), vcs._interval_setting('maximum_heartbeat_interval')
        )
        from vcs._code_import_machine as machine
        join vcs._code_import_schedule as schedule
            on schedule.machine_id = machine.id
            and schedule.state = 'running'
            and schedule.date_started >= coalesce(machine.oldest_start, '-infinity')
    );
end;
$$;

-- Every machine's next claim looks for silent runs: there may be some sooner than it had known.
create or replace function vcs._look_again()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    with locked as materialized (
        select machine.id
        from vcs._code_import_machine as machine
        order by machine.id
        for no key update
    )
    update vcs._code_import_machine as machine
    set date_look_again = null
    from locked
    where machine.id = locked.id;
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
