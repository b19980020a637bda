begin;
select plan(26);

-- Not running: as a request
select let('waiting', an_import());
select move(the('waiting'), p_date_due => now() + interval '5 h');
select mark();
select results_eq(
    $$ select date_due, requesting_user, again_requested_by
       from vcs.code_import_request_again(the('waiting'), 'bob') $$,
    $$ values (now(), 'bob'::text, null::text) $$,
    'while it waits it is requested'
);
select is(
    (vcs.code_import_request_again(the('waiting'), 'eve')).requesting_user, 'bob',
    'requested already, nothing happens'
);
select is(news(), 'request', 'with one event');

-- Running: kept
select let(how, an_import()) from unnest(array['success', 'failure', 'killed', 'reclaimed',
    'released']) as given (how);
create temporary table ending as
select unnest(array['success', 'failure', 'killed', 'reclaimed', 'released']) as how;
select run_to(the(how), 'failure') from ending, generate_series(1, 3);
select let('job of ' || how, a_run(the(how))) from ending;
select move(the('released'), p_date_due => now() + interval '3 h');
select mark();
select results_eq(
    $$ select id, state, again_requested_by from vcs.code_import_request_again(the('success'),
       'bob') $$,
    $$ values (the('job of success'), 'running'::text, 'bob'::text) $$,
    'while it runs the request is kept'
);
select results_eq(
    'select event_type, code_import_id, person from happened()',
    $$ values ('request'::text, the('success'), 'bob'::text) $$,
    'with its event at once'
);
select is(
    (vcs.code_import_request_again(the('success'), 'eve')).again_requested_by, 'bob',
    'however many ask, it is the first one''s'
);
select is(news(), 'request', 'and only the first is recorded');
select vcs.code_import_request_again(the(how), 'bob') from ending;
select vcs.code_import_job_finish(the('job of ' || how), how) from ending
    where how in ('success', 'failure', 'killed');
select vcs.code_import_job_reclaim(the('job of reclaimed'));
select vcs.code_import_job_release(the('job of released'));
select results_eq(
    format('select date_due, requesting_user, again_requested_by from vcs.code_import_job where code_import_id = %s', the(how)),
    $$ values (now(), 'bob'::text, null::text) $$,
    format('however the run ends (%s), one follows that is due now in that name', how)
)
from ending;
select run_to(the('success'), 'success', now(), now());
select results_eq(
    $$ select date_due, requesting_user from vcs.code_import_job
       where code_import_id = the('success') $$,
    $$ values (now() + interval '6 h', null::text) $$,
    'and exactly one'
);

-- Dropped if the import stops
select let('stopped', an_import());
select a_run(the('stopped'));
select vcs.code_import_request_again(the('stopped'), 'bob');
select vcs.code_import_update(the('stopped'), '{"review_status": "suspended"}');
select vcs.code_import_job_finish(job_of(the('stopped')), 'success');
select is(job_of(the('stopped')), null, 'an import that stops being reviewed drops it');
select vcs.code_import_update(the('stopped'), '{"review_status": "reviewed"}');
select is(
    (select requesting_user from vcs.code_import_job where code_import_id = the('stopped')), null,
    'for good'
);
select let('failing', an_import());
select run_to(the('failing'), 'failure') from generate_series(1, 5);
select a_run(the('failing'));
select vcs.code_import_request_again(the('failing'), 'bob');
select vcs.code_import_job_finish(job_of(the('failing')), 'failure');
select results_eq(
    $$ select review_status, job_of(id) from vcs.code_import where id = the('failing') $$,
    $$ values ('failing'::text, null::bigint) $$,
    'one that turns failing drops it'
);

-- Refusals
select refused(
    format($$ select vcs.code_import_request_again(an_import(%L), 'bob') $$, status),
    'IJ409', 'code_import', format('an import that is %s cannot be requested', status)
)
from unnest(array['new', 'invalid', 'suspended', 'failing']) as given (status);
select let('suspended', an_import());
select a_run(the('suspended'));
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}');
select refused(
    $$ select vcs.code_import_request_again(the('suspended'), 'bob') $$,
    'IJ409', 'code_import', 'nor one that is suspended while its last run goes on'
);
select refused($$ select vcs.code_import_request_again(-1, 'bob') $$, 'IJ404', 'code_import',
    'an unknown import cannot be requested');
select refused($$ select vcs.code_import_request_again(null, 'bob') $$, 'IJ400', 'code_import',
    'an import is needed');
select refused($$ select vcs.code_import_request_again(the('success'), null) $$, 'IJ400',
    'code_import', 'a person is needed');

select callable_by('vcs.code_import_request_again(bigint, text)', array['operator'],
    'operators may request imports');
select rules_hold();
select * from finish();
rollback;
