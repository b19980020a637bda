begin;
select plan(128);

-- --- The run --------------------------------------------------------------------------------

-- Given a requested, pinned run of two hours with a log
select let('import', an_import());
select let('machine', a_machine());
select vcs.code_import_job_request(job_of(the('import')), 'bob');
select vcs.code_import_job_schedule(job_of(the('import')), the('machine'), 4);
select let('job', a_run(the('import'), the('machine')));
select vcs.code_import_job_update_heartbeat(the('job'), 'last words');
select let('log', vcs.code_import_log_file_new(the('job'), 'everything'));
select move(the('import'), p_date_started => now() - interval '2 hours');
select mark();

select results_eq(
    $$ select code_import_id, machine_id, job_id, requesting_user, log_excerpt, log_file_id, status,
              date_job_started, job_duration, date_created
       from vcs.code_import_job_finish(the('job'), 'success', the('log')) $$,
    $$ values (the('import'), the('machine'), the('job'), 'bob'::text, 'last words'::text,
               the('log'), 'success'::text, now() - interval '2 hours', interval '2 hours',
                   now()) $$,
    'the result of a run tells all that is known of it'
);
select results_eq(
    $$ select * from vcs.code_import_result where job_id = the('job') $$,
    $$ select * from vcs.code_import_job_finish(the('job'), 'success', the('log')) $$,
    'and can be read'
);
select results_eq(
    $$ select state, requesting_user, machine_id, ordering, id > the('job')
       from vcs.code_import_job where code_import_id = the('import') $$,
    $$ values ('pending'::text, null::text, null::bigint, null::integer, true) $$,
    'the next job has a greater id, and no requester, pin or ordering'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id, data ->> 'job_id' from happened() $$,
    $$ values ('publish'::text, the('import'), the('machine'), the('job')::text),
              ('finish', the('import'), the('machine'), the('job')::text) $$,
    'the first success is published; the event finish comes last'
);

-- A heartbeat that was ahead: time goes forwards
select let('ahead', an_import());
select let('job ahead', a_run(the('ahead')));
select move(the('ahead'), p_heartbeat => now() + interval '1 minute');
select is(
    (vcs.code_import_job_finish(the('job ahead'), 'success')).date_created,
    now() + interval '1 minute',
    'a run never ends before its last heartbeat'
);

-- --- What each status means to the import ------------------------------------------------------

create temporary table outcome (status text, failures integer, is_successful boolean);
insert into outcome values
    ('success', 0, true),
    ('success_nochange', 0, true),
    ('success_partial', 0, false),
    ('failure', 4, false),
    ('failure_invalid', 4, false),
    ('failure_unsupported_feature', 4, false),
    ('failure_forbidden', 4, false),
    ('failure_remote_broken', 4, false),
    ('internal_failure', 3, false),
    ('killed', 3, false);

-- Three failures before, and then each status
select let(status, an_import()) from outcome;
select run_to(the(status), 'failure') from outcome, generate_series(1, 3);
select mark();
select run_to(the(status), status) from outcome;
select is(
    (select consecutive_failure_count from vcs.code_import where id = the(status)), failures,
    format('after three failures and %s the count is %s', status, failures)
)
from outcome;
select is(
    (select date_last_successful from vcs.code_import where id = the(status)),
    case when is_successful then now() end,
    format('%s is %s success', status, case when is_successful then 'a whole' else 'no whole' end)
)
from outcome;
select is(
    (select count(*) from happened() where event_type = 'publish' and code_import_id = the(status)),
    is_successful::integer::bigint,
    format('%s publishes %s', status, case when is_successful then 'once' else 'nothing' end)
)
from outcome;
select mark();
select run_to(the('success'), 'success');
select is(
    (select count(*) from happened() where event_type = 'publish'), 0::bigint,
    'a second success is not the first'
);

-- --- When the next run is due -------------------------------------------------------------------

-- i = 6 h unless set; d = when it was due, s = when it started
create temporary table beat (what text, due interval, started interval, next interval);
insert into beat values
    ('started when it was due',      '-1 h',  '-1 h',  '5 h'),
    ('started a little late',        '-2 h',  '-1 h',  '4 h'),
    ('rests for half an interval',   '-10 h', '-1 h',  '2 h'),
    ('ran for longer than that',     '-10 h', '-5 h',  '0'),
    ('took an interval and more',    '-7 h',  '-7 h',  '0'),
    ('was started before it is due', '2 h',   '-1 h',  '8 h');
create temporary table kept_beat as
select format('%s, %s', status, what) as what, status, due, started, next
from beat,
     unnest(array['success', 'success_nochange', 'internal_failure', 'killed',
         'failure']) as given (status);
select let(what, an_import()) from kept_beat;
select run_to(the(what), status, now() + due, now() + started) from kept_beat;
select is(due_of(the(what)) - now(), next, format('%s: due again in %s', what, next))
    from kept_beat;

