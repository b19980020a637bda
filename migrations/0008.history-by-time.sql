-- Partition the history by time, and number the results of each import.
-- depends: 0007.cheaper-claims

alter table vcs._code_import_schedule add column result_count integer not null default 0;

comment on column vcs._code_import_schedule.result_count is
    'How many results the import ever had: the newest n are numbered above this less n.';

alter table vcs._code_import_log_file rename to _code_import_log_file_in_one;
alter table vcs._code_import_result rename to _code_import_result_in_one;
alter table vcs._code_import_event rename to _code_import_event_in_one;
alter sequence vcs._code_import_log_file_id_seq rename to _code_import_log_file_in_one_id_seq;

create sequence vcs._code_import_log_file_id_seq as bigint;

-- Ids are unique because they come from a sequence: no index over all partitions could say so.
create table vcs._code_import_log_file (
    id            bigint      not null,
    date_created  timestamptz not null,
    job_id        bigint      not null,
    content       bytea       not null
) partition by range (date_created);

comment on table vcs._code_import_log_file is
    'Whole logs, or their ends. Kept for log_retention, apart from the results that name them.';

create table vcs._code_import_result (
    id                bigint      not null,
    date_filed        timestamptz not null,
    date_created      timestamptz not null,
    code_import_id    bigint      not null,
    machine_id        bigint      not null,
    job_id            bigint      not null,
    start_event_id    bigint      not null,
    log_file_id       bigint,
    date_job_started  timestamptz not null,
    result_number     integer     not null,
    status            text        not null,
    requesting_user   text,
    log_excerpt       text        not null,

    constraint code_import_result_ends_after_its_start check (date_created >= date_job_started),
    constraint code_import_result_is_numbered_from_one check (result_number >= 1),
    constraint code_import_result_status_is_known check (
        status in (
            'success', 'success_nochange', 'success_partial',
            'failure', 'failure_invalid', 'failure_unsupported_feature',
            'failure_forbidden', 'failure_remote_broken',
            'internal_failure', 'reclaimed', 'killed'
        )
    )
) partition by range (date_filed);

comment on table vcs._code_import_result is
    'How each run ended. No foreign keys: results outlive the imports and machines they name.';
comment on column vcs._code_import_result.date_filed is
    'When it was written, by the clock; infinity for one that stays, however old it is.';
comment on column vcs._code_import_result.result_number is
    'Counted from 1 within the import.';

create table vcs._code_import_event (
    id              bigint      not null,
    date_created    timestamptz not null,
    event_type      text        not null,
    code_import_id  bigint,
    machine_id      bigint,
    person          text,
    data            jsonb       not null,

    constraint code_import_event_type_is_known check (
        event_type in (
            'create', 'modify', 'delete',
            'start', 'finish', 'publish', 'reclaim', 'release',
            'request', 'kill',
            'online', 'offline', 'quiesce'
        )
    )
) partition by range (date_created);

comment on table vcs._code_import_event is
    'What happened, but for starts and finishes, which are read from the runs themselves.';

create table vcs._code_import_result_kept partition of vcs._code_import_result
    for values from ('infinity') to (maxvalue);
create table vcs._code_import_result_default partition of vcs._code_import_result default;
create table vcs._code_import_event_default partition of vcs._code_import_event default;
create table vcs._code_import_log_file_default partition of vcs._code_import_log_file default;

comment on table vcs._code_import_result_kept is
    'Results that are old, and among the newest of an import.';
comment on table vcs._code_import_result_default is
    'Results of a time that has no partition.';
comment on table vcs._code_import_event_default is
    'Events of a time that has no partition.';
comment on table vcs._code_import_log_file_default is
    'Logs of a time that has no partition.';

-- Room for what there is: a partition for each span of time that has some, the oldest for all that is
-- past its retention.
do $$
declare
    v_kind  record;
    v_width bigint;
    v_first bigint;
    v_lower bigint;
    v_name  text;
