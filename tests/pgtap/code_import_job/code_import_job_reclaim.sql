begin;
select plan(20);

-- Given a requested, pinned run that has not been heard of for an hour
select let('import', an_import());
select let('machine', a_machine());
select vcs.code_import_job_request(job_of(the('import')), 'bob');
select vcs.code_import_job_schedule(job_of(the('import')), the('machine'), 4);
select let('job', a_run(the('import'), the('machine')));
select vcs.code_import_job_update_heartbeat(the('job'), 'last words');
select move(the('import'),
    p_date_due => now() - interval '3 hours',
    p_date_started => now() - interval '2 hours', p_heartbeat => now() - interval '1 hour');
select mark();

select results_eq(
    $$ select code_import_id, machine_id, job_id, requesting_user, log_excerpt, log_file_id, status,
              date_job_started, job_duration, date_created
       from vcs.code_import_job_reclaim(the('job')) $$,
    $$ values (the('import'), the('machine'), the('job'), 'bob'::text, 'last words'::text,
               null::bigint, 'reclaimed'::text, now() - interval '2 hours', interval '2 hours',
               now()) $$,
    'the result of a reclaimed run tells all that is known of it'
);
select results_eq(
    $$ select state, date_due, requesting_user, machine_id, ordering, id > the('job')
       from vcs.code_import_job where code_import_id = the('import') $$,
    $$ values ('pending'::text, now(), null::text, null::bigint, null::integer, true) $$,
    'the import has a new job, due now, without a requester, pin or ordering'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, data ->> 'job_id' from happened() $$,
    $$ values ('reclaim'::text, the('import'), the('machine'), the('job')::text),
              ('finish', the('import'), the('machine'), the('job')::text) $$,
    'an event reclaim names the run, and an event finish follows'
);
select results_eq(
    $$ select consecutive_failure_count, date_last_successful, review_status
       from vcs.code_import where id = the('import') $$,
    $$ values (0, null::timestamptz, 'reviewed'::text) $$,
    'a reclaimed run is no failure of the source'
);

-- Whatever went before: no back-off
select let('failed', an_import());
select run_to(the('failed'), 'failure') from generate_series(1, 3);
select run_to(the('failed'), 'reclaimed');
select is(due_of(the('failed')), now(), 'a reclaim does not wait, whatever failed before');
select is(
    (select consecutive_failure_count from vcs.code_import where id = the('failed')), 3,
    'and leaves the count of failures as it was'
);

-- An import that stopped meanwhile
select let('suspended', an_import());
select let('job of the suspended', a_run(the('suspended')));
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}');
select vcs.code_import_job_reclaim(the('job of the suspended'));
select is(job_of(the('suspended')), null, 'an import that is not reviewed gets no next job');

-- The limit of reclaims in a row
select let('killer', an_import());
select run_to(the('killer'), 'reclaimed') from generate_series(1, 20);
select is(
    (select review_status from vcs.code_import where id = the('killer')), 'reviewed',
    'reclaims alone stop no import, unless a limit is set'
);
select set_to('consecutive_reclaim_limit', '3');
select let('second killer', an_import());
select run_to(the('second killer'), 'reclaimed') from generate_series(1, 2);
select run_to(the('second killer'), 'internal_failure');
select run_to(the('second killer'), 'reclaimed') from generate_series(1, 2);
select is(
    (select review_status from vcs.code_import where id = the('second killer')), 'reviewed',
    'a finished run between them starts the count afresh'
);
select mark();
select run_to(the('second killer'), 'reclaimed');
select results_eq(
    $$ select review_status, job_of(the('second killer'))
       from vcs.code_import where id = the('second killer') $$,
    $$ values ('failing'::text, null::bigint) $$,
    'that many in a row turn the import failing, without a job'
);
select results_eq(
    $$ select event_type, person, data ->> 'review_status', data ->> 'old_review_status'
       from happened() where event_type = 'modify' $$,
    $$ values ('modify'::text, null::text, 'failing'::text, 'reviewed'::text) $$,
    'which an event modify tells, without a person'
);
select is(news(), 'online start reclaim modify finish', 'the event finish comes last');

-- Refusals
select refused(
    $$ select vcs.code_import_job_reclaim(job_of(an_import())) $$,
    'IJ409', 'code_import_job', 'a waiting job cannot be reclaimed'
);
select refused(
    $$ select vcs.code_import_job_reclaim(the('job')) $$,
    'IJ410', 'code_import_job', 'a run that was reclaimed is gone'
);
select refused(
    $$ select vcs.code_import_job_finish(the('job'), 'success') $$,
    'IJ410', 'code_import_job', 'it cannot be finished'
);
select refused(
    $$ select vcs.code_import_job_reclaim(null) $$,
    'IJ400', 'code_import_job', 'a job is needed'
);

-- Whose: a worker may reclaim its own runs at once
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_job_reclaim(the('owned')) $$,
    'IJ403', 'code_import_job', 'a worker may not reclaim the run of another''s machine'
);
set local session authorization tester_worker;
select is(
    (vcs.code_import_job_reclaim(the('owned'))).status, 'reclaimed',
    'it may reclaim its own, even a moment after its heartbeat'
);
reset session authorization;

select callable_by(
    'vcs.code_import_job_reclaim(bigint)', array['operator', 'worker'],
    'operators and workers may reclaim a run'
);
select rules_hold();
select * from finish();
rollback;
