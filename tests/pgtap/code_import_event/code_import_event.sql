begin;
select plan(15);

select columns_are('vcs', 'code_import_event', array[
    'id', 'date_created', 'event_type', 'code_import_id', 'machine_id', 'person', 'data'
], 'an event has these columns');
select col_type_is('vcs', 'code_import_event', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('event_type', 'text'),
    ('code_import_id', 'bigint'),
    ('machine_id', 'bigint'), ('person', 'text'), ('data', 'jsonb')
) as given (name, type);

-- A whole life, in the order in which it happened
select let('import', an_import('new'));
select let('machine', a_machine());
create function pg_temp.step(p_what text) returns void language plpgsql as $$
declare
    v_job bigint := job_of(the('import'));
begin
    case p_what
        when 'approve' then perform vcs.code_import_update(the('import'),
            '{"review_status": "reviewed"}', 'bob');
        when 'request' then perform vcs.code_import_request(the('import'), 'bob');
        when 'start' then perform vcs.code_import_job_start(v_job, the('machine'));
        when 'beat' then perform vcs.code_import_job_update_heartbeat(v_job, 'x');
        when 'success' then perform vcs.code_import_job_finish(v_job, 'success');
        when 'failure' then perform vcs.code_import_job_finish(v_job, 'failure');
        when 'kill' then perform vcs.code_import_job_kill(v_job, 'bob');
        when 'killed' then perform vcs.code_import_job_finish(v_job, 'killed');
        when 'release' then perform vcs.code_import_job_release(v_job);
        when 'reclaim' then perform vcs.code_import_job_reclaim(v_job);
        when 'pin' then perform vcs.code_import_job_schedule(v_job, the('machine'));
        when 'delete' then perform vcs.code_import_delete(the('import'), 'bob');
    end case;
end;
$$;
select pg_temp.step(what) from unnest(array[
    'approve', 'start', 'beat', 'success', 'request', 'start', 'failure', 'start', 'kill', 'killed',
    'start', 'release',
    'start', 'reclaim', 'pin', 'start', 'success', 'start'
]) as given (what);
create temporary table trail as select * from vcs.code_import_event
    where code_import_id = the('import');
select is(
    (select string_agg(event_type, ' ' order by id) from trail),
    'create modify start publish finish request start finish start kill finish start release start reclaim finish '
    'modify start finish start',
    'ids grow in the order in which things happened to an import'
);
select is(
    (select string_agg(event_type, ' ' order by id) from vcs.code_import_event
        where machine_id = the('machine')),
    'online start publish finish start finish start kill finish start release start reclaim finish modify start finish start',
    'and to a machine'
);

-- Ids never change, whether an event is stored or derived
select pg_temp.step(what) from unnest(array['success', 'start', 'release', 'start', 'reclaim',
    'start', 'delete']) as given (what);
select results_eq(
    $$ select trail.* from trail order by id $$,
    $$ select event.* from vcs.code_import_event as event join trail using (id) order by id $$,
    'what happened stays as it was told, whatever happens next'
);
select is_empty(
    'select id from vcs.code_import_event group by id having count(*) > 1',
    'no two events have one id'
);
select is(
    (select string_agg(event_type, ' ' order by id) from vcs.code_import_event
     where code_import_id = the('import') and id > (select max(id) from trail)),
    'finish start release start reclaim finish start delete',
    'a run that ends with its import keeps the event of its start'
);
select is_empty('select * from vcs.code_import_event where data is null',
    'there is always data, if only {}');
select is(
    (select array_agg(distinct event_type order by event_type) from vcs.code_import_event
     where event_type in ('start', 'finish', 'reclaim', 'release') and (data ->> 'job_id') is null),
    null, 'what happens to a run names it in data'
);
select * from finish();
rollback;
