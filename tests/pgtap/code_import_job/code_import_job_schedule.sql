begin;
select plan(19);

select let('import', an_import());
select let('job', job_of(the('import')));
select let('machine', a_machine());
select mark();

select results_eq(
    $$ select id, state, machine_id, ordering
       from vcs.code_import_job_schedule(the('job'), the('machine'), 5, 'bob') $$,
    $$ values (the('job'), 'scheduled'::text, the('machine'), 5) $$,
    'a job is pinned to a machine and gets its place in the order'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, person from happened() $$,
    $$ values ('modify'::text, the('import'), the('machine'), 'bob'::text) $$,
    'one event modify names import, machine and person'
);

-- A machine in any state
select lives_ok(
    format($$ select vcs.code_import_job_schedule(the('job'), a_machine(%L)) $$, state),
    format('a machine may be %s when a job is pinned to it', state)
)
from unnest(array['offline', 'online', 'quiescing']) as given (state);
select is(
    (select ordering from vcs.code_import_job where id = the('job')), null,
    'an ordering that is not given ends'
);

-- Unpinned
select results_eq(
    $$ select state, machine_id, ordering
       from vcs.code_import_job_schedule(the('job'), null, 2, 'bob') $$,
    $$ values ('pending'::text, null::bigint, 2) $$,
    'a null machine unpins it, and an ordering holds without a pin'
);
select is(
    (vcs.code_import_job_schedule(the('job'), null)).ordering, null,
    'without a machine and an ordering it is as if never scheduled'
);
select mark();
select vcs.code_import_job_schedule(the('job'), null, null, 'bob');
select is(news(), '', 'what changes nothing records nothing');

-- Both end with the run: finished or reclaimed
select let(how, an_import()) from unnest(array['finished', 'reclaimed']) as given (how);
select vcs.code_import_job_schedule(job_of(the(how)), the('machine'), 5)
from unnest(array['finished', 'reclaimed']) as given (how);
select a_run(the(how), the('machine')) from unnest(array['finished', 'reclaimed']) as given (how);
select results_eq(
    $$ select ordering from vcs.code_import_job where id = job_of(the('finished')) $$,
    $$ values (5) $$,
    'a running job still has its ordering'
);
select vcs.code_import_job_finish(job_of(the('finished')), 'success');
select vcs.code_import_job_reclaim(job_of(the('reclaimed')));
select results_eq(
    format(
        'select state, machine_id, ordering from vcs.code_import_job where id = %s',
        job_of(the(how))
    ),
    $$ values ('pending'::text, null::bigint, null::integer) $$,
    format('after a run that was %s, the next job has neither pin nor ordering', how)
)
from unnest(array['finished', 'reclaimed']) as given (how);

-- Refusals
select refused(
    $$ select vcs.code_import_job_schedule(a_run(an_import()), the('machine')) $$,
    'IJ409', 'code_import_job', 'a running job cannot be scheduled'
);
select refused(
    $$ select vcs.code_import_job_schedule(the('job'), -1) $$,
    'IJ404', 'code_import_machine', 'a job cannot be pinned to an unknown machine'
);
select refused(
    $$ select vcs.code_import_job_schedule(-1, the('machine')) $$,
    'IJ410', 'code_import_job', 'a job that never was cannot be scheduled'
);
select refused(
    $$ select vcs.code_import_job_schedule(null, the('machine')) $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select refused(
    $$ select vcs.code_import_job_schedule(the('job'), the('machine'), null, '') $$,
    'IJ400', 'code_import_job', 'a person that is given has to be a name'
);

select callable_by(
    'vcs.code_import_job_schedule(bigint, bigint, integer, text)', array['operator'],
    'operators may schedule jobs'
);
select rules_hold();
select * from finish();
rollback;
