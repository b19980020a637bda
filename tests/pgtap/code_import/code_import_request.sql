begin;
select plan(23);

-- Before it is due, and after
select let('import', an_import());
select move(the('import'), p_date_due => now() + interval '5 h');
select mark();
select results_eq(
    $$ select id, date_due, requesting_user, state from vcs.code_import_request(the('import'),
       'bob') $$,
    $$ values (job_of(the('import')), now(), 'bob'::text, 'pending'::text) $$,
    'an import requested before it is due is due now, for the requester'
);
select results_eq(
    'select event_type, code_import_id, machine_id, person from happened()',
    $$ values ('request'::text, the('import'), null::bigint, 'bob'::text) $$,
    'one event request names import and person'
);
select let('overdue', an_import());
select move(the('overdue'), p_date_due => now() - interval '1 h');
select is(
    (vcs.code_import_request(the('overdue'), 'bob')).date_due, now() - interval '1 h',
    'an overdue one keeps its date'
);

-- Requested already
select mark();
select results_eq(
    $$ select id, requesting_user from vcs.code_import_request(the('import'), 'eve') $$,
    $$ values (job_of(the('import')), 'bob'::text) $$,
    'requested again, nothing happens'
);
select is(news(), '', 'and nothing is recorded');
create function pg_temp.detail_of(p_sql text) returns text language plpgsql as $$
declare
    v_detail text;
begin
    execute p_sql;
    return null;
exception when others then
    get stacked diagnostics v_detail = pg_exception_detail;
    return v_detail;
end;
$$;
select refused(
    $$ select vcs.code_import_request(the('import'), 'eve', true) $$,
    'IJ429', 'code_import_job', 'unless a refusal is asked for'
);
select matches(
    pg_temp.detail_of($$ select vcs.code_import_request(the('import'), 'eve', true) $$), '\mbob\M',
    'which names the requester in DETAIL'
);

-- The requester of one run is not that of the next
select let('job', a_run(the('import')));
select is(
    (vcs.code_import_job_finish(the('job'), 'success')).requesting_user, 'bob',
    'the result names the requester'
);
select is(
    (select requesting_user from vcs.code_import_job where code_import_id = the('import')), null,
    'the next job has none'
);

-- Refusals
select refused(
    format($$ select vcs.code_import_request(an_import(%L), 'bob') $$, status),
    'IJ409', 'code_import', format('an import that is %s cannot be requested', status)
)
from unnest(array['new', 'invalid', 'suspended', 'failing']) as given (status);
create function pg_temp.hint_to(p_sql text) returns text language plpgsql as $$
declare
    v_hint text;
begin
    execute p_sql;
    return 'none was needed';
exception when others then
    get stacked diagnostics v_hint = pg_exception_hint;
    return v_hint;
end;
$$;
select matches(
    pg_temp.hint_to(format($$ select vcs.code_import_request(an_import(%L), 'bob') $$, status)),
    hint, format('who asks for one that is %s is told which call lets it run', status)
)
from (values
    ('suspended', '^code_import_update '), ('failing', '^code_import_try_again ')
) as given (status, hint);
select let('running', an_import());
select a_run(the('running'));
select refused(
    $$ select vcs.code_import_request(the('running'), 'bob') $$,
    'IJ423', 'code_import_job', 'one that is running cannot be requested'
);
select vcs.code_import_job_finish(job_of(the('running')), 'success');
select vcs.code_import_request(the('running'), 'bob');
select a_run(the('running'));
select refused(
    $$ select vcs.code_import_request(the('running'), 'eve') $$,
    'IJ423', 'code_import_job', 'also when what runs was requested'
);
select refused($$ select vcs.code_import_request(-1, 'bob') $$, 'IJ404', 'code_import',
    'an unknown import cannot be requested');
select refused($$ select vcs.code_import_request(null, 'bob') $$, 'IJ400', 'code_import',
    'an import is needed');
select refused($$ select vcs.code_import_request(the('import'), null) $$, 'IJ400', 'code_import',
    'a person is needed');
select refused($$ select vcs.code_import_request(the('import'), 'bob', null) $$, 'IJ400',
    'code_import', 'and whether to refuse');

select callable_by('vcs.code_import_request(bigint, text, boolean)', array['operator'],
    'operators may request imports');
select rules_hold();
select * from finish();
rollback;
