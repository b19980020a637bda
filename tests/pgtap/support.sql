-- What the test files share: loaded beside pgTAP into the schema tap of the test template.
-- The files run with search_path = tap, so that a call of ours is always spelt vcs.something.

create sequence serial;
grant usage on sequence serial to public;

-- --- Things by name --------------------------------------------------------------------------

-- Remember an id under a name, for the rest of the transaction.
create function let(p_name text, p_id bigint) returns void language sql as $$
    select set_config('the.n' || md5(p_name), p_id::text, true);
$$;

create function the(p_name text) returns bigint language sql stable as $$
    select current_setting('the.n' || md5(p_name))::bigint;
$$;

-- --- Things to test on -----------------------------------------------------------------------
-- All volatile, so that they see what the same statement did before.

create function an_import(
    p_review_status   text     default 'reviewed',
    p_rcs_type        text     default 'git',
    p_update_interval interval default null
)
returns bigint language plpgsql as $$
declare
    v_serial bigint := nextval('tap.serial');
    v_is_cvs boolean := p_rcs_type = 'cvs';
begin
    return (
        select import.id
        from vcs.code_import_new(
            p_registrant => 'ada',
            p_target => 'test/import-' || v_serial,
            p_rcs_type => p_rcs_type,
            p_url => case when not v_is_cvs then 'https://example.org/' || v_serial end,
            p_cvs_root => case when v_is_cvs then ':pserver:anonymous@example.org:/cvs' end,
            p_cvs_module => case when v_is_cvs then 'module-' || v_serial end,
            p_review_status => p_review_status,
            p_update_interval => p_update_interval
        ) as import
    );
end;
$$;

create function a_machine(p_state text default 'online') returns bigint language plpgsql as $$
declare
    v_id bigint := (vcs.code_import_machine_new('host-' || nextval('tap.serial'))).id;
begin
    if p_state in ('online', 'quiescing') then
        perform vcs.code_import_machine_set_online(v_id);
    end if;
    if p_state = 'quiescing' then
        perform vcs.code_import_machine_set_quiescing(v_id, 'ada');
    end if;
    return v_id;
end;
$$;

create function hostname_of(p_machine_id bigint) returns text language sql as $$
    select hostname from vcs.code_import_machine where id = p_machine_id;
$$;

create function job_of(p_code_import_id bigint) returns bigint language sql as $$
    select id from vcs.code_import_job where code_import_id = p_code_import_id;
$$;

-- Start an import's job on a machine (any that is online will do); returns the job's id.
create function a_run(p_code_import_id bigint, p_machine_id bigint default null)
returns bigint language sql as $$
    select job.id
    from vcs.code_import_job_start(
        tap.job_of(p_code_import_id),
        coalesce(p_machine_id, tap.a_machine())
    ) as job;
$$;

-- A login for a host, or for an import from there; returns its id.
create function a_credential(
    p_host           text        default null,
    p_code_import_id bigint      default null,
    p_date_expires   timestamptz default null,
    p_secret         bytea       default '\x5ea1ed'
)
returns bigint language sql as $$
    select id
    from vcs.code_import_credential_new(
        coalesce(p_host, 'host-' || nextval('tap.serial')), 'robot', p_secret, 'key', 'ada',
        p_code_import_id, p_date_expires => p_date_expires
    );
$$;

-- Move an import's times, instead of the clock. What is null stays.
create function move(
    p_code_import_id    bigint,
    p_date_due          timestamptz default null,
    p_date_started      timestamptz default null,
    p_heartbeat         timestamptz default null,
    p_date_last_started timestamptz default null
)
returns void language sql as $$
    update vcs._code_import_schedule
    set date_due = coalesce(p_date_due, date_due),
        date_started = coalesce(p_date_started, date_started),
        heartbeat = coalesce(p_heartbeat, heartbeat),
        date_last_started = coalesce(p_date_last_started, date_last_started)
    where code_import_id = p_code_import_id;
    update vcs._code_import_machine
    set date_look_again = null,
        oldest_start = least(oldest_start, p_date_started);
$$;

