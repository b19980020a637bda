-- Lay the schedule's columns so that what a claim or a finish changes lies side by side: of an update
-- that stays on its page, only the bytes from the first to the last that differ go into the WAL.
-- Let runs end without a lock beforehand, and imports be found by their owner and url.
-- depends: 0010.mirrors

-- What reads the columns that move. The constraint and the trigger are made anew with the functions.
alter table vcs._code_import_schedule
    drop constraint if exists code_import_job_has_what_its_state_needs,
    drop constraint code_import_job_is_one_run;
drop trigger if exists code_import_has_a_job_iff_reviewed_or_still_running
    on vcs._code_import_schedule;
drop index vcs._code_import_schedule_due_idx;
drop index vcs._code_import_schedule_requested_idx;
drop index vcs._code_import_schedule_ordered_idx;
drop index vcs._code_import_schedule_special_idx;
drop index vcs._code_import_schedule_running_idx;

alter table vcs._code_import_schedule rename column job_id to job_id_former;
alter table vcs._code_import_schedule rename column date_created to date_created_former;
alter table vcs._code_import_schedule rename column date_due to date_due_former;
alter table vcs._code_import_schedule rename column date_last_started to date_last_started_former;
alter table vcs._code_import_schedule
    rename column date_last_successful to date_last_successful_former;
alter table vcs._code_import_schedule rename column state to state_former;
alter table vcs._code_import_schedule rename column date_started to date_started_former;
alter table vcs._code_import_schedule rename column heartbeat to heartbeat_former;
alter table vcs._code_import_schedule rename column machine_id to machine_id_former;
alter table vcs._code_import_schedule rename column start_event_id to start_event_id_former;

-- A finish changes these from result_count to state; a claim those from state on. Generated columns
-- are filled by one rewrite of the table, which leaves nothing dead behind.
alter table vcs._code_import_schedule
    add column job_id bigint generated always as (job_id_former) stored,
    add column date_created timestamptz generated always as (date_created_former) stored,
    add column date_due timestamptz generated always as (date_due_former) stored,
    add column date_last_started timestamptz generated always as (date_last_started_former) stored,
    add column date_last_successful timestamptz
        generated always as (date_last_successful_former) stored,
    add column state text generated always as (state_former) stored,
    add column date_started timestamptz generated always as (date_started_former) stored,
    add column heartbeat timestamptz generated always as (heartbeat_former) stored,
    add column machine_id bigint generated always as (machine_id_former) stored,
    add column start_event_id bigint generated always as (start_event_id_former) stored;
alter table vcs._code_import_schedule
    alter column job_id drop expression,
    alter column date_created drop expression,
    alter column date_due drop expression,
    alter column date_last_started drop expression,
    alter column date_last_successful drop expression,
    alter column state drop expression,
    alter column date_started drop expression,
    alter column heartbeat drop expression,
    alter column machine_id drop expression,
    alter column start_event_id drop expression;

-- What reads the former columns reads the new ones from now on, and keeps what was built on it.
do $$
declare
    v_view regclass;
begin
    for v_view in
        select distinct rule.ev_class::regclass
        from pg_depend as needs
        join pg_rewrite as rule
            on needs.classid = 'pg_rewrite'::regclass and rule.oid = needs.objid
        join pg_class as relation
            on relation.oid = rule.ev_class and relation.relnamespace = 'vcs'::regnamespace
        where needs.refclassid = 'pg_class'::regclass
          and needs.refobjid = 'vcs._code_import_schedule'::regclass
    loop
        execute format(
            'create or replace view %s as %s', v_view,
            regexp_replace(pg_get_viewdef(v_view), '\m([a-z_]+)_former\M', '\1', 'g')
        );
    end loop;
end;
$$;

alter table vcs._code_import_schedule
    drop column job_id_former,
    drop column date_created_former,
    drop column date_due_former,
    drop column date_last_started_former,
    drop column date_last_successful_former,
    drop column state_former,
    drop column date_started_former,
    drop column heartbeat_former,
    drop column machine_id_former,
    drop column start_event_id_former;

comment on column vcs._code_import_schedule.date_created is
    'When the present job was made.';
comment on column vcs._code_import_schedule.date_last_started is
    'Start of the newest run that has ended; null before the first.';
comment on column vcs._code_import_schedule.start_event_id is
    'Id of the start event, which is read from this row and then from the result.';

alter table vcs._code_import_schedule
    add constraint code_import_job_is_one_run unique (job_id);

-- A waiting job is in exactly one of three ranges, each in the order of date_due. 0 stands for any
-- machine, so that a job pinned elsewhere is never walked over.
create index _code_import_schedule_due_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is null and ordering is null;
create index _code_import_schedule_requested_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and requesting_user is not null and ordering is null;
create index _code_import_schedule_ordered_idx
    on vcs._code_import_schedule (coalesce(machine_id, 0), rcs_type, date_due, job_id)
    where state in ('pending', 'scheduled') and ordering is not null;

-- Most of the time nothing that is due is requested, ordered or pinned: then claims look no further.
create index _code_import_schedule_special_idx
    on vcs._code_import_schedule (date_due, job_id)
    where state in ('pending', 'scheduled')
      and num_nonnulls(requesting_user, ordering, machine_id) > 0;

-- A heartbeat changes no indexed column.
create index _code_import_schedule_running_idx
    on vcs._code_import_schedule (machine_id, date_started)
    where state = 'running';

-- What people look for. A url may be longer than an entry of a B-tree.
create index _code_import_owner_idx on vcs._code_import (owner, target);
create index _code_import_url_idx on vcs._code_import using hash (url);

-- A run's end is judged on a row that is not locked, and written if the row is still of that version.
alter type vcs._ended_run
    add attribute place bigint,
    add attribute version xid;

-- It returns something else.
drop function if exists vcs._finish_runs(bigint[], text[], bigint[]);
