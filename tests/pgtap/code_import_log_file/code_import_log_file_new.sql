begin;
select plan(14);

select let('machine', a_machine());
select let('job', a_run(an_import(), the('machine')));
select mark();
select let('log', vcs.code_import_log_file_new(the('job'), '\x00ff0a'));
select results_eq(
    $$ select date_created, job_id, size, content from vcs.code_import_log_file
       where id = the('log') $$,
    $$ values (now(), the('job'), 3::bigint, '\x00ff0a'::bytea) $$,
    'the bytes of a whole log are kept as they are'
);
select is(news(), '', 'without an event');
select let('empty', vcs.code_import_log_file_new(the('job'), ''));
select is((select size from vcs.code_import_log_file where id = the('empty')), 0::bigint,
    'an empty log is one');
select set_to('log_file_limit', '4 bytes');
select let('cut', vcs.code_import_log_file_new(the('job'), '\x010203040506'));
select is(
    (select content from vcs.code_import_log_file where id = the('cut')), '\x03040506'::bytea,
    'of a long one the last log_file_limit bytes'
);
select set_to('log_file_limit', null);
select let('long', vcs.code_import_log_file_new(the('job'),
    convert_to(repeat('x', 16777216 + 10), 'UTF8')));
select is(
    (select size from vcs.code_import_log_file where id = the('long')), 16777216::bigint,
    'which is 16 MiB unless set otherwise'
);

-- Refusals
select refused(
    $$ select vcs.code_import_log_file_new(job_of(an_import()), 'x') $$,
    'IJ409', 'code_import_job', 'a waiting job has no log'
);
select refused($$ select vcs.code_import_log_file_new(-1, 'x') $$, 'IJ410', 'code_import_job',
    'nor a run that never was');
select refused($$ select vcs.code_import_log_file_new(null, 'x') $$, 'IJ400', 'code_import_job',
    'a job is needed');
select refused($$ select vcs.code_import_log_file_new(the('job'), null) $$, 'IJ400',
    'code_import_log_file', 'content is needed');
select vcs.code_import_job_finish(the('job'), 'success', the('log'));
select refused(
    $$ select vcs.code_import_log_file_new(the('job'), 'x') $$, 'IJ410', 'code_import_job',
    'a run that has ended gets no log'
);

-- Whose
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
select lives_ok($$ select vcs.code_import_log_file_new(the('owned'), 'x') $$,
    'a worker stores the logs of its own runs');
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_log_file_new(the('owned'), 'x') $$, 'IJ403', 'code_import_job',
    'and not those of another''s'
);
reset session authorization;

select callable_by('vcs.code_import_log_file_new(bigint, bytea)', array['operator', 'worker'],
    'operators and workers may store logs');
select rules_hold();
select * from finish();
rollback;
