begin;
select plan(3);

select columns_are('vcs', 'code_import_settings', array['name', 'value', 'default_value',
    'description'], 'a setting has these columns');
select results_eq(
    'select name, value, default_value from vcs.code_import_settings order by name',
    $$ values
        ('consecutive_failure_limit'::text, '5'::text, '5'::text),
        ('consecutive_reclaim_limit', null, null),
        ('default_interval_bzr', '6 h', '6 h'),
        ('default_interval_cvs', '12 h', '12 h'),
        ('default_interval_git', '6 h', '6 h'),
        ('default_interval_hg', '6 h', '6 h'),
        ('default_interval_svn', '6 h', '6 h'),
        ('event_retention', '30 days', '30 days'),
        ('excluded_hosts', 'localhost, 127.0.0.1', 'localhost, 127.0.0.1'),
        ('log_file_limit', '16 MB', '16 MB'),
        ('log_retention', '30 days', '30 days'),
        ('logtail_limit', '64 kB', '64 kB'),
        ('machine_silent_after', null, null),
        ('maximum_heartbeat_interval', '300 s', '300 s'),
        ('maximum_loss_percent', '50', '50'),
        ('maximum_retry_interval', '30 days', '30 days'),
        ('ref_retention', '90 days', '90 days'),
        ('result_retention', '30 days', '30 days'),
        ('results_kept', '5', '5'),
        ('verification_interval', '30 days', '30 days') $$,
    'these are the settings and their defaults'
);
select is_empty(
    $$ select name from vcs.code_import_settings where description !~ '^[A-Z].*\.$' $$,
    'each is described by a sentence'
);
select * from finish();
rollback;
