begin;
select plan(12);

select an_import() from generate_series(1, 3);
set local session authorization tester_worker;
select lives_ok($$ select * from vcs.code_import_job_for_machine('anvil', 1) $$,
    'given a machine of a worker');
reset session authorization;
select let('machine', id) from vcs.code_import_machine where hostname = 'anvil';
select mark();
select is((vcs.code_import_machine_disown(the('machine'), 'bob')).owner_role, null,
    'disowned, it belongs to nobody');
select results_eq(
    'select event_type, code_import_id, machine_id, person from happened()',
    $$ values ('modify'::text, null::bigint, the('machine'), 'bob'::text) $$,
    'one event modify names machine and person'
);
set local session authorization tester_other_worker;
select lives_ok(
    $$ select * from vcs.code_import_job_for_machine('anvil', 9) $$,
    'another worker may claim as it'
);
set local session authorization tester_worker;
select refused(
    $$ select * from vcs.code_import_job_for_machine('anvil', 9) $$,
    'IJ403', 'code_import_machine', 'and the first one no more'
);
reset session authorization;
select let('free', a_machine());
select mark();
select lives_ok($$ select vcs.code_import_machine_disown(the('free'), 'bob') $$,
    'a machine that nobody owns stays so');
select is(news(), '', 'without an event');

select refused($$ select vcs.code_import_machine_disown(-1, 'bob') $$, 'IJ404',
    'code_import_machine', 'an unknown machine cannot be disowned');
select refused($$ select vcs.code_import_machine_disown(null, 'bob') $$, 'IJ400',
    'code_import_machine', 'a machine is needed');
select refused($$ select vcs.code_import_machine_disown(the('machine'), null) $$, 'IJ400',
    'code_import_machine', 'a person is needed');

select callable_by('vcs.code_import_machine_disown(bigint, text)', array['operator'],
    'operators may disown machines');
select rules_hold();
select * from finish();
rollback;
