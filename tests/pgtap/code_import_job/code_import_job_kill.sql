begin;
select plan(18);

select let('import', an_import());
select let('machine', a_machine());
select let('job', a_run(the('import'), the('machine')));
select mark();

select results_eq(
    $$ select id, state, kill_requested_by from vcs.code_import_job_kill(the('job'), 'bob') $$,
    $$ values (the('job'), 'running'::text, 'bob'::text) $$,
    'a killed job goes on running until its worker hears of it'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, person from happened() $$,
    $$ values ('kill'::text, the('import'), the('machine'), 'bob'::text) $$,
    'one event kill names import, machine and person'
);
select is(
    vcs.code_import_job_update_heartbeat(the('job'), null), 'stop',
    'its heartbeat answers stop'
);
select is(
    vcs.code_import_job_update_heartbeat(the('job'), null), 'stop',
    'and again, as often as it asks'
);
select results_eq(
    $$ select directive from vcs.code_import_job_update_heartbeats(
           array[the('job')], array[null]::text[]) $$,
    $$ values ('stop'::text) $$,
    'so does the batch form'
);

-- Killing again changes nothing
select is(
    (vcs.code_import_job_kill(the('job'), 'eve')).kill_requested_by, 'bob',
    'killing again leaves the first person'
);
select is(news(), 'kill', 'and records nothing');

-- How it ends
select is(
    (vcs.code_import_job_finish(the('job'), 'killed')).status, 'killed',
    'its worker finishes it as killed'
);
select results_eq(
    $$ select consecutive_failure_count, review_status from vcs.code_import
       where id = the('import') $$,
    $$ values (0, 'reviewed'::text) $$,
    'which is no failure of the source'
);
select is(
    (select kill_requested_by from vcs.code_import_job where code_import_id = the('import')), null,
    'the next job is not killed'
);
select let('done', a_run(an_import()));
select vcs.code_import_job_kill(the('done'), 'bob');
select is(
    (vcs.code_import_job_finish(the('done'), 'success')).status, 'success',
    'a run that was done before it heard may finish with its own status'
);
select let('deaf import', an_import());
select let('deaf', a_run(the('deaf import')));
select vcs.code_import_job_kill(the('deaf'), 'bob');
select is(
    (vcs.code_import_job_reclaim(the('deaf'))).status, 'reclaimed',
    'a run whose worker never hears is reclaimed'
);

-- Refusals
select refused(
    $$ select vcs.code_import_job_kill(job_of(an_import()), 'bob') $$,
    'IJ409', 'code_import_job', 'a waiting job cannot be killed'
);
select refused(
    $$ select vcs.code_import_job_kill(the('job'), 'bob') $$,
    'IJ410', 'code_import_job', 'a run that has ended cannot be killed'
);
select refused(
    $$ select vcs.code_import_job_kill(null, 'bob') $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select refused(
    $$ select vcs.code_import_job_kill(a_run(an_import()), null) $$,
    'IJ400', 'code_import_job', 'a person is needed'
);

select callable_by(
    'vcs.code_import_job_kill(bigint, text)', array['operator'],
    'operators may kill runs'
);
select rules_hold();
select * from finish();
rollback;
