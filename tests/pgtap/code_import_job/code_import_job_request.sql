begin;
select plan(18);

-- Requested before it is due
select let('import', an_import());
select let('job', job_of(the('import')));
select move(the('import'), p_date_due => now() + interval '5 hours');
select mark();
select results_eq(
    $$ select id, state, requesting_user, date_due
       from vcs.code_import_job_request(the('job'), 'bob') $$,
    $$ values (the('job'), 'pending'::text, 'bob'::text, now()) $$,
    'a job requested before it is due is due now, for the requester'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, person from happened() $$,
    $$ values ('request'::text, the('import'), null::bigint, 'bob'::text) $$,
    'one event request names the import and the person'
);

-- Requested when it is overdue
select let('overdue', an_import());
select move(the('overdue'), p_date_due => now() - interval '1 minute');
select is(
    (vcs.code_import_job_request(job_of(the('overdue')), 'bob')).date_due,
    now() - interval '1 minute',
    'an overdue job keeps its date, and so its place'
);

-- A scheduled one stays with its machine
select let('pinned', an_import());
select let('machine', a_machine());
select vcs.code_import_job_schedule(job_of(the('pinned')), the('machine'), 7);
select results_eq(
    $$ select state, machine_id, ordering, requesting_user
       from vcs.code_import_job_request(job_of(the('pinned')), 'bob') $$,
    $$ values ('scheduled'::text, the('machine'), 7, 'bob'::text) $$,
    'a requested job keeps its pin and its ordering'
);

-- Refusals
select mark();
select refused(
    $$ select vcs.code_import_job_request(the('job'), 'eve') $$,
    'IJ429', 'code_import_job', 'a job is requested once'
);
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
select matches(
    pg_temp.detail_of($$ select vcs.code_import_job_request(the('job'), 'eve') $$), '\mbob\M',
    'the refusal names the requester in DETAIL'
);
select let('running', a_run(an_import()));
select refused(
    $$ select vcs.code_import_job_request(the('running'), 'eve') $$,
    'IJ423', 'code_import_job', 'a running job cannot be requested'
);
select refused(
    $$ select vcs.code_import_job_request(-1, 'eve') $$,
    'IJ410', 'code_import_job', 'a job that never was cannot be requested'
);
select refused(
    $$ select vcs.code_import_job_request(null, 'eve') $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select refused(
    format($$ select vcs.code_import_job_request(job_of(an_import()), %L) $$, bad),
    'IJ400', 'code_import_job', format('%s is no person', why)
)
from (values
    (null, 'null'), ('', 'nothing'), ('   ', 'a space'), (E'b\nob', 'a name of two lines'),
    (repeat('b', 201), 'a name of 201 characters')
) as given (bad, why);
select is(
    (select requesting_user from vcs.code_import_job where id = the('job')), 'bob',
    'a refused request leaves the first requester'
);
select is(
    (select count(*) from happened() where event_type = 'request'), 0::bigint, 'and records nothing'
);

select callable_by(
    'vcs.code_import_job_request(bigint, text)', array['operator'],
    'operators may request jobs'
);
select rules_hold();
select * from finish();
rollback;
