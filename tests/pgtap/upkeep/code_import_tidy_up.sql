begin;
select plan(27);

select results_eq(
    'select * from vcs.code_import_tidy_up()',
    $$ values (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint) $$,
    'where there is nothing to do it says so, in one row'
);

-- Results: young ones stay, and the newest five of a living import
select let('import', an_import());
select run_to(the('import'), 'success') from generate_series(1, 7);
select age(the('import'), '29 days 23 h');
select vcs.code_import_tidy_up();
select is(
    (select count(*) from vcs.code_import_result where code_import_id = the('import')), 7::bigint,
    'results of 29 days stay'
);
create temporary table newest as
select * from vcs.code_import_result where code_import_id = the('import') order by id desc limit 5;
select age(the('import'), '3 h');
update newest set date_created = date_created - interval '3 h',
    date_job_started = date_job_started - interval '3 h';
select results_eq(
    $$ select results_kept, partitions_due from vcs.code_import_tidy_up() $$,
    $$ values (5::bigint, 0::bigint) $$,
    'results of more than 30 days go with their partition'
);
select bag_eq(
    $$ select * from vcs.code_import_result where code_import_id = the('import') $$,
    'select * from newest', 'but for the newest five of a living import, which stay as they are'
);
select set_to('results_kept', '2');
select is((select rows_deleted from vcs.code_import_tidy_up()), 3::bigint, 'how many is a setting');
select bag_eq(
    $$ select id from vcs.code_import_result where code_import_id = the('import') $$,
    'select id from newest order by id desc limit 2', 'the others go'
);
select set_to('result_retention', '10 years');
select set_to('results_kept', '0');
select vcs.code_import_tidy_up();
select is(
    (select count(*) from vcs.code_import_result where code_import_id = the('import')), 2::bigint,
    'and so is how long'
);
select set_to('result_retention', null);
select set_to('results_kept', null);
select let('deleted', an_import());
select run_to(the('deleted'), 'success');
select vcs.code_import_delete(the('deleted'));
select age(the('deleted'), '31 days');
select vcs.code_import_tidy_up();
select is_empty(
    $$ select * from vcs.code_import_result where code_import_id = the('deleted') $$,
    'of a deleted import none is kept'
);

-- Starts and finishes are events
select set_to('result_retention', '1 h');
select set_to('results_kept', '1');
select let('young', an_import());
select run_to(the('young'), 'success') from generate_series(1, 2);
create temporary table trail as select * from vcs.code_import_event
    where code_import_id = the('young');
select age(the('young'), '28 days');
select vcs.code_import_tidy_up();
select results_eq(
    $$ select id, event_type from vcs.code_import_event where code_import_id = the('young')
       order by id $$,
    'select id, event_type from trail order by id',
    'no result goes before the events that are read from it'
);
select set_to('event_retention', '1 day');
select vcs.code_import_tidy_up();
select bag_eq(
    $$ select id, event_type from vcs.code_import_event where code_import_id = the('young') $$,
    $$ (select id, event_type from trail where event_type = 'start' order by id desc limit 1)
       union all (select id, event_type from trail where event_type = 'finish'
       order by id desc limit 1) $$,
    'and with a result that is kept stay those of its run'
);
select set_to('event_retention', null);
select set_to('result_retention', null);
select set_to('results_kept', null);

-- Events
select let('old', an_import('new'));
select age(the('old'), '29 days 23 h');
select vcs.code_import_tidy_up();
select isnt_empty($$ select * from vcs.code_import_event where code_import_id = the('old') $$,
    'events of 29 days stay');
select age(the('old'), '3 h');
select vcs.code_import_tidy_up();
select is_empty($$ select * from vcs.code_import_event where code_import_id = the('old') $$,
    'events of more than 30 days go');
select isnt_empty($$ select * from vcs.code_import where id = the('old') $$,
    'what they tell of stays');
select let('long retention', an_import('new'));
select set_to('event_retention', '90 days');
select age(the('long retention'), '60 days');
select vcs.code_import_tidy_up();
select isnt_empty(
    $$ select * from vcs.code_import_event where code_import_id = the('long retention') $$,
    'how long is a setting'
);

-- Logs
select let('logged', an_import());
select let('job', a_run(the('logged')));
select let('log', vcs.code_import_log_file_new(the('job'), 'x'));
select vcs.code_import_job_finish(the('job'), 'success', the('log'));
select age(the('logged'), '29 days 23 h');
select vcs.code_import_tidy_up();
select is(
    (select log_file_id from vcs.code_import_result where job_id = the('job')), the('log'),
    'logs of 29 days stay'
);
select age(the('logged'), '3 h');
select cmp_ok((select partitions_dropped from vcs.code_import_tidy_up()), '>=', 1::bigint,
    'logs of more than 30 days go');
select results_eq(
    $$ select status, log_file_id from vcs.code_import_result where job_id = the('job') $$,
    $$ values ('success'::text, null::bigint) $$,
    'where a log has gone, its result reads null'
);

-- Silent machines
select let(name, a_machine('online')) from unnest(array['silent', 'beating',
    'never heard']) as given (name);
select let('quiet', a_machine('quiescing'));
select let('silent run', a_run(an_import(), the('silent')));
update vcs._code_import_machine set heartbeat = now() - interval '1 h'
    where id in (the('silent'), the('quiet'));
update vcs._code_import_event set date_created = now() - interval '1 h' where event_type = 'online';
update vcs._code_import_machine set heartbeat = now() - interval '59 minutes'
    where id = the('beating');
select is((select machines from vcs.code_import_tidy_up()), 0::bigint,
    'no machine is too silent, unless a limit is set');
select set_to('machine_silent_after', '1 h');
select is((select machines from vcs.code_import_tidy_up()), 0::bigint,
    'a machine that is as silent as that is not yet too silent');
select set_to('machine_silent_after', '59 minutes');
select mark();
select is((select machines from vcs.code_import_tidy_up()), 2::bigint,
    'one that is silent for longer is taken offline');
select results_eq(
    $$ select state from vcs.code_import_machine
       where id in (the('silent'), the('beating'), the('never heard'), the('quiet')) order by id $$,
    $$ values ('offline'::text), ('online'), ('online'), ('offline') $$,
    'online or quiescing'
);
select bag_eq(
    'select event_type, machine_id, person, data from happened()',
    $$ values ('offline'::text, the('silent'), null::text, '{"reason": "watchdog"}'::jsonb),
              ('offline', the('quiet'), null, '{"reason": "watchdog"}') $$,
    'with an event offline for the reason watchdog'
);
select is((select state from vcs.code_import_job where id = the('silent run')), 'running',
    'its runs are left alone');
select vcs.code_import_machine_set_online(the('quiet'), 'ada');
select is((select machines from vcs.code_import_tidy_up()), 0::bigint,
    'one that is put online again has as long to be heard');
update vcs._code_import_event set date_created = now() - interval '1 h' where event_type = 'online';
select is((select machines from vcs.code_import_tidy_up()), 1::bigint, 'and no longer');

select callable_by(
    'vcs.code_import_tidy_up()', array['operator', 'reclaimer', 'worker'],
    'operators, workers and the reclaimer may tidy up'
);
select rules_hold();
select * from finish();
rollback;
