begin;
select plan(14);

select let('host', a_credential('git.example.org'));
select mark();
select lives_ok($$ select vcs.code_import_credential_delete(the('host'), 'bob') $$,
    'a credential can be deleted');
select is_empty('select * from vcs._code_import_credential', 'it is gone');
select results_eq(
    $$ select event_type, code_import_id, person, data #>> '{old_credential, host}',
              data -> 'credential' = 'null'
       from happened() $$,
    $$ values ('delete'::text, null::bigint, 'bob'::text, 'git.example.org'::text, true) $$,
    'one event delete says what it was'
);
select lives_ok($$ select a_credential('git.example.org') $$, 'the host may have another one');

select let('import', an_import());
select let('own', a_credential('example.org', the('import')));
select mark();
select lives_ok($$ select vcs.code_import_credential_delete(the('own'), 'bob') $$,
    'and so can that of an import');
select results_eq('select event_type, code_import_id from happened()',
    $$ values ('modify'::text, the('import')) $$, 'whose event modify it is');

-- An import takes its own along, and leaves its host's
select a_credential('example.org', the('import'));
select a_credential('example.org');
select mark();
select lives_ok($$ select vcs.code_import_delete(the('import'), 'bob') $$,
    'an import that has a credential can be deleted');
select results_eq(
    $$ select host, code_import_id from vcs.code_import_credential order by host $$,
    $$ values ('example.org'::text, null::bigint), ('git.example.org', null) $$,
    'its own goes with it, that of its host stays'
);
select is(news(), 'delete', 'in one event');

-- Refusals
select refused($$ select vcs.code_import_credential_delete(the('host'), 'bob') $$, 'IJ404',
    'code_import_credential', 'what is gone cannot be deleted');
select refused($$ select vcs.code_import_credential_delete(null, 'bob') $$, 'IJ400',
    'code_import_credential', 'a credential is needed');
select refused($$ select vcs.code_import_credential_delete(the('host'), null) $$, 'IJ400',
    'code_import_credential', 'a person is needed');

select callable_by('vcs.code_import_credential_delete(bigint, text)', array['operator'],
    'operators may delete credentials');
select rules_hold();
select * from finish();
rollback;
