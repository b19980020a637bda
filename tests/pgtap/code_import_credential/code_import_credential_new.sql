begin;
select plan(58);

-- For a host
select mark();
select is(
    (select (host, username, key_name, code_import_id, allow_unencrypted, date_expires, date_created)
     from vcs.code_import_credential_new('git.example.org', 'robot', '\x5ea1ed', 'key one', 'ada')),
    row('git.example.org'::text, 'robot'::text, 'key one'::text, null::bigint, false,
        null::timestamptz, now()),
    'a credential for a host is what was given'
);
select is((select secret from vcs._code_import_credential), '\x5ea1ed'::bytea,
    'its secret is kept as it came');
select results_eq(
    $$ select event_type, code_import_id, machine_id, person, data -> 'old_credential' = 'null',
              (data -> 'credential') - 'date_created'
       from happened() $$,
    $$ select 'create'::text, null::bigint, null::bigint, 'ada'::text, true,
              to_jsonb(credential) - 'date_created'
       from vcs.code_import_credential as credential $$,
    'one event create holds all that may be seen of it'
);
select ok((select data::text !~* '5ea1ed' from happened()), 'and nothing of the secret');
select refused(
    $$ select vcs.code_import_credential_new('git.example.org', 'other', '\x00', 'key', 'ada') $$,
    '23505', 'code_import_credential', 'a host has no second one'
);
select throws_ok(
    $$ select vcs.code_import_credential_new('git.example.org', 'other', '\x00', 'key', 'ada') $$,
    '23505', 'the host git.example.org has a credential already', 'and the refusal names the host'
);
select lives_ok(
    format($$ select vcs.code_import_credential_new(%L, 'robot', '\x00', 'key', 'ada') $$, host),
    format('a credential may be for %s', left(host, 40))
)
from unnest(array['git.example.org:8443', 'localhost', '[2001:db8::1]', '[2001:db8::1]:443',
    '192.0.2.1', 'a_b.example.org', repeat('a', 250)]) as given (host);
select is(
    (select date_expires from vcs.code_import_credential_new(
        'soon.example.org', 'robot', '\x00', 'key', 'ada', null, true, now() + interval '1 day')),
    now() + interval '1 day', 'it may have an end'
);

-- For an import
select let('import', an_import());
select mark();
select is(
    (vcs.code_import_credential_new('example.org', 'robot', '\x00', 'key', 'ada',
        the('import'))).code_import_id,
    the('import'), 'a credential may be for one import'
);
select results_eq(
    'select event_type, code_import_id, data #>> ''{credential, host}'' from happened()',
    $$ values ('modify'::text, the('import'), 'example.org'::text) $$,
    'which is a change of the import: event modify'
);
select lives_ok($$ select a_credential('example.org') $$, 'its host may have one as well');
select refused($$ select a_credential('example.org', the('import')) $$, '23505',
    'code_import_credential', 'an import has no second one');
select lives_ok($$ select a_credential('example.org:443', an_import()) $$,
    'the port of the scheme may be named');
select refused($$ select a_credential('example.org', an_import('reviewed', 'cvs')) $$, 'IJ400',
    'code_import_credential', 'a CVS server is not encrypted, and the credential has to be for such');
select lives_ok(
    $$ select vcs.code_import_credential_new(host, 'robot', '\x00', 'key', 'ada', code_import_id, true)
       from (values ('example.org', an_import('reviewed', 'cvs')),
                    ('example.org:2401', an_import('reviewed', 'cvs'))) as given (host, code_import_id) $$,
    'then it may be for one'
);

-- Refusals
select refused($$ select a_credential('example.com', an_import()) $$, 'IJ400',
    'code_import_credential', 'a host that the import is not from is of no use');
select refused($$ select a_credential('example.org:80', an_import()) $$, 'IJ400',
    'code_import_credential', 'nor is another port');
select refused(
    $$ select a_credential('example.org', (vcs.code_import_new('ada', 'test/plain', 'git',
           'http://example.org/plain')).id) $$,
    'IJ400', 'code_import_credential', 'nor, over http, one that is not for such'
);
select refused(
    format($$ select a_credential(%L) $$, host), 'IJ400', 'code_import_credential',
    format('%L is no host', translate(left(host, 40), E'\n', '?'))
)
from unnest(array['', 'Example.org', 'https://example.org', 'example.org/x', 'robot@example.org',
    'example.org:', 'example.org:0', 'example.org:080', 'example.org:65536', 'a b', '-x', '*',
    E'a\nb', 'a' || U&'\00e9', '[::1', repeat('a', 261)]) as given (host);
select refused(
    format('select vcs.code_import_credential_new(%s)', arguments), 'IJ400',
    'code_import_credential', what
)
from (values
    ($$ null, 'robot', '\x00', 'key', 'ada' $$, 'a host is needed'),
    ($$ 'h', null, '\x00', 'key', 'ada' $$, 'a username is needed'),
    ($$ 'h', '', '\x00', 'key', 'ada' $$, 'an empty one will not do'),
    ($$ 'h', 'a:b', '\x00', 'key', 'ada' $$, 'nor one with a colon in it'),
    ($$ 'h', E'a\nb', '\x00', 'key', 'ada' $$, 'nor with a line break'),
    ($$ 'h', 'robot', null, 'key', 'ada' $$, 'a secret is needed'),
    ($$ 'h', 'robot', '', 'key', 'ada' $$, 'an empty one is not sealed'),
    ($$ 'h', 'robot', decode(repeat('00', 16385), 'hex'), 'key', 'ada' $$, 'one of 16 KiB is too long'),
    ($$ 'h', 'robot', '\x00', null, 'ada' $$, 'a name of the key is needed'),
    ($$ 'h', 'robot', '\x00', '', 'ada' $$, 'an empty one will not do either'),
    ($$ 'h', 'robot', '\x00', 'key', null $$, 'a person is needed'),
    ($$ 'h', 'robot', '\x00', 'key', '' $$, 'a person has a name'),
    ($$ 'h', 'robot', '\x00', 'key', 'ada', null, null $$,
        'whether it may be read on the way has to be said'),
    ($$ 'h', 'robot', '\x00', 'key', 'ada', null, false, now() $$, 'it must not have ended'),
    ($$ 'h', 'robot', '\x00', 'key', 'ada', null, false, 'infinity' $$, 'no end is null')
) as given (arguments, what);
select refused($$ select a_credential('example.org', -1) $$, 'IJ404', 'code_import',
    'an unknown import has no credential');

select callable_by(
    'vcs.code_import_credential_new(text, text, bytea, text, text, bigint, boolean, timestamptz)',
    array['operator'], 'operators may store credentials'
);
select rules_hold();
select * from finish();
rollback;
