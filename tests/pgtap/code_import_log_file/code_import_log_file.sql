begin;
select plan(7);

select columns_are('vcs', 'code_import_log_file', array['id', 'date_created', 'job_id', 'size',
    'content'], 'a log file has these columns');
select col_type_is('vcs', 'code_import_log_file', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('job_id', 'bigint'),
    ('size', 'bigint'), ('content', 'bytea')
) as given (name, type);
select let('job', a_run(an_import()));
select vcs.code_import_log_file_new(the('job'), convert_to('für immer', 'UTF8'));
select results_eq(
    $$ select job_id, size, content from vcs.code_import_log_file $$,
    $$ values (the('job'), 10::bigint, convert_to('für immer', 'UTF8')) $$,
    'size counts bytes'
);
select * from finish();
rollback;
