begin;
select plan(239);

select mark();
select results_eq(
    $$ select name, value, default_value
       from vcs.code_import_configure('maximum_heartbeat_interval', '90 s', 'bob') $$,
    $$ values ('maximum_heartbeat_interval'::text, '90 s'::text, '300 s'::text) $$,
    'a setting is changed, and its default stays known'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, person, data from happened() $$,
    $$ values ('modify'::text, null::bigint, null::bigint, 'bob'::text,
               '{"setting": "maximum_heartbeat_interval", "value": "90 s", "old_value": "300 s"}'::jsonb) $$,
    'one event modify names person, setting, and both values'
);
select is(
    (vcs.code_import_configure('maximum_heartbeat_interval', null, 'bob')).value, '300 s',
    'null goes back to the default'
);
select mark();
select vcs.code_import_configure('maximum_heartbeat_interval', null, 'bob');
select is(news(), '', 'what changes nothing records nothing');

-- Values of each kind
create function pg_temp.told(p_name text, p_value text) returns text language plpgsql as $$
begin
    perform vcs.code_import_configure(p_name, p_value, 'bob');
    return 'ok';
exception when others then
    return sqlstate;
end;
$$;
create temporary table kind (kind text, name text);
insert into kind values
    ('interval', 'maximum_heartbeat_interval'), ('interval', 'maximum_retry_interval'),
    ('interval', 'default_interval_git'),
    ('interval', 'default_interval_svn'), ('interval', 'default_interval_hg'),
    ('interval', 'default_interval_bzr'),
    ('interval', 'default_interval_cvs'), ('interval', 'event_retention'),
    ('interval', 'result_retention'),
    ('interval', 'log_retention'), ('interval', 'machine_silent_after'),
    ('interval', 'ref_retention'), ('interval', 'verification_interval'),
    ('count', 'consecutive_failure_limit'), ('count', 'results_kept'),
    ('percent', 'maximum_loss_percent'),
    ('count', 'consecutive_reclaim_limit'),
    ('size', 'logtail_limit'), ('size', 'log_file_limit'), ('hosts', 'excluded_hosts');
select bag_eq('select name from kind', 'select name from vcs.code_import_settings',
    'every setting is tried');
create temporary table try (kind text, value text, answer text);
insert into try values
    ('interval', '300 s', 'ok'), ('interval', '1 day 02:00', 'ok'), ('interval', 'PT5M', 'ok'),
    ('interval', ' 6 h ', 'ok'),
    ('interval', '10 years', 'ok'), ('interval', '0', 'IJ400'), ('interval', '-1 h', 'IJ400'),
    ('interval', '11 years', 'IJ400'),
    ('interval', 'often', 'IJ400'), ('interval', '', 'IJ400'), ('interval', 'infinity', 'IJ400'),
    ('interval', '1000000000 years', 'IJ400'),
    ('count', '1', 'ok'), ('count', '10000', 'ok'), ('count', '-1', 'IJ400'),
    ('count', '1.5', 'IJ400'), ('count', 'many', 'IJ400'),
    ('count', '', 'IJ400'), ('count', '99999999999999999999', 'IJ400'),
    ('percent', '0', 'ok'), ('percent', '100', 'ok'), ('percent', '101', 'IJ400'),
    ('percent', '50 %', 'IJ400'), ('percent', '-1', 'IJ400'),
    ('size', '64 kB', 'ok'), ('size', '1', 'ok'), ('size', '1 MB', 'ok'), ('size', '0', 'IJ400'),
    ('size', '-1 kB', 'IJ400'),
    ('size', '64 KB of it', 'IJ400'), ('size', '', 'IJ400'), ('size', '1 TB', 'IJ400'),
    ('hosts', 'localhost', 'ok'), ('hosts', 'localhost, 127.0.0.1,example.org', 'ok'),
    ('hosts', '', 'ok'),
    ('hosts', 'a b', 'IJ400'), ('hosts', ',', 'IJ400'), ('hosts', 'a,,b', 'IJ400'),
    ('hosts', E'a\nb', 'IJ400');
select is(
    pg_temp.told(name, value), answer,
    format('%s = %L: %s', name, replace(value, E'\n', '\n'), answer)
)
from kind join try using (kind);
select is(pg_temp.told(name, null), 'ok', format('%s goes back to its default', name)) from kind;
select is(pg_temp.told('consecutive_failure_limit', '0'), 'ok', 'a limit of 0 failures is one');
select is(pg_temp.told('consecutive_reclaim_limit', '0'), 'IJ400',
    'one of 0 reclaims is none: every import would fail');

-- Refusals
select refused(
    format('select vcs.code_import_configure(%s)', arguments), 'IJ400', 'code_import_settings',
        format('refused: %s', why)
)
from (values
    ('null, ''1'', ''bob''', 'no name'), ('''colour'', ''red'', ''bob''', 'an unknown setting'),
    ('''results_kept'', ''1'', null', 'no person'), ('''results_kept'', ''1'', ''''',
        'an empty person'),
    ('''results_kept'', ''many'', ''bob''', 'a value that makes no sense')
) as given (arguments, why);

select callable_by('vcs.code_import_configure(text, text, text)', array['operator'],
    'operators may configure');
select rules_hold();
select * from finish();
rollback;
