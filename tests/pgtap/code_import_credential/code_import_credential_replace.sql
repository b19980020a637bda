begin;
select plan(19);

select let('host', a_credential('git.example.org'));
select mark();
select is(
    (select (id, host, username, key_name, allow_unencrypted, date_expires)
     from vcs.code_import_credential_replace(the('host'), 'droid', '\x02', 'key two', 'bob', true,
         now() + interval '1 day')),
    row(the('host'), 'git.example.org'::text, 'droid'::text, 'key two'::text, true,
        now() + interval '1 day'),
    'all of it but the host is what was given'
);
select is((select secret from vcs._code_import_credential), '\x02'::bytea, 'the secret, too');
select results_eq(
    $$ select event_type, code_import_id, person, data #>> '{credential, username}',
              data #>> '{old_credential, username}'
       from happened() $$,
    $$ values ('modify'::text, null::bigint, 'bob'::text, 'droid'::text, 'robot'::text) $$,
    'one event modify says what it is and was'
);
select ok((select data::text !~* 'x02|secret' from happened()), 'and nothing of the secret');
select is(
    (select (allow_unencrypted, date_expires)
     from vcs.code_import_credential_replace(the('host'), 'droid', '\x02', 'key two', 'bob')),
    row(false, null::timestamptz), 'what is not said again does not stay'
);

select let('import', an_import());
select let('own', a_credential('example.org', the('import')));
select mark();
select is(
    (vcs.code_import_credential_replace(the('own'), 'droid', '\x03', 'key', 'bob')).code_import_id,
    the('import'), 'nor does it change its import'
);
select results_eq(
    'select event_type, code_import_id from happened()',
    $$ values ('modify'::text, the('import')) $$,
    'whose event modify it is'
);

-- Refusals
select refused(
    format('select vcs.code_import_credential_replace(%s)', arguments), code,
    'code_import_credential', what
)
from (values
    ($$ null, 'robot', '\x00', 'key', 'ada' $$, 'IJ400', 'a credential is needed'),
    ($$ -1, 'robot', '\x00', 'key', 'ada' $$, 'IJ404', 'an unknown one cannot be replaced'),
    ($$ the('host'), null, '\x00', 'key', 'ada' $$, 'IJ400', 'a username is needed'),
    ($$ the('host'), 'robot', null, 'key', 'ada' $$, 'IJ400', 'a secret is needed'),
    ($$ the('host'), 'robot', '', 'key', 'ada' $$, 'IJ400', 'an empty one is not sealed'),
    ($$ the('host'), 'robot', '\x00', null, 'ada' $$, 'IJ400', 'a name of the key is needed'),
    ($$ the('host'), 'robot', '\x00', 'key', null $$, 'IJ400', 'a person is needed'),
    ($$ the('host'), 'robot', '\x00', 'key', 'ada', null $$, 'IJ400',
        'whether it may be read on the way has to be said'),
    ($$ the('host'), 'robot', '\x00', 'key', 'ada', false, now() $$, 'IJ400',
        'it must not have ended')
) as given (arguments, code, what);
select is((select secret from vcs._code_import_credential where id = the('host')), '\x02'::bytea,
    'a refusal changes nothing');

select callable_by(
    'vcs.code_import_credential_replace(bigint, text, bytea, text, text, boolean, timestamptz)',
    array['operator'], 'operators may replace credentials'
);
select rules_hold();
select * from finish();
rollback;
