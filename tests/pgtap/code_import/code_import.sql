begin;
select plan(12);

select columns_are('vcs', 'code_import', array[
    'id', 'date_created', 'registrant', 'owner', 'assignee', 'target', 'rcs_type', 'url',
    'cvs_root', 'cvs_module',
    'review_status', 'update_interval', 'effective_update_interval', 'date_last_successful',
    'consecutive_failure_count'
], 'an import has these columns');
select col_type_is('vcs', 'code_import', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('registrant', 'text'),
    ('target', 'text'), ('url', 'text'),
    ('review_status', 'text'), ('update_interval', 'interval'),
    ('effective_update_interval', 'interval'),
    ('date_last_successful', 'timestamp with time zone'), ('consecutive_failure_count', 'integer')
) as given (name, type);

-- The interval in force
select let('own', an_import(p_update_interval => '3 h'));
select let('default', an_import(p_rcs_type => 'hg'));
select set_to('default_interval_hg', '9 h');
select results_eq(
    $$ select update_interval, effective_update_interval from vcs.code_import
       where id in (the('own'), the('default')) order by id $$,
    $$ values (interval '3 h', interval '3 h'), (null, interval '9 h') $$,
    'effective_update_interval is an import''s own, else that of its type as it is now'
);
select * from finish();
rollback;
