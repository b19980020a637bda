begin;
select plan(21);

select columns_are('vcs', 'code_import_job', array[
    'id', 'date_created', 'code_import_id', 'machine_id', 'date_due', 'state', 'requesting_user',
    'ordering', 'heartbeat',
    'logtail', 'date_started', 'kill_requested_by', 'again_requested_by',
    'rcs_type'
], 'a job has these columns');
select col_type_is('vcs', 'code_import_job', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('code_import_id', 'bigint'),
    ('machine_id', 'bigint'),
    ('date_due', 'timestamp with time zone'), ('state', 'text'), ('requesting_user', 'text'),
    ('ordering', 'integer'),
    ('heartbeat', 'timestamp with time zone'), ('logtail', 'text'),
    ('date_started', 'timestamp with time zone'),
    ('kill_requested_by', 'text'), ('again_requested_by', 'text'),
    ('rcs_type', 'text')
) as given (name, type);

-- A whole life, seen through the view
select let('import', an_import());
select let('machine', a_machine());
select results_eq(
    $$ select state, num_nonnulls(machine_id, heartbeat, date_started, logtail)
       from vcs.code_import_job $$,
    $$ values ('pending'::text, 0) $$, 'pending: no machine, heartbeat, start or logtail'
);
select let('first', job_of(the('import')));
select vcs.code_import_job_schedule(the('first'), the('machine'));
select results_eq(
    $$ select state, machine_id, num_nonnulls(heartbeat, date_started, logtail)
       from vcs.code_import_job $$,
    $$ values ('scheduled'::text, the('machine'), 0) $$,
    'scheduled: a machine, and none of the rest'
);
select a_run(the('import'), the('machine'));
select results_eq(
    $$ select state, machine_id, num_nonnulls(heartbeat, date_started, logtail)
       from vcs.code_import_job $$,
    $$ values ('running'::text, the('machine'), 3) $$, 'running: all four'
);

-- An id names one run, and grows
create temporary table ids (id bigint, how text);
insert into ids values (the('first'), 'first');
select vcs.code_import_job_finish(the('first'), 'success');
insert into ids values (job_of(the('import')), 'after a finish');
select vcs.code_import_job_reclaim(a_run(the('import')));
insert into ids values (job_of(the('import')), 'after a reclaim');
select vcs.code_import_job_release(a_run(the('import')));
insert into ids values (job_of(the('import')), 'after a release');
select vcs.code_import_update(the('import'), '{"review_status": "suspended"}');
select vcs.code_import_update(the('import'), '{"review_status": "reviewed"}');
insert into ids values (job_of(the('import')), 'after a suspension');
select results_eq(
    'select how from ids order by id',
    $$ values ('first'::text), ('after a finish'), ('after a reclaim'), ('after a release'),
       ('after a suspension') $$,
    'ids grow from run to run of an import'
);
select is((select count(distinct id) from ids), 5::bigint, 'and are never used again');
select rules_hold();
select * from finish();
rollback;
