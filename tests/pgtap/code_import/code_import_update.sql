begin;
select plan(88);

create function pg_temp.change(p_import text, p_changes jsonb) returns void language sql as $$
    select from vcs.code_import_update(tap.the(p_import), p_changes, 'bob');
$$;

-- --- Values and the event ------------------------------------------------------------------------

select let('import', an_import(p_update_interval => '2 h'));
select mark();
create temporary table told as
select * from vcs.code_import_update(
    the('import'),
    '{"owner": "carol", "assignee": "dan", "target": "new/place", "update_interval": "1 day 30 minutes"}',
    'bob'
);
select results_eq(
    $$ select owner, assignee, target, update_interval, effective_update_interval, registrant
       from vcs.code_import where id = the('import') $$,
    $$ values ('carol'::text, 'dan'::text, 'new/place'::text, interval '1 day 30 minutes',
               interval '1 day 30 minutes', 'ada'::text) $$,
    'the given values are changed, and no others'
);
select results_eq(
    'select event_type, code_import_id, machine_id, person, data from told',
    'select event_type, code_import_id, machine_id, person, data from happened()',
    'the event is returned'
);
select results_eq(
    'select event_type, code_import_id, person from told',
    $$ values ('modify'::text, the('import'), 'bob'::text) $$,
    'it is a modify that names import and person'
);
select is(
    (select data from told) @> jsonb_build_object(
        'id', the('import'), 'registrant', 'ada', 'owner', 'carol', 'assignee', 'dan', 'target',
        'new/place',
        'rcs_type', 'git', 'review_status', 'reviewed', 'update_interval', 'P1DT30M'),
    true, 'its data holds all present values'
);
select is(
    (select jsonb_object_agg(key, value) from told, jsonb_each(data)
        where key like 'old\_%') - 'old_target',
    '{"old_owner": "ada", "old_assignee": null, "old_update_interval": "PT2H"}'::jsonb,
    'and the old ones of those that changed, intervals as ISO 8601'
);
select mark();
select is_empty(
    $$ select * from vcs.code_import_update(the('import'), '{"owner": "carol"}', 'bob') $$,
    'what changes nothing returns nothing'
);
select is_empty(
    $$ select * from vcs.code_import_update(the('import'), '{}', 'bob') $$, 'nor does no change'
);
select is(news(), '', 'and records nothing');
select pg_temp.change('import', '{"update_interval": "30 days"}');
select pg_temp.change('import', '{"update_interval": "1 month"}');
select is(
    (select extract(month from update_interval)::integer from vcs.code_import
        where id = the('import')), 1,
    'a month is another interval than 30 days, although they compare as equal'
);
select pg_temp.change('import', '{"assignee": null, "update_interval": null}');
select results_eq(
    $$ select assignee, update_interval, effective_update_interval from vcs.code_import
       where id = the('import') $$,
    $$ values (null::text, null::interval, interval '6 h') $$,
    'null takes an assignee and an interval away'
);

-- --- Review status -------------------------------------------------------------------------------

create temporary table status as
select unnest(array['new', 'invalid', 'suspended', 'failing']) as name;
select let('to ' || name, an_import()) from status;
select pg_temp.change('to ' || name, jsonb_build_object('review_status', name)) from status;
select is(job_of(the('to ' || name)), null, format('to %s: a waiting job goes', name)) from status;
select let('running, to ' || name, an_import()) from status;
select let('job of ' || name, a_run(the('running, to ' || name))) from status;
select pg_temp.change('running, to ' || name, jsonb_build_object('review_status', name))
    from status;
select is(
    job_of(the('running, to ' || name)), the('job of ' || name),
        format('to %s: a running job stays', name)
)
from status;
select vcs.code_import_job_finish(the('job of ' || name), 'success') from status;
select is(job_of(the('running, to ' || name)), null, format('to %s: no next job follows it', name))
    from status;

