begin;
select plan(15);

select columns_are('vcs', 'code_import_result', array[
    'id', 'date_created', 'code_import_id', 'machine_id', 'job_id', 'requesting_user',
    'log_excerpt', 'log_file_id', 'status',
    'date_job_started', 'job_duration'
], 'a result has these columns');
select col_type_is('vcs', 'code_import_result', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('code_import_id', 'bigint'),
    ('machine_id', 'bigint'),
    ('job_id', 'bigint'), ('requesting_user', 'text'), ('log_excerpt', 'text'),
    ('log_file_id', 'bigint'), ('status', 'text'),
    ('date_job_started', 'timestamp with time zone'), ('job_duration', 'interval')
) as given (name, type);

select let('import', an_import());
select run_to(the('import'), status)
from unnest(array[
    'success', 'success_nochange', 'success_partial', 'failure', 'failure_invalid',
    'failure_unsupported_feature',
    'failure_forbidden', 'failure_remote_broken', 'internal_failure', 'reclaimed', 'killed'
]) as given (status);
select results_eq(
    'select status from vcs.code_import_result order by id',
    $$ values ('success'::text), ('success_nochange'), ('success_partial'), ('failure'),
       ('failure_invalid'),
        ('failure_unsupported_feature'), ('failure_forbidden'), ('failure_remote_broken'),
        ('internal_failure'),
        ('reclaimed'), ('killed') $$,
    'a run can end in eleven ways; the newest result has the greatest id'
);
select is_empty(
    $$ select * from vcs.code_import_result where job_duration <> date_created - date_job_started
       or job_duration < '0' $$,
    'its duration is from start to end'
);
select vcs.code_import_delete(the('import'));
select is((select count(*) from vcs.code_import_result), 11::bigint,
    'results outlive their import');
select * from finish();
rollback;