-- Run an import to its end: due and started as its job says, or as given.
create function run_to(
    p_code_import_id bigint,
    p_status         text,
    p_date_due       timestamptz default null,
    p_date_started   timestamptz default null
)
returns void language plpgsql as $$
declare
    v_job_id bigint := tap.a_run(p_code_import_id);
begin
    perform tap.move(p_code_import_id, p_date_due => p_date_due, p_date_started => p_date_started);
    if p_status = 'reclaimed' then
        perform vcs.code_import_job_reclaim(v_job_id);
    else
        perform vcs.code_import_job_finish(v_job_id, p_status);
    end if;
end;
$$;

create function set_to(p_name text, p_value text) returns void language sql as $$
    select vcs.code_import_configure(p_name, p_value, 'ada');
$$;

create function due_of(p_code_import_id bigint) returns timestamptz language sql as $$
    select date_due from vcs.code_import_job where code_import_id = p_code_import_id;
$$;

-- Days and months counted in UTC, whatever the session's time zone.
create function later(p_instant timestamptz, p_interval interval)
returns timestamptz language sql immutable as $$
    select (p_instant at time zone 'UTC' + p_interval) at time zone 'UTC';
$$;

-- A partition of an hour for a time that has none.
create function make_room(p_parent text, p_instant timestamptz) returns void language plpgsql as $$
declare
    v_hour timestamptz := date_trunc('hour', p_instant, 'UTC');
begin
    if not exists (
        select from vcs._partitions(p_parent)
        where lower_bound <= p_instant and p_instant < upper_bound
    ) then
        perform set_config('role', 'code_import_owner', true);
        perform vcs._add_partition(p_parent, v_hour, v_hour + interval '1 hour');
        perform set_config('role', 'none', true);
    end if;
end;
$$;

-- Make what an import has behind it older; it comes to lie in partitions of its time.
create function age(p_code_import_id bigint, p_by interval) returns void language plpgsql as $$
declare
    v_instant timestamptz;
begin
    foreach v_instant in array array(
        select date_filed - p_by from vcs._code_import_result
        where code_import_id = p_code_import_id and isfinite(date_filed)
    ) loop
        perform tap.make_room('_code_import_result', v_instant);
    end loop;
    foreach v_instant in array array(
        select date_created - p_by from vcs._code_import_event
        where code_import_id = p_code_import_id
    ) loop
        perform tap.make_room('_code_import_event', v_instant);
    end loop;
    foreach v_instant in array array(
        select file.date_created - p_by from vcs._code_import_log_file as file
        join vcs._code_import_result as result using (job_id)
        where result.code_import_id = p_code_import_id
    ) loop
        perform tap.make_room('_code_import_log_file', v_instant);
    end loop;

    update vcs._code_import_log_file as file set date_created = file.date_created - p_by
    from vcs._code_import_result as result
    where result.job_id = file.job_id and result.code_import_id = p_code_import_id;
    update vcs._code_import_event set date_created = date_created - p_by
    where code_import_id = p_code_import_id;
    update vcs._code_import_result
    set date_filed = date_filed - p_by, date_created = date_created - p_by,
        date_job_started = date_job_started - p_by
    where code_import_id = p_code_import_id;
end;
$$;

-- --- What happened ---------------------------------------------------------------------------

-- Events are counted from here.
create function mark() returns void language sql as $$
    select tap.let('mark', coalesce(max(id), 0)) from vcs.code_import_event;
$$;

create function happened()
returns table (event_type text, code_import_id bigint, machine_id bigint, person text, data jsonb)
language sql as $$
    select event_type, code_import_id, machine_id, person, data
    from vcs.code_import_event
    where id > tap.the('mark')
    order by id;
$$;

-- The types of the events since the mark, in order, as one line.
create function news() returns text language sql as $$
    select coalesce(string_agg(event_type, ' '), '') from tap.happened();
$$;

-- --- Assertions ------------------------------------------------------------------------------

