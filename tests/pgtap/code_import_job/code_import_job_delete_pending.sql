begin;
select plan(12);

-- An import that is no longer reviewed but still has its waiting job is only ever seen inside a
-- transaction; here one is made.
select let('import', an_import());
select let('job', job_of(the('import')));
update vcs._code_import_schedule set review_status = 'suspended'
where code_import_id = the('import');
select mark();

select lives_ok(
    $$ select vcs.code_import_job_delete_pending(the('import')) $$,
    'the waiting job of an import that is not reviewed can be deleted'
);
select is(job_of(the('import')), null, 'it is gone');
select is(news(), '', 'without an event');
select refused(
    $$ select vcs.code_import_job_start(the('job'), a_machine()) $$,
    'IJ410', 'code_import_job', 'and nobody can start it'
);

-- A scheduled job, with all that people wanted of it
select let('pinned', an_import());
select vcs.code_import_job_schedule(job_of(the('pinned')), a_machine(), 3);
select vcs.code_import_job_request(job_of(the('pinned')), 'bob');
update vcs._code_import_schedule set review_status = 'suspended'
where code_import_id = the('pinned');
select vcs.code_import_job_delete_pending(the('pinned'));
select is(job_of(the('pinned')), null, 'a scheduled and requested job goes as well');

-- Refusals
select refused(
    $$ select vcs.code_import_job_delete_pending(an_import()) $$,
    'IJ409', 'code_import', 'the job of a reviewed import cannot be deleted'
);
select let('running', an_import());
select a_run(the('running'));
update vcs._code_import_schedule set review_status = 'suspended'
where code_import_id = the('running');
select refused(
    $$ select vcs.code_import_job_delete_pending(the('running')) $$,
    'IJ409', 'code_import_job', 'a running job cannot be deleted'
);
select refused(
    $$ select vcs.code_import_job_delete_pending(the('import')) $$,
    'IJ409', 'code_import_job', 'where there is no job there is none to delete'
);
select refused(
    $$ select vcs.code_import_job_delete_pending(-1) $$,
    'IJ404', 'code_import', 'an unknown import has no job to delete'
);
select refused(
    $$ select vcs.code_import_job_delete_pending(null) $$,
    'IJ400', 'code_import', 'an import is needed'
);

select callable_by(
    'vcs.code_import_job_delete_pending(bigint)', array['operator'],
    'operators may delete waiting jobs'
);
select rules_hold();
select * from finish();
rollback;
