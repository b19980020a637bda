begin;
select plan(17);

select let('import', an_import());
select run_to(the('import'), 'failure') from generate_series(1, 6);
select is(
    (select review_status from vcs.code_import where id = the('import')), 'failing',
    'given an import that failed six times'
);
select mark();
select results_eq(
    $$ select code_import_id, state, date_due, requesting_user
       from vcs.code_import_try_again(the('import'), 'bob') $$,
    $$ values (the('import'), 'pending'::text, now(), 'bob'::text) $$,
    'tried again, it has a job that is due now, requested by the person'
);
select results_eq(
    $$ select review_status, consecutive_failure_count from vcs.code_import
       where id = the('import') $$,
    $$ values ('reviewed'::text, 0) $$,
    'it is reviewed again, the count afresh'
);
select results_eq(
    $$ select event_type, person, data ->> 'review_status', data ->> 'old_review_status'
       from happened() $$,
    $$ values ('modify'::text, 'bob'::text, 'reviewed'::text, 'failing'::text),
       ('request', 'bob', null, null) $$,
    'with the events modify and request'
);
select run_to(the('import'), 'failure') from generate_series(1, 5);
select is(
    (select review_status from vcs.code_import where id = the('import')), 'reviewed',
    'it may fail five times more'
);
select run_to(the('import'), 'failure');
select is((select review_status from vcs.code_import where id = the('import')), 'failing',
    'and not six');

-- Refusals
select refused(
    format($$ select vcs.code_import_try_again(an_import(%L), 'bob') $$, status),
    'IJ409', 'code_import', format('an import that is %s cannot be tried again', status)
)
from unnest(array['new', 'invalid', 'reviewed', 'suspended']) as given (status);
select let('running', an_import());
select a_run(the('running'));
select vcs.code_import_update(the('running'), '{"review_status": "failing"}');
select refused(
    $$ select vcs.code_import_try_again(the('running'), 'bob') $$,
    'IJ423', 'code_import', 'one whose last run goes on has to wait'
);
select vcs.code_import_job_finish(job_of(the('running')), 'success');
select lives_ok($$ select vcs.code_import_try_again(the('running'), 'bob') $$,
    'until that has ended');
select refused($$ select vcs.code_import_try_again(-1, 'bob') $$, 'IJ404', 'code_import',
    'an unknown import cannot be tried');
select refused($$ select vcs.code_import_try_again(null, 'bob') $$, 'IJ400', 'code_import',
    'an import is needed');
select refused($$ select vcs.code_import_try_again(the('import'), null) $$, 'IJ400', 'code_import',
    'a person is needed');

select callable_by('vcs.code_import_try_again(bigint, text)', array['operator'],
    'operators may try again');
select rules_hold();
select * from finish();
rollback;