-- A call is refused with this code, about this relation (null: PostgreSQL's own refusal), in words
-- of the house: one line, no capital and no full stop; advice in a sentence.
create function refused(p_sql text, p_code text, p_relation text, p_description text)
returns text language plpgsql as $$
declare
    v_code     text;
    v_schema   text;
    v_relation text;
    v_message  text;
    v_hint     text;
begin
    begin
        execute p_sql;
        v_code := 'none';
    exception when others then
        get stacked diagnostics
            v_code = returned_sqlstate,
            v_schema = schema_name,
            v_relation = table_name,
            v_message = message_text,
            v_hint = pg_exception_hint;
    end;
    return tap.ok(
        v_code = p_code
        and (p_relation is null or (v_schema, v_relation) = ('vcs', p_relation))
        and (p_relation is null or v_message ~ '^[[:lower:]0-9][^\n]*[^.\n]$')
        and (v_hint is null or v_hint ~ '^($|[[:upper:]"].*\.$|[[:lower:]]\w*_.*\.$)'),
        p_description
    ) || case when v_code is distinct from p_code or v_relation is distinct from p_relation
        then E'\n' || tap.diag(format('got %s %s: %s (hint: %s)', v_code, v_relation, v_message,
            v_hint))
        else ''
    end;
end;
$$;

-- Exactly these kinds of callers may call a function; the owner always may.
create function callable_by(p_function regprocedure, p_kinds text[], p_description text)
returns text language sql stable as $$
    select tap.is(
        array(
            select kind.name
            from unnest(array['operator', 'worker', 'reader', 'reclaimer', 'nobody']) as kind (name)
            where has_function_privilege('tester_' || kind.name, p_function, 'execute')
            order by kind.name
        ),
        array(select unnest(p_kinds) order by 1),
        p_description
    );
$$;

-- What holds after every transaction.
create view broken_rules as
select 'a reviewed import has exactly one job' as rule, import.id
from vcs.code_import as import
where import.review_status = 'reviewed'
  and 1 <> (select count(*) from vcs.code_import_job as job where job.code_import_id = import.id)
union all
select 'the job of an import that is not reviewed is running', import.id
from vcs.code_import as import
join vcs.code_import_job as job on job.code_import_id = import.id
where import.review_status <> 'reviewed' and job.state <> 'running'
union all
select 'an import has at most one job', job.code_import_id
from vcs.code_import_job as job
group by job.code_import_id
having count(*) > 1
union all
select 'a job has an import', job.id
from vcs.code_import_job as job
where not exists (select from vcs.code_import as import where import.id = job.code_import_id)
union all
select 'a pending job has no machine, heartbeat, start or logtail', job.id
from vcs.code_import_job as job
where job.state = 'pending'
  and num_nonnulls(job.machine_id, job.heartbeat, job.date_started, job.logtail) > 0
union all
select 'a scheduled job has a machine and no heartbeat, start or logtail', job.id
from vcs.code_import_job as job
where job.state = 'scheduled'
  and (
      job.machine_id is null
      or num_nonnulls(job.heartbeat, job.date_started, job.logtail) > 0
  )
union all
select 'a running job has a machine, heartbeat, start and logtail', job.id
from vcs.code_import_job as job
where job.state = 'running'
  and num_nulls(job.machine_id, job.heartbeat, job.date_started, job.logtail) > 0
union all
select 'only a running job is killed or asked for again', job.id
from vcs.code_import_job as job
where job.state <> 'running'
  and num_nonnulls(job.kill_requested_by, job.again_requested_by) > 0
union all
select 'event ids are unique', event.id
from vcs.code_import_event as event
group by event.id
having count(*) > 1
union all
select 'a run has at most one result', result.job_id
from vcs.code_import_result as result
group by result.job_id
having count(*) > 1
union all
select 'a run that has a result has no job', result.job_id
from vcs.code_import_result as result
join vcs.code_import_job as job on job.id = result.job_id
union all
select 'the times of an import''s events go forwards', later.id
from vcs.code_import_event as earlier
join vcs.code_import_event as later
    on later.code_import_id = earlier.code_import_id and later.id > earlier.id
where later.date_created < earlier.date_created
  -- a test that moves the start of a run moves its start event too
  and later.event_type <> 'start' and earlier.event_type <> 'start';

create function rules_hold() returns text language plpgsql as $$
begin
    set constraints all immediate;
    return tap.is_empty('select * from tap.broken_rules', 'every rule about the records holds');
end;
$$;