-- Partial: at once
select let('partial', an_import());
select run_to(the('partial'), 'success_partial', now() - interval '1 h', now() - interval '1 h');
select is(due_of(the('partial')), now(), 'a partial success is due again at once');

-- The import's own interval, and that of its type
select let('daily', an_import(p_update_interval => '24 h'));
select run_to(the('daily'), 'success');
select is(due_of(the('daily')), now() + interval '24 h', 'an import''s own interval counts');
select let('cvs', an_import(p_rcs_type => 'cvs'));
select run_to(the('cvs'), 'success');
select is(due_of(the('cvs')), now() + interval '12 h', 'else that of its type');

-- --- Failures in a row ---------------------------------------------------------------------------

-- The wait after one more run that was due and started now
create function pg_temp.wait_after(p_import bigint,
    p_status text) returns interval language plpgsql as $$
begin
    perform run_to(p_import, p_status, now(), now());
    return due_of(p_import) - now();
end;
$$;
select let('failing', an_import());
select is(
    pg_temp.wait_after(the('failing'), 'failure'), interval '6 h' * wait,
    format('after %s failures in a row it waits %s × 6 h', n, wait)
)
from (values (1, 1), (2, 2), (3, 4), (4, 8), (5, 16)) as given (n, wait);
select is(
    pg_temp.wait_after(the('failing'), 'success'), interval '6 h', 'after a success 6 h again'
);

select let('late', an_import());
select run_to(the('late'), 'failure') from generate_series(1, 3);
select run_to(the('late'), 'failure', now() - interval '100 h', now() - interval '1 h');
select is(
    due_of(the('late')) - now(), interval '23 h',
    'after a late start a failure rests for half of its wait, which is 48 h after four'
);
select run_to(the('late'), 'internal_failure', now(), now());
select is(
    due_of(the('late')) - now(), interval '6 h',
    'what is not the source''s failure waits one interval, whatever failed before'
);

-- The sixth
select run_to(the('failing'), 'failure') from generate_series(1, 5);
select let('last job', a_run(the('failing')));
select mark();
select vcs.code_import_job_finish(the('last job'), 'failure_invalid');
select results_eq(
    $$ select review_status, consecutive_failure_count, job_of(id) from vcs.code_import
       where id = the('failing') $$,
    $$ values ('failing'::text, 6, null::bigint) $$,
    'the sixth failure in a row turns the import failing, without a job'
);
select results_eq(
    $$ select event_type, person, data ->> 'review_status', data ->> 'old_review_status'
       from happened() $$,
    $$ values ('modify'::text, null::text, 'failing'::text, 'reviewed'::text),
              ('finish', null, null, null) $$,
    'an event modify tells so, without a person and before finish'
);

-- The limit is a setting, and may be long: no wait overflows, none is longer than the longest wait
select set_to('consecutive_failure_limit', '10000');
create temporary table long_row (n integer, wait interval);
insert into long_row
values (7, '384 h'), (8, '30 days'), (31, '30 days'), (32, '30 days'), (33, '30 days'),
    (62, '30 days'), (63, '30 days'), (64, '30 days'), (65, '30 days'), (1023, '30 days'),
    (1024, '30 days'), (1025, '30 days'), (9999, '30 days'), (10000, '30 days');
select let('row of ' || n, an_import()) from long_row;
update vcs._code_import_schedule as schedule set consecutive_failure_count = n - 1
from long_row where schedule.code_import_id = the('row of ' || n);
select run_to(the('row of ' || n), 'failure', now(), now()) from long_row;
select is(
    due_of(the('row of ' || n)), later(now(), wait),
    format('after %s failures in a row it waits %s', n, wait)
)
from long_row;
select run_to(the('row of 10000'), 'failure');
select is(
    (select review_status from vcs.code_import where id = the('row of 10000')), 'failing',
    'the 10,001st turns it failing'
);
select let('rare', an_import(p_update_interval => '60 days'));
select run_to(the('rare'), 'failure', now(), now()) from generate_series(1, 4);
select is(
    due_of(the('rare')), later(now(), interval '60 days'),
    'an interval longer than the longest wait is the wait, however many failed'
);
select set_to('maximum_retry_interval', '10 h');
select let('capped', an_import());
select run_to(the('capped'), 'failure', now(), now()) from generate_series(1, 2);
select is(due_of(the('capped')), now() + interval '10 h', 'the longest wait is a setting');
select set_to('maximum_retry_interval', null);

-- Zero tolerance
select set_to('consecutive_failure_limit', '0');
select let('strict', an_import());
select run_to(the('strict'), 'failure');
select is(
    (select review_status from vcs.code_import where id = the('strict')), 'failing',
    'with a limit of 0 the first failure is one too many'
);
select set_to('consecutive_failure_limit', null);

-- --- No time zone has a say ----------------------------------------------------------------------

