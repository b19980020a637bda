begin;
select plan(10);

select let(state, a_machine(state)) from unnest(array['offline', 'online',
    'quiescing']) as given (state);
select mark();
select is(
    (vcs.code_import_machine_set_online(the(state), 'bob', 'repaired')).state, 'online',
    format('a machine that is %s can be set online', state)
)
from unnest(array['offline', 'quiescing']) as given (state);
select results_eq(
    'select event_type, code_import_id, machine_id, person, data from happened()',
    $$ values ('online'::text, null::bigint, the('offline'), 'bob'::text,
       '{"message": "repaired"}'::jsonb),
              ('online', null, the('quiescing'), 'bob', '{"message": "repaired"}') $$,
    'each with an event that names machine and person, and carries the message'
);
select let('quiet', a_machine('offline'));
select mark();
select vcs.code_import_machine_set_online(the('quiet'));
select results_eq(
    'select person, data from happened()', $$ values (null::text, '{}'::jsonb) $$,
    'neither a person nor a message is needed'
);

select refused(
    $$ select vcs.code_import_machine_set_online(the('online')) $$,
    'IJ409', 'code_import_machine', 'a machine that is online cannot be set online'
);
select refused($$ select vcs.code_import_machine_set_online(-1) $$, 'IJ404', 'code_import_machine',
    'nor one that is unknown');
select refused($$ select vcs.code_import_machine_set_online(null) $$, 'IJ400',
    'code_import_machine', 'a machine is needed');
select refused(
    $$ select vcs.code_import_machine_set_online(a_machine('offline'), '') $$,
    'IJ400', 'code_import_machine', 'a person that is given has to be a name'
);

select callable_by('vcs.code_import_machine_set_online(bigint, text, text)', array['operator'],
    'operators may set machines online');
select rules_hold();
select * from finish();
rollback;
