-- The audit trail. Starts and finishes are read from the runs themselves: one fact, one row.
-- Their ids were drawn from the same sequence when they happened.

create or replace view vcs.code_import_event as
select
    event.id,
    event.date_created,
    event.event_type,
    event.code_import_id,
    event.machine_id,
    event.person,
    event.data
from vcs._code_import_event as event
union all
select
    result.start_event_id,
    result.date_job_started,
    'start',
    result.code_import_id,
    result.machine_id,
    null,
    jsonb_build_object('job_id', result.job_id)
from vcs._code_import_result as result
union all
select
    result.id,
    result.date_created,
    'finish',
    result.code_import_id,
    result.machine_id,
    null,
    jsonb_build_object('job_id', result.job_id, 'status', result.status)
from vcs._code_import_result as result
union all
select
    schedule.start_event_id,
    schedule.date_started,
    'start',
    schedule.code_import_id,
    schedule.machine_id,
    null,
    jsonb_build_object('job_id', schedule.job_id)
from vcs._code_import_schedule as schedule
where schedule.state = 'running';

comment on view vcs.code_import_event is
    'The audit trail: everything that happened, in the order of its ids.';
comment on column vcs.code_import_event.event_type is
    'create, modify, delete, start, finish, publish (first success), reclaim, release, request, kill, online, offline or quiesce.';
comment on column vcs.code_import_event.person is
    'Who did it; null when the system did.';
comment on column vcs.code_import_event.data is
    'What goes with the event: a whole import, old and new values, a reason, a job_id.';

create or replace function vcs._record_event(
    p_event_type     text,
    p_code_import_id bigint default null,
    p_machine_id     bigint default null,
    p_person         text   default null,
    p_data           jsonb  default '{}',
    p_date_created   timestamptz default now()
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := nextval('vcs._code_import_event_id_seq');
begin
    insert into vcs._code_import_event
        (id, date_created, event_type, code_import_id, machine_id, person, data)
    values
        (v_id, p_date_created, p_event_type, p_code_import_id, p_machine_id, p_person, p_data);
    return v_id;
end;
$$;

-- Keep the start event of a run that ends without a result, as a row of its own.
create or replace function vcs._keep_start_event(p_schedule vcs._code_import_schedule)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into vcs._code_import_event
        (id, date_created, event_type, code_import_id, machine_id, data)
    values (
        p_schedule.start_event_id, p_schedule.date_started, 'start', p_schedule.code_import_id,
        p_schedule.machine_id, jsonb_build_object('job_id', p_schedule.job_id)
    );
end;
$$;
