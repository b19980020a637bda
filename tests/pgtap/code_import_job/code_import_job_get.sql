begin;
select plan(5);

select let('import', an_import());
select let('job', job_of(the('import')));
select results_eq(
    $$ select * from vcs.code_import_job_get(the('job')) $$,
    $$ select * from vcs.code_import_job where id = the('job') $$,
    'a job is found by its id'
);
select is_empty($$ select * from vcs.code_import_job_get(-1) $$, 'an unknown id gives no row');
select vcs.code_import_job_finish(a_run(the('import')), 'success');
select is_empty(
    $$ select * from vcs.code_import_job_get(the('job')) $$, 'a run that has ended is no job'
);
select refused(
    $$ select * from vcs.code_import_job_get(null) $$, 'IJ400', 'code_import_job', 'an id is needed'
);

select callable_by(
    'vcs.code_import_job_get(bigint)', array['operator', 'worker', 'reader'],
    'whoever reads may ask'
);
select * from finish();
rollback;