select let('from ' || name, an_import(name)) from status;
select pg_temp.change('from ' || name, '{"review_status": "reviewed"}') from status;
select results_eq(
    format('select state, date_due from vcs.code_import_job where code_import_id = %s',
        the('from ' || name)),
    $$ values ('pending'::text, now()) $$,
    format('from %s to reviewed: a job, due now if it never ran', name)
)
from status;
select let('again', an_import());
select a_run(the('again'));
select pg_temp.change('again', '{"review_status": "suspended"}');
select mark();
select pg_temp.change('again', '{"review_status": "reviewed"}');
select is(
    (select state from vcs.code_import_job where code_import_id = the('again')), 'running',
    'reviewed again during its run, an import keeps the running job'
);
select vcs.code_import_job_finish(job_of(the('again')), 'success');
select is(due_of(the('again')), now() + interval '6 h', 'and gets its next one when that ends');

select let('ran', an_import());
select run_to(the('ran'), 'success', now() - interval '2 h', now() - interval '2 h');
select pg_temp.change('ran', '{"review_status": "suspended"}');
select pg_temp.change('ran', '{"review_status": "reviewed"}');
select is(
    due_of(the('ran')), now() + interval '4 h', 'an import that ran before waits out its interval'
);

-- The count
select let('counted ' || name, an_import()) from status;
select run_to(the('counted ' || name), 'failure') from status, generate_series(1, 3);
select pg_temp.change('counted ' || name, jsonb_build_object('review_status', name)) from status;
select pg_temp.change('counted ' || name, '{"review_status": "reviewed"}') from status;
select is(
    (select consecutive_failure_count from vcs.code_import where id = the('counted ' || name)),
    case name when 'failing' then 0 else 3 end,
    format('from %s the count of failures %s', name,
        case name when 'failing' then 'starts afresh' else 'goes on' end)
)
from status;

-- --- Source --------------------------------------------------------------------------------------

select let('moved', an_import());
select run_to(the('moved'), 'failure') from generate_series(1, 3);
select pg_temp.change('moved', '{"url": "https://moved.example.org/"}');
select results_eq(
    $$ select url, consecutive_failure_count, due_of(id) from vcs.code_import
       where id = the('moved') $$,
    $$ values ('https://moved.example.org/'::text, 0, now()) $$,
    'a changed source starts the count afresh and makes the waiting job due now'
);
select run_to(the('moved'), 'failure', now(), now());
select pg_temp.change('moved', '{"url": "HTTPS://moved.example.org"}');
select results_eq(
    $$ select url, consecutive_failure_count, due_of(id) from vcs.code_import
       where id = the('moved') $$,
    $$ values ('HTTPS://moved.example.org'::text, 1, now() + interval '6 h') $$,
    'the same source, written otherwise, is stored and changes nothing else'
);
select move(the('moved'), p_date_due => now() - interval '1 h');
select pg_temp.change('moved', '{"url": "https://moved.example.org/elsewhere"}');
select is(due_of(the('moved')), now() - interval '1 h', 'an overdue job keeps its date');

select let('moved running', an_import());
select a_run(the('moved running'));
select pg_temp.change('moved running', '{"url": "https://running.example.org/"}');
select vcs.code_import_job_finish(job_of(the('moved running')), 'failure');
select is(due_of(the('moved running')), now(), 'changed during a run, the job after it is due now');
select a_run(the('moved running'));
select vcs.code_import_job_finish(job_of(the('moved running')), 'success');
select is(due_of(the('moved running')), now() + interval '6 h', 'and the one after that as ever');
select let('moved cvs', an_import(p_rcs_type => 'cvs'));
select run_to(the('moved cvs'), 'success');
select pg_temp.change('moved cvs', '{"cvs_module": "elsewhere"}');
select is(due_of(the('moved cvs')), now(), 'a cvs module is a source too');

-- --- Interval ------------------------------------------------------------------------------------

