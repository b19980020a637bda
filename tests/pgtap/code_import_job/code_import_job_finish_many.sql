begin;
select plan(34);

-- Given runs that end in every way, and others that cannot be ended
select let('machine', a_machine());
create temporary table many (name text, status text, error_code text);
insert into many values
    ('a', 'success', null),
    ('b', 'failure', null),
    ('c', 'success_partial', null),
    ('suspended', 'success', null),
    ('sixth', 'failure', null),
    ('waiting', 'success', 'IJ409'),
    ('no status', 'reclaimed', 'IJ400'),
    ('null status', null, 'IJ400'),
    ('done', 'success', null),
    ('done otherwise', 'success', 'IJ409'),
    ('other log', 'success', 'IJ404');
select let(name, an_import()) from many;
select run_to(the('sixth'), 'failure') from generate_series(1, 5);
select let('job ' || name, a_run(the(name), the('machine'))) from many where name <> 'waiting';
select let('job waiting', job_of(the('waiting')));
select let('log', vcs.code_import_log_file_new(the('job a'), 'everything'));
select vcs.code_import_job_update_heartbeat(the('job a'), 'last words');
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}');
select vcs.code_import_job_finish(the('job done'), 'success');
select vcs.code_import_job_finish(the('job done otherwise'), 'killed');
select mark();

create temporary table answer as
select answered.*
from (select array_agg(the('job ' || name) order by name) as ids,
             array_agg(status order by name) as statuses,
             array_agg(case when name in ('a', 'other log') then the('log') end
                 order by name) as logs
      from many) as given
cross join lateral vcs.code_import_job_finish_many(given.ids, given.statuses,
    given.logs) as answered;

select results_eq(
    $$ select many.name, answer.error_code
       from many left join answer on answer.job_id = the('job ' || many.name) order by many.name $$,
    $$ select name, error_code from many order by name $$,
    'each job is answered: those that can be ended are, whatever becomes of the others'
);
select bag_eq(
    $$ select job_id, result_id, status from answer where error_code is null $$,
    $$ select job_id, id, status from vcs.code_import_result
       where job_id in (select the('job ' || name) from many where error_code is null) $$,
    'a job that was ended is answered with its result'
);
select is_empty(
    $$ select * from answer where error_code is null and message is not null $$,
    'and no message'
);
select is_empty(
    $$ select * from answer
       where error_code is not null
         and (num_nonnulls(result_id, status) > 0 or message is null
             or message !~ '^[^A-Z].*[^.]$') $$,
    'a refused one with a message, and neither result nor status'
);

-- The outcome of each is that of a single finish
select results_eq(
    $$ select log_file_id, log_excerpt, machine_id from vcs.code_import_result
       where job_id = the('job a') $$,
    $$ values (the('log'), 'last words'::text, the('machine')) $$,
    'the result has the log file and the last lines'
);
select is(due_of(the('a')), now() + interval '6 h', 'a success waits one interval');
select is(due_of(the('b')), now() + interval '6 h', 'a first failure too');
select is(due_of(the('c')), now(), 'a partial success does not');
select is(job_of(the('suspended')), null, 'a suspended import gets no job');
select results_eq(
    $$ select review_status, job_of(id), consecutive_failure_count from vcs.code_import
       where id = the('sixth') $$,
    $$ values ('failing'::text, null::bigint, 6) $$,
    'a sixth failure turns its import failing'
);
select results_eq(
    format(
        'select event_type from happened() where code_import_id = %s', the(name)
    ),
    format('select unnest(%L::text[])', events),
    format('events of %s: %s', name, events)
)
from (values
    ('a', '{publish,finish}'), ('b', '{finish}'), ('c', '{finish}'),
    ('suspended', '{publish,finish}'),
    ('sixth', '{modify,finish}'), ('done', '{}'), ('waiting', '{}')
) as given (name, events);
select is(
    (select count(*) from vcs.code_import_job
     where id in (select the('job ' || name) from many where error_code is null)),
    0::bigint,
    'the jobs that were ended are gone'
);
select is(
    (select count(*) from vcs.code_import_job
     where id in (the('job no status'), the('job null status'), the('job other log'))
       and state = 'running'),
    3::bigint,
    'those that were refused run on'
);

-- Again: the same answers, and nothing changes
select mark();
select results_eq(
    $$ select job_id, result_id, status, error_code
       from vcs.code_import_job_finish_many(
           array[the('job a'), the('job b')], array['success', 'failure']) order by job_id $$,
    $$ select job_id, result_id, status, error_code from answer
       where job_id in (the('job a'), the('job b')) order by job_id $$,
    'called again, each job is answered with its first result'
);
select is(news(), '', 'and nothing changes');

-- Runs that ended without a result
select let('reclaimed', a_run(an_import()));
select vcs.code_import_job_reclaim(the('reclaimed'));
select results_eq(
    $$ select job_id, error_code
       from vcs.code_import_job_finish_many(array[the('reclaimed'), -1],
           array['success', 'success'])
       order by job_id $$,
    $$ values (-1::bigint, 'IJ410'::text), (the('reclaimed'), 'IJ410') $$,
    'a run that was reclaimed or never was is gone'
);
select is_empty(
    $$ select * from vcs.code_import_job_finish_many('{}'::bigint[], '{}'::text[]) $$,
    'no jobs, no answers'
);

-- Arrays count from anywhere, and may be matrices: what counts is the order
select let('job ' || name, a_run(an_import())) from unnest(array['d', 'e', 'f']) as given (name);
select vcs.code_import_job_finish_many(array[the('job d'), -1],
    '[0:1]={killed,failure}', '[2:3]={null,null}');
select vcs.code_import_job_finish_many(array[[the('job e')], [the('job f')]],
    '{{success},{failure}}', '{{null},{null}}');
select results_eq(
    $$ select status from vcs.code_import_result
       where job_id in (the('job d'), the('job e'), the('job f')) order by job_id $$,
    array['killed', 'success', 'failure'],
    'each run ends with the status at its place, whatever the bounds and dimensions'
);

-- Whose
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select results_eq(
    $$ select error_code from vcs.code_import_job_finish_many(array[the('owned')],
       array['success']) $$,
    $$ values ('IJ403'::text) $$,
    'a worker may not finish the run of another''s machine'
);
set local session authorization tester_worker;
select results_eq(
    $$ select status from vcs.code_import_job_finish_many(array[the('owned')], array['success']) $$,
    $$ values ('success'::text) $$,
    'it may finish its own'
);
reset session authorization;

-- Refusals
select refused(
    format('select * from vcs.code_import_job_finish_many(%s, %s, %s)', ids, statuses, logs),
    'IJ400', 'code_import_job', why
)
from (values
    ('array[1, 2]::bigint[]', 'array[''success'']', 'null', 'as many statuses as ids'),
    ('array[1, 2]::bigint[]', 'array[''success'', ''success'']', 'array[1]::bigint[]',
        'as many log files as ids'),
    ('array[1, null]::bigint[]', 'array[''success'', ''success'']', 'null', 'no id is null'),
    ('array[1, 1]::bigint[]', 'array[''success'', ''success'']', 'null', 'no id is there twice'),
    ('null', 'array[''success'']', 'null', 'ids are needed'),
    ('array[1]::bigint[]', 'null', 'null', 'statuses are needed')
) as given (ids, statuses, logs, why);

select callable_by(
    'vcs.code_import_job_finish_many(bigint[], text[], bigint[])', array['operator', 'worker'],
    'operators and workers may finish runs'
);
select rules_hold();
select * from finish();
rollback;
