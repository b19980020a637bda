begin;
select plan(15);

select let(state, a_machine(state)) from unnest(array['offline', 'online',
    'quiescing']) as given (state);
select let('job', a_run(an_import(), the('online')));
select mark();
select is(
    (vcs.code_import_machine_set_offline(the(state), 'stopped', 'bob', 'power cut')).state,
    'offline',
    format('a machine that is %s can be set offline', state)
)
from unnest(array['online', 'quiescing']) as given (state);
select results_eq(
    'select event_type, code_import_id, machine_id, person, data from happened()',
    $$ values ('offline'::text, null::bigint, the('online'), 'bob'::text,
       '{"reason": "stopped", "message": "power cut"}'::jsonb),
              ('offline', null, the('quiescing'), 'bob',
                  '{"reason": "stopped", "message": "power cut"}') $$,
    'each with an event that names machine and person, and carries reason and message'
);
select is((select state from vcs.code_import_job where id = the('job')), 'running',
    'running jobs are left alone');
select is((vcs.code_import_job_update_heartbeat(the('job'), null)), 'continue', 'beat on');
select is((vcs.code_import_job_finish(the('job'), 'success')).status, 'success',
    'and finish as ever');
select let(reason, a_machine()) from unnest(array['stopped', 'quiesced',
    'watchdog']) as given (reason);
select mark();
select vcs.code_import_machine_set_offline(the(reason), reason)
    from unnest(array['stopped', 'quiesced', 'watchdog']) as given (reason);
select results_eq(
    'select person, data from happened()',
    $$ values (null::text, '{"reason": "stopped"}'::jsonb), (null, '{"reason": "quiesced"}'),
       (null, '{"reason": "watchdog"}') $$,
    'the reasons are stopped, quiesced and watchdog; neither a person nor a message is needed'
);

select refused(
    $$ select vcs.code_import_machine_set_offline(the('offline'), 'stopped') $$,
    'IJ409', 'code_import_machine', 'a machine that is offline cannot be set offline'
);
select refused($$ select vcs.code_import_machine_set_offline(-1, 'stopped') $$, 'IJ404',
    'code_import_machine', 'nor one that is unknown');
select refused($$ select vcs.code_import_machine_set_offline(null, 'stopped') $$, 'IJ400',
    'code_import_machine', 'a machine is needed');
select refused($$ select vcs.code_import_machine_set_offline(a_machine(), null) $$, 'IJ400',
    'code_import_machine', 'a reason is needed');
select refused($$ select vcs.code_import_machine_set_offline(a_machine(), 'bored') $$, 'IJ400',
    'code_import_machine', 'and one of the three');
select refused(
    $$ select vcs.code_import_machine_set_offline(a_machine(), 'stopped', '') $$,
    'IJ400', 'code_import_machine', 'a person that is given has to be a name'
);

select callable_by('vcs.code_import_machine_set_offline(bigint, text, text, text)',
    array['operator'], 'operators may set machines offline');
select rules_hold();
select * from finish();
rollback;
