begin;
select plan(41);

create function pg_temp.an_import_from(p_url text) returns bigint language sql as $$
    select id from vcs.code_import_new('ada', 'from/' || nextval('tap.serial'), 'git', p_url);
$$;
-- Which credential a run of an import gets, as the one letter that it is sealed as.
create function pg_temp.given(p_code_import_id bigint) returns text language plpgsql as $$
declare
    v_job    bigint := coalesce(
        (select id from vcs.code_import_job where code_import_id = p_code_import_id
            and state = 'running'),
        a_run(p_code_import_id)
    );
begin
    return (select coalesce(convert_from(secret, 'UTF8'), refusal)
            from vcs.code_import_credential_for_job(v_job));
end;
$$;

-- None, the host's, the import's own
select let('import', an_import());
select is(pg_temp.given(the('import')), null, 'without a credential there is no row');
select let('host', a_credential('example.org', p_secret => 'h'));
select is(pg_temp.given(the('import')), 'h', 'an import gets that of its host');
select let('own', a_credential('example.org', the('import'), p_secret => 'o'));
select is(pg_temp.given(the('import')), 'o', 'and rather its own');
select is(pg_temp.given(an_import()), 'h', 'which is for no other');
select mark();
select results_eq(
    $$ select id, date_created, code_import_id, host, username, key_name, allow_unencrypted,
              date_expires, secret, refusal
       from vcs.code_import_credential_for_job(job_of(the('import'))) $$,
    $$ values (the('own'), now(), the('import'), 'example.org'::text, 'robot'::text, 'key'::text,
               false, null::timestamptz, 'o'::bytea, null::text) $$,
    'with all that there is of it'
);
select is(news(), '', 'without an event');

-- Which host
select a_credential('example.org:8443', p_secret => 'p');
select is(pg_temp.given(pg_temp.an_import_from(url)), letter, format('%s gets %s', url, letter))
from (values
    ('https://example.org/place-1', 'h'), ('https://EXAMPLE.org:443/place-2', 'h'),
    ('https://robot@example.org/place-3', 'h'), ('https://example.org:0443/place-4', 'h'),
    ('https://example.org:8443/place-5', 'p'), ('https://example.org:8444/place-6', null),
    ('https://www.example.org/place-7', null), ('https://example.org.example.com/place-8', null),
    ('https://example.org@example.com/place-9', null), ('https://example.com/example.org', null),
    ('https://example.com/?@example.org', null), ('file:///example.org', null),
    ('ssh://example.org/place-10', null)
) as given (url, letter);
select is(pg_temp.given(pg_temp.an_import_from('http://example.org/place-1')), 'unencrypted',
    'over http it is not given, and why');
select is(pg_temp.given(an_import('reviewed', 'cvs')), 'unencrypted', 'nor to a CVS server');
select vcs.code_import_credential_replace(the('host'), 'robot', 'u', 'key', 'ada', true);
select is(pg_temp.given(pg_temp.an_import_from('http://example.org/place-2')), 'u',
    'unless it is for such');
select is(pg_temp.given(an_import('reviewed', 'cvs')), 'u', 'as for a CVS server');
select is(
    pg_temp.given((vcs.code_import_new('ada', 'test/' || port, 'cvs',
        p_cvs_root => format(':pserver:robot@example.org:%s/cvs', port), p_cvs_module => 'm')).id),
    letter, format('at its port %s', port)
)
from (values ('2401', 'u'), ('8443', 'unencrypted'), ('2402', null)) as given (port, letter);
select is(
    pg_temp.given((vcs.code_import_new('ada', 'test/fork', 'cvs',
        p_cvs_root => ':fork:robot@example.org:/cvs', p_cvs_module => 'm')).id),
    null, 'what is no server gets none'
);
select vcs.code_import_set_url(the('import'), 'https://example.com/elsewhere', 'ada');
select is(pg_temp.given(the('import')), null, 'an import that moves away leaves its own behind');
select vcs.code_import_set_url(the('import'), 'https://example.org/back', 'ada');

-- Until when
update vcs._code_import_credential set date_expires = now() + interval '1 s' where id = the('own');
select is(pg_temp.given(the('import')), 'o', 'a credential is given until it ends');
update vcs._code_import_credential set date_expires = now() where id = the('own');
select is(pg_temp.given(the('import')), 'expired',
    'and no more from then on: not even that of its host instead');

-- Refusals
select let('waiting', job_of(an_import()));
select refused(
    $$ select vcs.code_import_credential_for_job(the('waiting')) $$,
    'IJ409', 'code_import_job', 'a waiting job has no use for one'
);
select refused($$ select vcs.code_import_credential_for_job(-1) $$, 'IJ410', 'code_import_job',
    'nor a run that never was');
select refused($$ select vcs.code_import_credential_for_job(null) $$, 'IJ400', 'code_import_job',
    'a job is needed');
select let('ended', a_run(an_import()));
select vcs.code_import_job_finish(the('ended'), 'success');
select refused($$ select vcs.code_import_credential_for_job(the('ended')) $$, 'IJ410',
    'code_import_job', 'what has ended gets none');

-- Whose
select let('owned', job_of(an_import()));
select let('machine', a_machine());
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
select is((select secret from vcs.code_import_credential_for_job(the('owned'))), 'u',
    'a worker gets that of a run of its own');
set local session authorization tester_other_worker;
select refused($$ select vcs.code_import_credential_for_job(the('owned')) $$, 'IJ403',
    'code_import_credential', 'and no other worker');
set local session authorization tester_operator;
select refused($$ select vcs.code_import_credential_for_job(the('owned')) $$, 'IJ403',
    'code_import_credential', 'nor an operator');
reset session authorization;
select let('nobodys', a_run(an_import()));
set local session authorization tester_worker;
select refused($$ select vcs.code_import_credential_for_job(the('nobodys')) $$, 'IJ403',
    'code_import_credential', 'nor, on a machine that is nobody''s, a worker');
set local session authorization tester_owner;
select is((select secret from vcs.code_import_credential_for_job(the('nobodys'))), 'u',
    'the owner gets any');
reset session authorization;

select callable_by('vcs.code_import_credential_for_job(bigint)', array['operator', 'worker'],
    'operators and workers may ask for one');
select rules_hold();
select * from finish();
rollback;
