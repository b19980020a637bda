begin;
select plan(4);

select columns_are('vcs', 'code_import_assignment', array[
    'id', 'date_created', 'code_import_id', 'machine_id', 'date_due', 'state', 'requesting_user',
    'ordering', 'heartbeat',
    'logtail', 'date_started', 'kill_requested_by', 'again_requested_by',
    'rcs_type', 'url', 'cvs_root', 'cvs_module', 'target'
], 'an assignment has the columns of a job, and with them source and target');

select let('running', an_import());
select let('waiting', an_import());
select let('job', a_run(the('running')));
select results_eq(
    'select id, code_import_id, rcs_type, url, cvs_root, cvs_module, target from vcs.code_import_assignment',
    $$ select the('job'), id, rcs_type, url, cvs_root, cvs_module, target from vcs.code_import
       where id = the('running') $$,
    'the running jobs are assignments, and no others'
);
select vcs.code_import_update(the('running'), '{"review_status": "suspended"}');
select isnt_empty('select * from vcs.code_import_assignment',
    'also when their import is no longer reviewed');
select vcs.code_import_job_finish(the('job'), 'success');
select is_empty('select * from vcs.code_import_assignment', 'a run that has ended is none');
select * from finish();
rollback;
