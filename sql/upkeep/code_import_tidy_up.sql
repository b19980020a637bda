-- Drop what is past its retention, and take silent machines offline. Bounded, so that it can be
-- called often. Of several callers at once, one does the partitions.

create or replace function vcs.code_import_tidy_up()
returns table (
    partitions_made bigint, partitions_dropped bigint, partitions_due bigint,
    results_kept bigint, rows_deleted bigint, rows_astray bigint, machines bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_mine boolean := pg_try_advisory_xact_lock(hashtextextended('code_import.history', 0));
begin
    select 0, 0, 0, 0, 0, 0 into
        partitions_made, partitions_dropped, partitions_due, results_kept, rows_deleted, rows_astray;
    if v_is_mine then
        select told.* into results_kept, rows_deleted, rows_astray from vcs._tidy_rows() as told;
    end if;
    machines := vcs._tidy_machines();
    -- What keeps others out of the history comes last, and ends with this transaction.
    if v_is_mine then
        select told.* into partitions_made, partitions_dropped, partitions_due
        from vcs._tidy_partitions() as told;
    end if;
    return next;
end;
$$;

comment on function vcs.code_import_tidy_up() is
$$Make partitions ahead, drop what is past its retention; return how much.

Bounded: while partitions_due is not nothing, there is more to do. In a transaction of its own:
until that ends, others wait for the history. rows_astray lie where no partition was made.
state   online or quiescing -> offline, for a machine silent longer than machine_silent_after
event   offline, with the reason watchdog$$;

create or replace function vcs._tidy_rows(
    out results_kept bigint,
    out rows_deleted bigint,
    out rows_astray  bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_history record;
    v_oldest  timestamptz;
begin
    results_kept := 0;
    rows_deleted := 0;
    rows_astray := 0;
    for v_history in select history.* from vcs._history() as history loop
        continue when not vcs._mend_history(v_history.parent);
        v_oldest := vcs._plus(now(), - v_history.retention);
        rows_deleted := rows_deleted + vcs._tidy_default(v_history.parent, v_history.key, v_oldest);
        rows_astray := rows_astray + vcs._astray(v_history.parent);
        if v_history.parent = '_code_import_result' then
            rows_deleted := rows_deleted
                + vcs._sweep_kept_results(v_oldest, clock_timestamp() + interval '0.5 s');
            results_kept := vcs._keep_results(v_oldest, clock_timestamp() + interval '2 s');
        end if;
    end loop;
end;
$$;

create or replace function vcs._tidy_partitions(
    out partitions_made    bigint,
    out partitions_dropped bigint,
    out partitions_due     bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_history record;
    v_oldest  timestamptz;
begin
    partitions_made := 0;
    partitions_dropped := 0;
    partitions_due := 0;
    for v_history in select history.* from vcs._history() as history loop
        v_oldest := vcs._plus(now(), - v_history.retention);
        partitions_made := partitions_made
            + vcs._make_partitions(v_history.parent, v_history.key, v_history.retention);
        partitions_dropped := partitions_dropped + vcs._drop_partitions(v_history.parent, v_oldest);
        partitions_due := partitions_due + (
            select count(*) from vcs._partitions(v_history.parent) as part
            where part.is_ours and part.upper_bound <= v_oldest
        );
    end loop;
end;
$$;

create or replace function vcs._tidy_machines()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_oldest     timestamptz := vcs._plus(now(), - vcs._interval_setting('machine_silent_after'));
    v_machine_id bigint;
    v_count      bigint := 0;
begin
    for v_machine_id in
        select machine.id
        from vcs._code_import_machine as machine
        where machine.state <> 'offline'
          and coalesce(machine.heartbeat, machine.date_created) < v_oldest
          -- One that was put online just now is given the time to be heard.
          and not exists (
              select from vcs._code_import_event as event
              where event.machine_id = machine.id
                and event.event_type = 'online'
                and event.date_created >= v_oldest
          )
        order by machine.id
        for no key update skip locked
    loop
        perform vcs._set_machine_state(v_machine_id, 'offline', 'offline', 'watchdog');
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$;
