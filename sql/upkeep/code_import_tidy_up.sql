-- Drop what is past its retention, and take silent machines offline. Bounded, so that it can be
-- called often; several callers at once skip what another has locked.

create or replace function vcs.code_import_tidy_up()
returns table (events bigint, results bigint, log_files bigint, machines bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c_rows_at_once constant integer := 10000;
begin
    results := vcs._tidy_results(c_rows_at_once);
    events := vcs._tidy_events(c_rows_at_once);
    log_files := vcs._tidy_log_files(c_rows_at_once / 10);
    machines := vcs._tidy_machines();
    return next;
end;
$$;

comment on function vcs.code_import_tidy_up() is
$$Delete what is past its retention, and return how much it was.

state   online or quiescing -> offline, for a machine silent longer than machine_silent_after
event   offline, with the reason watchdog$$;

-- A result is kept while it is young or among the newest of a living import. Its start and
-- finish are events: they stay as rows for as long as events do.
create or replace function vcs._tidy_results(p_limit integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept         bigint := vcs._number_setting('results_kept');
    v_oldest       timestamptz := vcs._plus(now(), - vcs._interval_setting('result_retention'));
    v_oldest_event timestamptz := vcs._plus(now(), - vcs._interval_setting('event_retention'));
    v_count        bigint;
begin
    with old as materialized (
        select result.id
        from vcs._code_import_result as result
        where result.date_created < v_oldest
          and (
              not exists (select from vcs._code_import as import where import.id = result.code_import_id)
              or (
                  select count(*)
                  from (
                      select from vcs._code_import_result as newer
                      where newer.code_import_id = result.code_import_id and newer.id > result.id
                      limit v_kept
                  ) as kept
              ) >= v_kept
          )
        order by result.id
        limit p_limit
        for update skip locked
    ),
    gone as (
        delete from vcs._code_import_result as result
        using old
        where result.id = old.id
        returning result.*
    ),
    kept_events as (
        insert into vcs._code_import_event
            (id, date_created, event_type, code_import_id, machine_id, data)
        select event.*
        from gone
        cross join lateral (
            values
                (gone.start_event_id, gone.date_job_started, 'start', gone.code_import_id, gone.machine_id,
                    jsonb_build_object('job_id', gone.job_id)),
                (gone.id, gone.date_created, 'finish', gone.code_import_id, gone.machine_id,
                    jsonb_build_object('job_id', gone.job_id, 'status', gone.status))
        ) as event (id, date_created, event_type, code_import_id, machine_id, data)
        where event.date_created >= v_oldest_event
    )
    select count(*) into v_count from gone;
    return v_count;
end;
$$;

create or replace function vcs._tidy_events(p_limit integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_oldest timestamptz := vcs._plus(now(), - vcs._interval_setting('event_retention'));
    v_count  bigint;
begin
    with old as materialized (
        select event.id
        from vcs._code_import_event as event
        where event.date_created < v_oldest
        order by event.id
        limit p_limit
        for update skip locked
    )
    delete from vcs._code_import_event as event
    using old
    where event.id = old.id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;

create or replace function vcs._tidy_log_files(p_limit integer)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_oldest timestamptz := vcs._plus(now(), - vcs._interval_setting('log_retention'));
    v_count  bigint;
begin
    with old as materialized (
        select file.id
        from vcs._code_import_log_file as file
        where file.date_created < v_oldest
        order by file.date_created
        limit p_limit
        for update skip locked
    )
    delete from vcs._code_import_log_file as file
    using old
    where file.id = old.id;
    get diagnostics v_count = row_count;
    return v_count;
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
