begin;
select plan(18);

-- A reviewed import without a job is only ever seen inside a transaction; here one is made.
create function pg_temp.without_a_job(p_import bigint) returns bigint language sql as $$
    update vcs._code_import_schedule
    set job_id = null, date_created = null, date_due = null, state = null
    where code_import_id = p_import
    returning p_import;
$$;

-- Never run before: due now, whatever the interval
select let('import', pg_temp.without_a_job(an_import()));
select mark();
select results_eq(
    $$ select code_import_id, state, date_due, date_created, machine_id, requesting_user, ordering
       from vcs.code_import_job_new(the('import'), interval '3 days') $$,
    $$ values (the('import'), 'pending'::text, now(), now(), null::bigint, null::text,
               null::integer) $$,
    'the first job of an import is pending and due now, whatever the interval'
);
select is(news(), '', 'a new job has no event');

-- Run before: an interval after the newest run's start, if that is still to come
select let('ran', an_import());
select run_to(the('ran'), 'success');
select move(pg_temp.without_a_job(the('ran')), p_date_last_started => now() - interval '2 hours');
select is(
    (vcs.code_import_job_new(the('ran'), interval '5 hours')).date_due,
    now() + interval '3 hours',
    'a later job is due an interval after the start of the newest run'
);
select is(
    (vcs.code_import_job_new(pg_temp.without_a_job(the('ran')))).date_due,
    now() + interval '4 hours',
    'the interval is the import''s effective one unless given'
);
select is(
    (vcs.code_import_job_new(pg_temp.without_a_job(the('ran')), interval '1 hour')).date_due,
    now(),
    'and never before now'
);

-- Ids
select cmp_ok(
    job_of(the('ran')), '>',
    (select max(job_id) from vcs.code_import_result where code_import_id = the('ran')),
    'the id of a job is greater than those of the import''s earlier runs'
);

-- Refusals
select refused(
    $$ select vcs.code_import_job_new(the('ran')) $$,
    'IJ409', 'code_import_job', 'an import that has a job gets no second one'
);
select refused(
    format($$ select vcs.code_import_job_new(an_import(%L)) $$, status),
    'IJ409', 'code_import', format('an import that is %s gets no job', status)
)
from unnest(array['new', 'invalid', 'suspended', 'failing']) as given (status);
select refused(
    $$ select vcs.code_import_job_new(-1) $$,
    'IJ404', 'code_import', 'an unknown import gets no job'
);
select refused(
    $$ select vcs.code_import_job_new(null) $$,
    'IJ400', 'code_import', 'an import is needed'
);
select refused(
    format($$ select vcs.code_import_job_new(the('ran'), interval %L) $$, bad),
    'IJ400', 'code_import_job', format('an interval of %s cannot be', bad)
)
from unnest(array['0', '-1 hour', '11 years']) as given (bad);

select callable_by(
    'vcs.code_import_job_new(bigint, interval)', array['operator'],
    'operators may make jobs'
);
select rules_hold();
select * from finish();
rollback;
