begin;
select plan(17);

-- Given a requested, pinned run of an import that failed twice before
select let('import', an_import());
select run_to(the('import'), 'failure') from generate_series(1, 2);
select let('machine', a_machine());
select vcs.code_import_job_request(job_of(the('import')), 'bob');
select vcs.code_import_job_schedule(job_of(the('import')), the('machine'), 4);
select move(the('import'), p_date_due => now() - interval '3 hours');
select let('job', a_run(the('import'), the('machine')));
select let('results', count(*)) from vcs.code_import_result;
select mark();

select results_eq(
    $$ select id > the('job'), code_import_id, state, machine_id, date_due, requesting_user,
       ordering
       from vcs.code_import_job_release(the('job')) $$,
    $$ values (true, the('import'), 'scheduled'::text, the('machine'), now() - interval '3 hours',
               'bob'::text, 4) $$,
    'a released run leaves a new job with the same due date, requester, pin and ordering'
);
select is(
    (select count(*) from vcs.code_import_result), the('results'), 'there is no result'
);
select is(
    (select consecutive_failure_count from vcs.code_import where id = the('import')), 2,
    'nothing is counted'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, data ->> 'job_id' from happened() $$,
    $$ values ('release'::text, the('import'), the('machine'), the('job')::text) $$,
    'one event release names import, machine and run'
);
select is(
    (select count(*) from vcs.code_import_event
     where event_type = 'start' and code_import_id = the('import')),
    3::bigint,
    'the event of its start stays'
);

-- Not pinned: any machine may take the next one
select let('plain', an_import());
select results_eq(
    $$ select state, machine_id from vcs.code_import_job_release(a_run(the('plain'))) $$,
    $$ values ('pending'::text, null::bigint) $$,
    'a run that was not pinned is released to any machine'
);

-- Of an import that stopped meanwhile
select let('suspended', an_import());
select let('job of the suspended', a_run(the('suspended')));
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}');
select is_empty(
    $$ select * from vcs.code_import_job_release(the('job of the suspended')) $$,
    'a run of an import that is no longer reviewed leaves no row'
);
select is(job_of(the('suspended')), null, 'and no job');

-- Refusals
select refused(
    $$ select * from vcs.code_import_job_release(the('job')) $$,
    'IJ410', 'code_import_job', 'a released run is gone'
);
select refused(
    $$ select * from vcs.code_import_job_finish(the('job'), 'success') $$,
    'IJ410', 'code_import_job', 'and cannot be finished'
);
select let('killed', a_run(an_import()));
select vcs.code_import_job_kill(the('killed'), 'bob');
select refused(
    $$ select * from vcs.code_import_job_release(the('killed')) $$,
    'IJ409', 'code_import_job', 'a killed run cannot be released'
);
select refused(
    $$ select * from vcs.code_import_job_release(job_of(an_import())) $$,
    'IJ409', 'code_import_job', 'a waiting job cannot be released'
);
select refused(
    $$ select * from vcs.code_import_job_release(null) $$,
    'IJ400', 'code_import_job', 'a job is needed'
);

-- Whose
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select refused(
    $$ select * from vcs.code_import_job_release(the('owned')) $$,
    'IJ403', 'code_import_job', 'a worker may not release the run of another''s machine'
);
set local session authorization tester_worker;
select lives_ok(
    $$ select * from vcs.code_import_job_release(the('owned')) $$,
    'it may release its own'
);
reset session authorization;

select callable_by(
    'vcs.code_import_job_release(bigint)', array['operator', 'worker'],
    'operators and workers may release a run'
);
select rules_hold();
select * from finish();
rollback;