select let('shorter', an_import());
select run_to(the('shorter'), 'success', now() - interval '1 h', now() - interval '1 h');
select pg_temp.change('shorter', '{"update_interval": "3 h"}');
select is(
    due_of(the('shorter')), now() + interval '2 h',
    'a shorter interval pulls a waiting job in: the newest start and the interval'
);
select pg_temp.change('shorter', '{"update_interval": "30 minutes"}');
select is(due_of(the('shorter')), now(), 'and never before now');
select let('longer', an_import());
select run_to(the('longer'), 'success', now(), now());
select pg_temp.change('longer', '{"update_interval": "7 days"}');
select is(due_of(the('longer')), now() + interval '6 h', 'a longer one leaves the waiting job');
select run_to(the('longer'), 'success', now(), now());
select is(due_of(the('longer')), later(now(), interval '7 days'), 'it applies after the next run');
select let('backing off', an_import());
select run_to(the('backing off'), 'failure', now(), now()) from generate_series(1, 3);
select pg_temp.change('backing off', '{"update_interval": "1 h"}');
select is(
    due_of(the('backing off')), now() + interval '24 h',
    'a job that backs off from failures is not pulled in'
);
select let('default', an_import());
select run_to(the('default'), 'success', now(), now());
select set_to('default_interval_git', '1 h');
select is(due_of(the('default')), now() + interval '6 h',
    'a changed default leaves the waiting jobs');
select run_to(the('default'), 'success', now(), now());
select is(due_of(the('default')), now() + interval '1 h', 'it applies after the next run');
select set_to('default_interval_git', null);

-- --- Refusals ------------------------------------------------------------------------------------

select mark();
select refused(
    format($$ select * from vcs.code_import_update(the('import'), %L) $$, changes),
    'IJ400', 'code_import', format('refused: %s', changes)
)
from unnest(array[
    '{"colour": "red"}', '{"id": 7}', '{"registrant": "eve"}', '{"rcs_type": "svn"}',
    '{"date_created": null}',
    '{"consecutive_failure_count": 0}', '{"date_last_successful": null}',
    '{"owner": null}', '{"owner": ""}', '{"owner": 7}', '{"assignee": ""}', '{"target": null}',
    '{"target": "../x"}',
    '{"review_status": "done"}', '{"review_status": null}', '{"url": null}',
    '{"url": "https://a:b@example.org/"}',
    '{"url": ["x"]}', '{"cvs_root": "/srv/cvs"}', '{"cvs_module": "m"}',
    '{"update_interval": "often"}',
    '{"update_interval": "0"}', '{"update_interval": "-1 h"}', '{"update_interval": "11 years"}',
    '{"update_interval": "infinity"}', '{"owner": "eve", "colour": "red"}', '[]', '7', 'null',
    '["owner"]'
]) as given (changes);
select refused(
    $$ select * from vcs.code_import_update(the('import'), null) $$, 'IJ400', 'code_import',
    'changes are needed'
);
select refused(
    $$ select * from vcs.code_import_update(null, '{}') $$, 'IJ400', 'code_import',
    'an import is needed'
);
select refused(
    $$ select * from vcs.code_import_update(-1, '{}') $$, 'IJ404', 'code_import',
    'an unknown import cannot be changed'
);
select refused(
    $$ select * from vcs.code_import_update(the('import'), '{"owner": "eve"}', '') $$,
    'IJ400', 'code_import', 'a person that is given has to be a name'
);
select refused(
    $$ select * from vcs.code_import_update(the('ran'), '{"target": "new/place"}') $$,
    '23505', 'code_import', 'the target of another import cannot be taken'
);
select refused(
    $$ select * from vcs.code_import_update(the('ran'),
       '{"url": "https://moved.example.org/elsewhere/"}') $$,
    '23505', 'code_import', 'nor its source'
);
select is(news(), '', 'a refused change records nothing');
select is(
    (select owner from vcs.code_import where id = the('import')), 'carol', 'and changes nothing'
);

-- In a transaction that checks its constraints at once
set constraints all immediate;
select lives_ok(
    format($$ select * from vcs.code_import_update(the('import'), '{"review_status": "%s"}') $$, status),
    format('an import may become %s', status)
)
from unnest(array['suspended', 'reviewed']) as given (status);
set constraints all immediate;

select callable_by(
    'vcs.code_import_update(bigint, jsonb, text)', array['operator'], 'operators may change imports'
);
select rules_hold();
select * from finish();
rollback;
