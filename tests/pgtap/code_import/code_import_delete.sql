begin;
select plan(21);

-- A waiting import with a past
select let('import', an_import());
select run_to(the('import'), 'success');
select let('results', count(*)) from vcs.code_import_result where code_import_id = the('import');
create temporary table was as select * from vcs.code_import where id = the('import');
select mark();
select lives_ok($$ select vcs.code_import_delete(the('import'), 'bob') $$,
    'an import can be deleted');
select is_empty($$ select * from vcs.code_import where id = the('import') $$, 'it is gone');
select is(job_of(the('import')), null, 'and its job');
select results_eq(
    'select event_type, code_import_id, machine_id, person from happened()',
    $$ values ('delete'::text, the('import'), null::bigint, 'bob'::text) $$,
    'one event delete names it and the person'
);
select is(
    (select data from happened()) @> (select jsonb_build_object(
        'id', id, 'target', target, 'url', url, 'registrant', registrant, 'review_status',
        review_status) from was),
    true, 'its data is the whole record'
);
select is(
    (select count(*) from vcs.code_import_result where code_import_id = the('import')),
    the('results'),
    'its results stay'
);
select is(
    (select string_agg(event_type, ' ' order by id) from vcs.code_import_event
        where code_import_id = the('import')),
    'create start publish finish delete', 'and its events'
);
select lives_ok(
    format($$ select vcs.code_import_new('ada', %L, 'git', %L) $$, target, url),
    'its target and source are free again'
)
from was;

-- In any state of the job
select let('pinned', an_import());
select vcs.code_import_job_schedule(job_of(the('pinned')), a_machine());
select lives_ok($$ select vcs.code_import_delete(the('pinned')) $$,
    'with a scheduled job, by nobody in particular');
select let('running', an_import());
select let('run', a_run(the('running')));
select lives_ok($$ select vcs.code_import_delete(the('running')) $$, 'with a running job');
select is(
    (select string_agg(event_type, ' ' order by id) from vcs.code_import_event
        where code_import_id = the('running')),
    'create start delete', 'the event of its start stays'
);
select refused(sql, 'IJ410', 'code_import_job', format('its worker is told by IJ410: %s', what))
from (values
    ('heartbeat', $$ select vcs.code_import_job_update_heartbeat(the('run'), '') $$),
    ('finish', $$ select vcs.code_import_job_finish(the('run'), 'success') $$),
    ('release', $$ select * from vcs.code_import_job_release(the('run')) $$),
    ('reclaim', $$ select vcs.code_import_job_reclaim(the('run')) $$),
    ('log', $$ select vcs.code_import_log_file_new(the('run'), 'x') $$)
) as given (what, sql);

-- Refusals
select refused(
    $$ select vcs.code_import_delete(the('import')) $$, 'IJ404', 'code_import',
    'what is gone cannot be deleted'
);
select refused(
    $$ select vcs.code_import_delete(null) $$, 'IJ400', 'code_import', 'an import is needed'
);
select refused(
    $$ select vcs.code_import_delete(an_import(), '') $$, 'IJ400', 'code_import',
    'a person that is given has to be a name'
);

select callable_by('vcs.code_import_delete(bigint, text)', array['operator'],
    'operators may delete imports');
select rules_hold();
select * from finish();
rollback;