-- Of 365 days one begins summer time: counted in the zone, the due date would be an hour off.
create temporary table zone (name text);
insert into zone values ('UTC'), ('America/New_York'), ('Asia/Kathmandu'), ('Australia/Lord_Howe');
select let(name, an_import(p_update_interval => '200 days')) from zone;
select set_config('timezone', name, true), run_to(the(name), 'success', now(), now()) from zone;
select is(
    due_of(the(name)), later(now(), interval '200 days'),
    format('200 days are as long for a caller in %s', name)
)
from zone;

-- --- Stopped meanwhile ---------------------------------------------------------------------------

create temporary table stopped as
select status, outcome.status || ' while suspended' as what
from outcome where status in ('success', 'failure', 'success_partial');
select let(what, an_import()) from stopped;
select a_run(the(what)) from stopped;
select vcs.code_import_update(the(what), '{"review_status": "suspended"}') from stopped;
select vcs.code_import_job_finish(job_of(the(what)), status) from stopped;
select results_eq(
    format('select review_status, job_of(id) from vcs.code_import where id = %s', the(what)),
    $$ values ('suspended'::text, null::bigint) $$,
    format('%s: it stays suspended and gets no job', what)
)
from stopped;
select let('suspended', an_import());
select run_to(the('suspended'), 'failure') from generate_series(1, 5);
select a_run(the('suspended'));
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}');
select vcs.code_import_job_finish(job_of(the('suspended')), 'failure');
select is(
    (select review_status from vcs.code_import where id = the('suspended')), 'suspended',
    'one failure too many turns only a reviewed import failing'
);

-- --- Called again --------------------------------------------------------------------------------

select mark();
select is(
    (vcs.code_import_job_finish(the('job'), 'success')).job_id, the('job'),
    'finished again with the same status, a run gives its first result'
);
select results_eq(
    $$ select id, log_file_id from vcs.code_import_job_finish(the('job'), 'success', null) $$,
    $$ select id, the('log') from vcs.code_import_result where job_id = the('job') $$,
    'the first result, log file and all'
);
select is(news(), '', 'and nothing changes');
select refused(
    $$ select vcs.code_import_job_finish(the('job'), 'failure') $$,
    'IJ409', 'code_import_job', 'with another status it is refused'
);
select vcs.code_import_delete(the('import'));
select is(
    (vcs.code_import_job_finish(the('job'), 'success')).job_id, the('job'),
    'also when its import has been deleted since'
);
select refused(
    $$ select vcs.code_import_job_finish(the('job'), 'failure') $$,
    'IJ409', 'code_import_job', 'and with another status it is still refused'
);

-- --- Refusals ------------------------------------------------------------------------------------

select let('open', a_run(an_import()));
select refused(
    format($$ select vcs.code_import_job_finish(the('open'), %L) $$, bad),
    'IJ400', 'code_import_job', format('%s is no status to finish with', quote_nullable(bad))
)
from unnest(array['reclaimed', 'released', 'SUCCESS', '', null]) as given (bad);
select refused(
    $$ select vcs.code_import_job_finish(the('open'), 'success', -1) $$,
    'IJ404', 'code_import_log_file', 'an unknown log file is refused'
);
select let('other', a_run(an_import()));
select let('other log', vcs.code_import_log_file_new(the('other'), 'of another'));
select refused(
    $$ select vcs.code_import_job_finish(the('open'), 'success', the('other log')) $$,
    'IJ404', 'code_import_log_file', 'so is the log file of another run'
);
select refused(
    $$ select vcs.code_import_job_finish(job_of(an_import()), 'success') $$,
    'IJ409', 'code_import_job', 'a waiting job cannot be finished'
);
select refused(
    $$ select vcs.code_import_job_finish(-1, 'success') $$,
    'IJ410', 'code_import_job', 'a run that never was cannot be finished'
);
select refused(
    $$ select vcs.code_import_job_finish(null, 'success') $$,
    'IJ400', 'code_import_job', 'a job is needed'
);
select let('deleted', an_import());
select let('job of the deleted', a_run(the('deleted')));
select vcs.code_import_delete(the('deleted'));
select refused(
    $$ select vcs.code_import_job_finish(the('job of the deleted'), 'success') $$,
    'IJ410', 'code_import_job', 'a run that was deleted with its import has ended'
);
select is(
    (select state from vcs.code_import_job where id = the('open')), 'running',
    'a refused finish leaves the run'
);

-- Whose
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_job_finish(the('owned'), 'success') $$,
    'IJ403', 'code_import_job', 'a worker may not finish the run of another''s machine'
);
set local session authorization tester_worker;
select is(
    (vcs.code_import_job_finish(the('owned'), 'success')).status, 'success', 'it may finish its own'
);
set local session authorization tester_other_worker;
select refused(
    $$ select vcs.code_import_job_finish(the('owned'), 'success') $$,
    'IJ403', 'code_import_job', 'nor ask for its result by finishing it again'
);
reset session authorization;

select callable_by(
    'vcs.code_import_job_finish(bigint, text, bigint)', array['operator', 'worker'],
    'operators and workers may finish runs'
);
select rules_hold();
select * from finish();
rollback;
