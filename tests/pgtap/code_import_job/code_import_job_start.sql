begin;
select plan(23);

-- Given a requested job that has been due for an hour,
select let('import', an_import());
select let('machine', a_machine());
select let('job', job_of(the('import')));
select vcs.code_import_job_request(the('job'), 'bob');
select move(the('import'), p_date_due => now() - interval '1 hour');
select mark();

-- when a machine starts it,
select results_eq(
    $$ select id, state, machine_id, date_started, heartbeat, logtail
       from vcs.code_import_job_start(the('job'), the('machine')) $$,
    $$ values (the('job'), 'running'::text, the('machine'), now(), now(), ''::text) $$,
    'a started job is running on the machine since now, with an empty logtail'
);
select results_eq(
    $$ select date_due, requesting_user from vcs.code_import_job where id = the('job') $$,
    $$ values (now() - interval '1 hour', 'bob'::text) $$,
    'its due date and its requester stay'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, person from happened() $$,
    $$ values ('start'::text, the('import'), the('machine'), null::text) $$,
    'one event start names the import and the machine'
);

-- A job that is not due yet, and one that is pinned
select let('later', an_import());
select move(the('later'), p_date_due => now() + interval '1 day');
select lives_ok(
    $$ select vcs.code_import_job_start(job_of(the('later')), the('machine')) $$,
    'a job that is not due yet can be started by its id'
);
select let('pinned', an_import());
select let('other machine', a_machine());
select vcs.code_import_job_schedule(job_of(the('pinned')), the('machine'));
select refused(
    $$ select vcs.code_import_job_start(job_of(the('pinned')), the('other machine')) $$,
    'IJ409', 'code_import_job', 'a job scheduled for another machine cannot be started'
);
select is(
    (vcs.code_import_job_start(job_of(the('pinned')), the('machine'))).state, 'running',
    'a job scheduled for this machine can'
);

-- Time goes forwards
select let('ahead', an_import());
update vcs._code_import_schedule set date_created = now() + interval '1 minute'
    where code_import_id = the('ahead');
select results_eq(
    $$ select date_started, heartbeat from vcs.code_import_job_start(job_of(the('ahead')),
       the('machine')) $$,
    $$ values (now() + interval '1 minute', now() + interval '1 minute') $$,
    'a run never starts before its job was made'
);

-- Refusals
select refused(
    $$ select vcs.code_import_job_start(the('job'), the('other machine')) $$,
    'IJ409', 'code_import_job', 'a running job cannot be started'
);
select refused(
    $$ select vcs.code_import_job_start(-1, the('machine')) $$,
    'IJ410', 'code_import_job', 'a job that never was cannot be started'
);
select let('fresh', an_import());
select refused(
    $$ select vcs.code_import_job_start(job_of(the('fresh')), -1) $$,
    'IJ404', 'code_import_machine', 'an unknown machine cannot start a job'
);
select refused(
    format($$ select vcs.code_import_job_start(job_of(the('fresh')), a_machine(%L)) $$, state),
    'IJ409', 'code_import_machine', format('a machine that is %s cannot start a job', state)
)
from unnest(array['offline', 'quiescing']) as given (state);
select refused(
    $$ select vcs.code_import_job_start(null, the('machine')) $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select refused(
    $$ select vcs.code_import_job_start(job_of(the('fresh')), null) $$,
    'IJ400', 'code_import_machine', 'a machine is needed'
);
select is(
    (select state from vcs.code_import_job where id = job_of(the('fresh'))), 'pending',
    'a refused start leaves the job as it was'
);

-- Whose machine
select let('job of a worker', job_of(an_import()));
set local session authorization tester_worker;
select lives_ok(
    $$ select vcs.code_import_job_start(the('job of a worker'), the('machine')) $$,
    'a worker may start a job on a machine that nobody owns'
);
reset session authorization;
select is(
    (select owner_role from vcs.code_import_machine where id = the('machine')), 'tester_worker',
    'and owns the machine from then on'
);
select let('job of another', job_of(an_import()));
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_job_start(the('job of another'), the('machine')) $$,
    'IJ403', 'code_import_machine', 'another worker may not start a job on it'
);
reset session authorization;
set local session authorization tester_operator;
select lives_ok(
    $$ select vcs.code_import_job_start(the('job of another'), the('machine')) $$,
    'an operator may'
);
select let('job of an operator', job_of(the('fresh')));
select lives_ok(
    $$ select vcs.code_import_job_start(the('job of an operator'), the('other machine')) $$,
    'an operator may start one on a machine that nobody owns'
);
reset session authorization;
select is(
    array(select owner_role from vcs.code_import_machine
          where id in (the('machine'), the('other machine')) order by id),
    array['tester_worker', null],
    'and never becomes its owner'
);

select callable_by(
    'vcs.code_import_job_start(bigint, bigint)', array['operator', 'worker'],
    'operators and workers may start jobs'
);
select rules_hold();
select * from finish();
rollback;
