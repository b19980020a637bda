begin;
select plan(22);

-- Given a run whose last sign of life is four minutes old
select let('import', an_import());
select let('machine', a_machine());
select let('job', a_run(the('import'), the('machine')));
select move(the('import'), p_heartbeat => now() - interval '4 minutes');
update vcs._code_import_machine set heartbeat = now() - interval '4 minutes'
where id = the('machine');
select mark();

select is(
    vcs.code_import_job_update_heartbeat(the('job'), 'fetching'), 'continue',
    'a heartbeat answers continue'
);
select results_eq(
    $$ select heartbeat, logtail, state from vcs.code_import_job where id = the('job') $$,
    $$ values (now(), 'fetching'::text, 'running'::text) $$,
    'the job has beaten now and shows the newest lines'
);
select is(
    (select heartbeat from vcs.code_import_machine where id = the('machine')), now(),
    'its machine has beaten too'
);
select is(news(), '', 'a heartbeat records no event');

-- The logtail
select vcs.code_import_job_update_heartbeat(the('job'), null);
select is(
    (select logtail from vcs.code_import_job where id = the('job')), 'fetching',
    'a null logtail leaves the old one'
);
select vcs.code_import_job_update_heartbeat(the('job'), '');
select is(
    (select logtail from vcs.code_import_job where id = the('job')), '',
    'an empty one replaces it'
);
select vcs.code_import_job_update_heartbeat(the('job'), repeat('a', 100) || repeat('b', 65536));
select is(
    (select logtail from vcs.code_import_job where id = the('job')), repeat('b', 65536),
    'the newest 64 KiB are kept unless set otherwise'
);
select set_to('logtail_limit', '10 bytes');
select vcs.code_import_job_update_heartbeat(the('job'), 'x' || repeat('é', 6));
select is(
    (select logtail from vcs.code_import_job where id = the('job')), repeat('é', 5),
    'the newest logtail_limit bytes'
);
select set_to('logtail_limit', '9 bytes');
select vcs.code_import_job_update_heartbeat(the('job'), 'x' || repeat('é', 6));
select is(
    (select logtail from vcs.code_import_job where id = the('job')), repeat('é', 4),
    'and cut between characters'
);
select vcs.code_import_job_update_heartbeat(the('job'), repeat('€', 3) || '𝄞');
select is(
    (select logtail from vcs.code_import_job where id = the('job')), '€𝄞',
    'also of three and four bytes'
);

-- Time goes forwards
select move(the('import'), p_heartbeat => now() + interval '1 minute');
select vcs.code_import_job_update_heartbeat(the('job'), null);
select is(
    (select heartbeat from vcs.code_import_job where id = the('job')), now() + interval '1 minute',
    'a heartbeat is never moved backwards'
);

-- Refusals
select refused(
    $$ select vcs.code_import_job_update_heartbeat(job_of(an_import()), '') $$,
    'IJ409', 'code_import_job', 'a waiting job has no heartbeat'
);
select refused(
    $$ select vcs.code_import_job_update_heartbeat(-1, '') $$,
    'IJ410', 'code_import_job', 'a run that never was has no heartbeat'
);
select refused(
    $$ select vcs.code_import_job_update_heartbeat(null, '') $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select let('deleted', an_import());
select let('job of the deleted', a_run(the('deleted')));
select vcs.code_import_delete(the('deleted'));
select refused(
    $$ select vcs.code_import_job_update_heartbeat(the('job of the deleted'), '') $$,
    'IJ410', 'code_import_job', 'the run of a deleted import has ended'
);
select vcs.code_import_job_reclaim(the('job'));
select refused(
    $$ select vcs.code_import_job_update_heartbeat(the('job'), '') $$,
    'IJ410', 'code_import_job', 'a reclaimed run has ended'
);

-- Whose
select let('owned import', an_import());
select let('owned job', job_of(the('owned import')));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned job'), the('machine'));
select is(
    vcs.code_import_job_update_heartbeat(the('owned job'), 'mine'), 'continue',
    'a worker beats for its own run'
);
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_job_update_heartbeat(the('owned job'), 'not mine') $$,
    'IJ403', 'code_import_job', 'another worker may not'
);
set local session authorization tester_operator;
select is(
    vcs.code_import_job_update_heartbeat(the('owned job'), null), 'continue',
    'an operator may'
);
reset session authorization;
select is(
    (select logtail from vcs.code_import_job where id = the('owned job')), 'mine',
    'a refused heartbeat leaves the logtail'
);

select callable_by(
    'vcs.code_import_job_update_heartbeat(bigint, text)', array['operator', 'worker'],
    'operators and workers may beat'
);
select rules_hold();
select * from finish();
rollback;
