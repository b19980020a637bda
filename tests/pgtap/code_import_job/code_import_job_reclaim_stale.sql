begin;
select plan(12);

-- Given five dead runs and one that lives
select let('dead ' || n, an_import()) from generate_series(1, 5) as n;
select a_run(the('dead ' || n)) from generate_series(1, 5) as n;
select move(the('dead ' || n), p_heartbeat => now() - interval '1 hour',
    p_date_started => now() - interval '1 hour')
from generate_series(1, 5) as n;
select let('living', a_run(an_import()));
select let('boundary', an_import());
select a_run(the('boundary'));
select move(the('boundary'), p_heartbeat => now() - interval '300 s',
    p_date_started => now() - interval '1 hour');

select is(vcs.code_import_job_reclaim_stale(0), 0, 'told to reclaim none it reclaims none');
select is(vcs.code_import_job_reclaim_stale(2), 2, 'it reclaims as many as it is told');
select is(vcs.code_import_job_reclaim_stale(), 3, 'and then the rest');
select is(vcs.code_import_job_reclaim_stale(), 0, 'and then none');
select bag_eq(
    $$ select id from vcs.code_import_job where state = 'running' $$,
    $$ values (the('living')), (job_of(the('boundary'))) $$,
    'a run whose heartbeat is 300 s old or newer goes on'
);
select is(
    (select count(*) from vcs.code_import_result where status = 'reclaimed'), 5::bigint,
    'each dead run has one result'
);
select is(
    (select count(*) from vcs.code_import_job where state = 'pending' and date_due = now()),
    5::bigint,
    'and each import a new job that is due now'
);
select results_eq(
    $$ select event_type from vcs.code_import_event
       where code_import_id = the('dead 3') order by id $$,
    $$ values ('create'::text), ('start'), ('reclaim'), ('finish') $$,
    'its events are those of a single reclaim'
);

-- Refusals
select refused(
    format('select vcs.code_import_job_reclaim_stale(%s)', bad),
    'IJ400', 'code_import_job', format('a limit of %s cannot be', bad)
)
from unnest(array['null', '-1']) as given (bad);

select callable_by(
    'vcs.code_import_job_reclaim_stale(integer)', array['operator', 'reclaimer', 'worker'],
    'operators, workers and the reclaimer may reclaim what is stale'
);
select rules_hold();
select * from finish();
rollback;
