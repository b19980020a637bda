begin;
select plan(15);

-- Given a machine that is offline, has run something, and has a job pinned to it
select let('machine', a_machine());
select let('import', an_import());
select a_run(the('import'), the('machine'));
select vcs.code_import_job_finish(job_of(the('import')), 'success');
select vcs.code_import_machine_set_offline(the('machine'), 'stopped');
select let('pinned', an_import());
select vcs.code_import_job_schedule(job_of(the('pinned')), the('machine'), 3);
select mark();

select lives_ok($$ select vcs.code_import_machine_delete(the('machine'), 'bob') $$,
    'a machine that is offline can be deleted');
select is_empty($$ select * from vcs.code_import_machine where id = the('machine') $$,
    'it is gone');
select results_eq(
    $$ select event_type, code_import_id, person from happened()
       where event_type = 'delete' and machine_id = the('machine') $$,
    $$ values ('delete'::text, null::bigint, 'bob'::text) $$,
    'one event delete names machine and person'
);
select results_eq(
    $$ select state, machine_id from vcs.code_import_job where code_import_id = the('pinned') $$,
    $$ values ('pending'::text, null::bigint) $$,
    'a job that was pinned to it may run anywhere'
);
select isnt_empty(
    $$ select * from vcs.code_import_result where machine_id = the('machine') $$, 'its results stay'
);
select isnt_empty(
    $$ select * from vcs.code_import_event where machine_id = the('machine')
       and event_type = 'start' $$, 'and its events'
);

-- Refusals
select refused(
    format('select vcs.code_import_machine_delete(a_machine(%L), ''bob'')', state),
    'IJ409', 'code_import_machine', format('a machine that is %s cannot be deleted', state)
)
from unnest(array['online', 'quiescing']) as given (state);
select let('busy', a_machine());
select let('job', a_run(an_import(), the('busy')));
select vcs.code_import_machine_set_offline(the('busy'), 'stopped');
select refused(
    $$ select vcs.code_import_machine_delete(the('busy'), 'bob') $$,
    'IJ409', 'code_import_machine', 'nor one that still runs something'
);
select vcs.code_import_job_finish(the('job'), 'success');
select lives_ok($$ select vcs.code_import_machine_delete(the('busy'), 'bob') $$,
    'until that has ended');
select refused($$ select vcs.code_import_machine_delete(-1, 'bob') $$, 'IJ404',
    'code_import_machine', 'nor one that is unknown');
select refused($$ select vcs.code_import_machine_delete(null, 'bob') $$, 'IJ400',
    'code_import_machine', 'a machine is needed');
select refused($$ select vcs.code_import_machine_delete(a_machine('offline'), null) $$, 'IJ400',
    'code_import_machine', 'a person is needed');

select callable_by('vcs.code_import_machine_delete(bigint, text)', array['operator'],
    'operators may delete machines');
select rules_hold();
select * from finish();
rollback;
