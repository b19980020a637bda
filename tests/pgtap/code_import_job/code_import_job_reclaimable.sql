begin;
select plan(5);

-- Given runs whose last sign of life is around the limit of 300 s
select let(ago, an_import())
from unnest(array['299 s', '300 s', '300.000001 s', '1 day']) as given (ago);
select a_run(the(ago)) from unnest(array['299 s', '300 s', '300.000001 s', '1 day']) as given (ago);
select move(the(ago), p_heartbeat => now() - ago::interval,
    p_date_started => now() - interval '2 days')
from unnest(array['299 s', '300 s', '300.000001 s', '1 day']) as given (ago);
select an_import();

select bag_eq(
    $$ select code_import_id from vcs.code_import_job_reclaimable() $$,
    $$ values (the('300.000001 s')), (the('1 day')) $$,
    'a run is reclaimable when its heartbeat is older than 300 s, not when it is exactly that old'
);
select results_eq(
    $$ select * from vcs.code_import_job_reclaimable() order by id $$,
    $$ select job.* from vcs.code_import_job as job
       where job.code_import_id in (the('300.000001 s'), the('1 day')) order by job.id $$,
    'whole jobs are shown'
);

-- The limit is a setting
select set_to('maximum_heartbeat_interval', '299 s');
select is(
    (select count(*) from vcs.code_import_job_reclaimable()), 3::bigint,
    'with a shorter limit more are reclaimable'
);
select set_to('maximum_heartbeat_interval', '10 days');
select is_empty($$ select * from vcs.code_import_job_reclaimable() $$, 'with a long one none');

select callable_by(
    'vcs.code_import_job_reclaimable()', array['operator', 'worker', 'reader'],
    'whoever reads may ask'
);
select * from finish();
rollback;
