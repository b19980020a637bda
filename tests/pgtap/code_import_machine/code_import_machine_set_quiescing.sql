begin;
select plan(11);

select let(state, a_machine(state)) from unnest(array['offline', 'online',
    'quiescing']) as given (state);
select let('import', an_import());
select let('job', a_run(the('import'), the('online')));
select mark();
select is(
    (vcs.code_import_machine_set_quiescing(the('online'), 'bob', 'upgrade')).state, 'quiescing',
    'a machine that is online can be set quiescing'
);
select results_eq(
    'select event_type, code_import_id, machine_id, person, data from happened()',
    $$ values ('quiesce'::text, null::bigint, the('online'), 'bob'::text,
       '{"message": "upgrade"}'::jsonb) $$,
    'with an event that names machine and person, and carries the message'
);
select is((select state from vcs.code_import_job where id = the('job')), 'running',
    'its running jobs are left alone');
select is(
    (vcs.code_import_job_finish(the('job'), 'success')).status, 'success', 'and finish as ever'
);

select refused(
    format('select vcs.code_import_machine_set_quiescing(the(%L), ''bob'')', state),
    'IJ409', 'code_import_machine', format('a machine that is %s cannot be set quiescing', state)
)
from unnest(array['offline', 'quiescing']) as given (state);
select refused($$ select vcs.code_import_machine_set_quiescing(-1, 'bob') $$, 'IJ404',
    'code_import_machine', 'nor one that is unknown');
select refused($$ select vcs.code_import_machine_set_quiescing(null, 'bob') $$, 'IJ400',
    'code_import_machine', 'a machine is needed');
select refused($$ select vcs.code_import_machine_set_quiescing(a_machine(), null) $$, 'IJ400',
    'code_import_machine', 'a person is needed');

select callable_by('vcs.code_import_machine_set_quiescing(bigint, text, text)', array['operator'],
    'operators may set machines quiescing');
select rules_hold();
select * from finish();
rollback;
