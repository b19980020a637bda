begin;
select plan(10);

select columns_are('vcs', 'code_import_mirror', array['code_import_id', 'target',
    'maximum_loss_percent', 'refs_held', 'job_id', 'date_verified', 'damage', 'date_verification_due'],
    'a mirror has these columns');
select let('import', an_import());
select results_eq(
    $$ select maximum_loss_percent, refs_held, job_id, date_verified, damage from vcs.code_import_mirror
       where code_import_id = the('import') $$,
    $$ values (50, 0::bigint, null::bigint, null::timestamptz, null::text) $$,
    'of each import there is one, by the defaults'
);
select set_to('maximum_loss_percent', '20');
select is(
    (select maximum_loss_percent from vcs.code_import_mirror where code_import_id = the('import')),
    20, 'its guard follows the setting'
);
select refused(
    $$ select vcs.code_import_configure('maximum_loss_percent', '101', 'me') $$,
    'IJ400', 'code_import_settings', 'which is a percentage'
);

-- When it is read as a whole
select an_import() from generate_series(1, 40);
select ok(
    count(*) filter (where date_verification_due < now() + interval '15 days') between 5 and 35
        and bool_and(date_verification_due between now() and now() + interval '30 days'),
    'the first readings of mirrors registered together are spread over the interval'
) from vcs.code_import_mirror;
select vcs.code_import_mirror_report(a_run(the('import')), p_is_verified => true);
select results_eq(
    $$ select date_verified, date_verification_due from vcs.code_import_mirror
       where code_import_id = the('import') $$,
    $$ values (now(), now() + interval '30 days') $$,
    'the next comes an interval later'
);
select set_to('verification_interval', '7 days');
select is(
    (select date_verification_due from vcs.code_import_mirror where code_import_id = the('import')),
    now() + interval '7 days', 'which is a setting'
);

-- It goes with its import
select lives_ok($$ select vcs.code_import_delete(the('import')) $$, 'an import may go');
select is_empty(
    $$ select from vcs.code_import_mirror where code_import_id = the('import') $$,
    'and its mirror is known no more'
);
select rules_hold();
select * from finish();
rollback;