begin
    for v_kind in
        select
            history.name,
            extract(epoch from max(setting.interval_value))::bigint as retention,
            extract(epoch from now())::bigint as today
        from (
            values
                ('_code_import_result', array['result_retention', 'event_retention']),
                ('_code_import_event', array['event_retention']),
                ('_code_import_log_file', array['log_retention'])
        ) as history (name, settings)
        join vcs._code_import_setting as setting on setting.name = any (history.settings)
        group by history.name
    loop
        select max(given.width) into v_width
        from unnest(array[1, 2, 6, 12, 24, 48, 120, 240, 720, 2160, 4320]) as hour (count)
        cross join lateral (select hour.count * 3600) as given (width)
        where given.width <= greatest(v_kind.retention / 20, 3600);
        v_first := ((v_kind.today - v_kind.retention) / v_width - 1) * v_width;

        -- The start of a run becomes an event of its own when it is released.
        for v_lower in execute format(
            'select distinct greatest(floor(extract(epoch from written.date) / $1)::bigint * $1, $2)
             from (
                 select date_created from vcs.%I
                 union all
                 select date_started from vcs._code_import_schedule where state = ''running''
             ) as written (date)
             where written.date <= now()',
            v_kind.name || '_in_one'
        ) using v_width, v_first
        loop
            v_name := v_kind.name || '_p'
                || to_char(to_timestamp(v_lower) at time zone 'UTC', 'YYYYMMDD_HH24');
            execute format(
                'create table vcs.%I partition of vcs.%I for values from (%s) to (%L)',
                v_name, v_kind.name,
                case when v_lower = v_first then 'minvalue' else quote_literal(to_timestamp(v_lower)) end,
                to_timestamp(v_lower + v_width)
            );
            execute format('comment on table vcs.%I is %L', v_name, 'A span of ' || v_kind.name || '.');
        end loop;
    end loop;
end;
$$;

insert into vcs._code_import_log_file (id, date_created, job_id, content)
select file.id, file.date_created, file.job_id, file.content
from vcs._code_import_log_file_in_one as file;

insert into vcs._code_import_event
    (id, date_created, event_type, code_import_id, machine_id, person, data)
select
    event.id, event.date_created, event.event_type, event.code_import_id, event.machine_id,
    event.person, event.data
from vcs._code_import_event_in_one as event;

insert into vcs._code_import_result (
    id, date_filed, date_created, code_import_id, machine_id, job_id, start_event_id,
    log_file_id, date_job_started, result_number, status, requesting_user, log_excerpt
)
select
    result.id, result.date_created, result.date_created, result.code_import_id,
    result.machine_id, result.job_id, result.start_event_id, result.log_file_id,
    result.date_job_started,
    row_number() over (partition by result.code_import_id order by result.id),
    result.status, result.requesting_user, result.log_excerpt
from vcs._code_import_result_in_one as result;

update vcs._code_import_schedule as schedule
set result_count = counted.results
from (
    select result.code_import_id, count(*) as results
    from vcs._code_import_result as result
    group by result.code_import_id
) as counted
where schedule.code_import_id = counted.code_import_id;

do $$
begin
    perform setval('vcs._code_import_log_file_id_seq', old.last_value, old.is_called)
    from vcs._code_import_log_file_in_one_id_seq as old;
end;
$$;

-- What reads the old tables reads the new ones from now on, and keeps what was built on it.
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
          and needs.refobjid in (
              'vcs._code_import_log_file_in_one'::regclass,
              'vcs._code_import_result_in_one'::regclass,
              'vcs._code_import_event_in_one'::regclass
          )
    loop
        execute format(
            'create or replace view %s as %s', v_view,
            regexp_replace(pg_get_viewdef(v_view), '\m(_code_import_[a-z_]+)_in_one\M', '\1', 'g')
        );
    end loop;
end;
$$;

drop table vcs._code_import_log_file_in_one;
drop table vcs._code_import_result_in_one;
drop table vcs._code_import_event_in_one;

create index _code_import_log_file_id_idx on vcs._code_import_log_file (id);

create index _code_import_result_id_idx on vcs._code_import_result (id);
create index _code_import_result_job_idx on vcs._code_import_result (job_id);
create index _code_import_result_start_event_idx on vcs._code_import_result (start_event_id);
create index _code_import_result_code_import_idx on vcs._code_import_result (code_import_id, id);
create index _code_import_result_machine_idx on vcs._code_import_result (machine_id, id);
-- Of the rare ones alone: any other status is found soon among the newest.
create index _code_import_result_rare_status_idx
    on vcs._code_import_result (status, id)
    where status <> 'success_nochange' and status <> 'success';

create index _code_import_event_id_idx on vcs._code_import_event (id);
create index _code_import_event_code_import_idx
    on vcs._code_import_event (code_import_id, id) where code_import_id is not null;
create index _code_import_event_machine_idx
    on vcs._code_import_event (machine_id, id) where machine_id is not null;
create index _code_import_event_type_idx on vcs._code_import_event (event_type, id);

create table vcs._code_import_partition (
    relation      text   primary key,
    next_block    bigint not null,
    newest_id     bigint,
    results_kept  bigint not null
);

comment on table vcs._code_import_partition is
    'How far tidy-up has looked through a partition of results for those that stay.';
comment on column vcs._code_import_partition.newest_id is
    'The newest result that was there at the beginning: where there is a newer one, look again.';
comment on column vcs._code_import_partition.results_kept is
    'How many results of each import were to stay at the beginning: where it is more now, look again.';

-- It returns something else.
drop function if exists vcs.code_import_tidy_up();
