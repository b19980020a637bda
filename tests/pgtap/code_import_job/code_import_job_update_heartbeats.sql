begin;
select plan(17);

-- Given three runs, one of them killed, with an old heartbeat each
select let('machine', a_machine());
select let(name, an_import()) from unnest(array['a', 'b', 'killed']) as given (name);
select let('job ' || name, a_run(the(name), the('machine')))
from unnest(array['a', 'b', 'killed']) as given (name);
select vcs.code_import_job_kill(the('job killed'), 'bob');
select move(the(name), p_heartbeat => now() - interval '4 minutes')
from unnest(array['a', 'b', 'killed']) as given (name);
select let('waiting', job_of(an_import()));
select mark();

select results_eq(
    $$ select job_id, directive
       from vcs.code_import_job_update_heartbeats(
           array[the('job b'), -1, the('job killed'), the('waiting'), the('job a')],
           array['of b', 'of none', null, 'of a waiting one', 'of a'])
       order by job_id $$,
    $$ select * from (values
           (-1::bigint, 'gone'::text), (the('job a'), 'continue'), (the('job b'), 'continue'),
           (the('job killed'), 'stop'), (the('waiting'), 'gone')
       ) as want order by 1 $$,
    'each job is answered: continue, stop to a killed one, gone to what is no run'
);
select results_eq(
    $$ select id, heartbeat, logtail from vcs.code_import_job where state = 'running'
       order by id $$,
    $$ values (the('job a'), now(), 'of a'::text), (the('job b'), now(), 'of b'),
              (the('job killed'), now(), '') $$,
    'each run has beaten now and shows its own lines; a null leaves what was there'
);
select is(
    (select state from vcs.code_import_job where id = the('waiting')), 'pending',
    'a waiting job is left alone'
);
select is(news(), '', 'heartbeats record no event');

-- Arrays count from anywhere, and may be matrices: what counts is the order
select vcs.code_import_job_update_heartbeats(array[the('job a'), -1], '[0:1]={"is a",none}');
select vcs.code_import_job_update_heartbeats(array[[the('job b')]], '{{"is b"}}');
select results_eq(
    $$ select logtail from vcs.code_import_job where id in (the('job a'), the('job b'))
       order by id $$,
    array['is a', 'is b'],
    'each run shows the lines at its place, whatever the bounds and dimensions'
);

-- The limit holds here too
select set_to('logtail_limit', '9 bytes');
select vcs.code_import_job_update_heartbeats(array[the('job a')], array['x' || repeat('é', 6)]);
select is(
    (select logtail from vcs.code_import_job where id = the('job a')), repeat('é', 4),
    'the newest logtail_limit bytes are kept, cut between characters'
);

-- Nothing asked, nothing answered
select is_empty(
    $$ select * from vcs.code_import_job_update_heartbeats('{}'::bigint[], '{}'::text[]) $$,
    'no jobs, no answers'
);

-- Whose
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select results_eq(
    $$ select job_id, directive
       from vcs.code_import_job_update_heartbeats(array[the('owned')], array['not mine']) $$,
    $$ values (the('owned'), 'gone'::text) $$,
    'to another worker a run is gone'
);
reset session authorization;
select is(
    (select logtail from vcs.code_import_job where id = the('owned')), '',
    'and it is left as it was'
);

-- Refusals
select refused(
    format('select * from vcs.code_import_job_update_heartbeats(%s, %s)', ids, tails),
    'IJ400', 'code_import_job', why
)
from (values
    ('array[1, 2]::bigint[]', 'array[''x'']', 'the arrays are of equal length'),
    ('array[1, null]::bigint[]', 'array[''x'', ''y'']', 'no id is null'),
    ('array[1, 1]::bigint[]', 'array[''x'', ''y'']', 'no id is there twice'),
    ('array[[1], [null]]::bigint[]', 'array[''x'', ''y'']', 'whatever the dimensions'),
    ('null', 'array[''x'']', 'ids are needed'),
    ('array[1]::bigint[]', 'null', 'logtails are needed')
) as given (ids, tails, why);

select callable_by(
    'vcs.code_import_job_update_heartbeats(bigint[], text[])', array['operator', 'worker'],
    'operators and workers may beat'
);
select rules_hold();
select * from finish();
rollback;
