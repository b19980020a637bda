begin;
select plan(23);

-- Given seven imports that are due, the second requested
select let('import ' || n, an_import()) from generate_series(1, 7) as n;
select move(the('import ' || n), p_date_due => now() - interval '1 h' + n * interval '1 m')
from generate_series(1, 7) as n;
select vcs.code_import_job_request(job_of(the('import 2')), 'bob');
select move(the('import 2'), p_date_due => now());
select mark();

create temporary table first as select * from vcs.code_import_job_claim('anvil', 5, 3);
select let('machine', id) from vcs.code_import_machine where hostname = 'anvil';
select bag_eq(
    'select code_import_id, state, machine_id, date_started, heartbeat, logtail from first',
    $$ select the('import ' || n) as a, 'running'::text as b, the('machine') as c, now() as d,
              now() as e, ''::text as f
       from unnest(array[2, 1, 3]) as n $$,
    'as many as asked for, the first in order, are handed over, started'
);
select results_eq(
    'select target, url, rcs_type from first order by id',
    $$ select target, url, rcs_type from vcs.code_import
       where id in (the('import 1'), the('import 2'), the('import 3')) order by id $$,
    'with the source and target of each import'
);
select results_eq(
    $$ select event_type, count(*) from happened() group by event_type order by 1 $$,
    $$ values ('online'::text, 1::bigint), ('start', 3) $$,
    'each with an event start'
);
select is(
    (select count(*) from vcs.code_import_job_claim('anvil', 5, 100)), 2::bigint,
    'no more than the limit of runs of the machine'
);
select is_empty(
    $$ select * from vcs.code_import_job_claim('anvil', 5, 100) $$,
    'at its limit a machine gets none'
);
select is(
    (select count(*) from vcs.code_import_job_claim('mallet', 5, 100)), 2::bigint,
    'no more than are due'
);
select is_empty(
    $$ select * from vcs.code_import_job_claim('tongs', 5, 0) $$, 'who asks for none gets none'
);

-- Types
select let(type, an_import(p_rcs_type => type))
from unnest(array['svn', 'hg', 'bzr', 'cvs', 'git']) as given (type);
select bag_eq(
    $$ select code_import_id from vcs.code_import_job_claim('bellows', 100, 100,
       array['hg', 'cvs']) $$,
    $$ values (the('hg')), (the('cvs')) $$,
    'only the types that it serves'
);
select is(
    (select count(*) from vcs.code_import_job_claim('bellows', 100, 100)), 3::bigint,
    'without types, all'
);

-- Machines that want nothing
select an_import();
select is_empty(
    format('select * from vcs.code_import_job_claim(%L, 9, 9)', hostname_of(a_machine(state))),
    format('a machine that is %s gets none', state)
)
from unnest(array['offline', 'quiescing']) as given (state);

-- Refusals
select refused(
    format('select * from vcs.code_import_job_claim(%s)', arguments),
    'IJ400', relation, format('refused: %s', why)
)
from (values
    ('null, 3, 1', 'code_import_machine', 'no hostname'),
    ('''anvil'', null, 1', 'code_import_job', 'no limit'),
    ('''anvil'', 3, null', 'code_import_job', 'no number of jobs'),
    ('''anvil'', 3, -1', 'code_import_job', 'a negative number of jobs'),
    ('''anvil'', 3, 1, ''{git, null}''', 'code_import_job', 'a type that is null'),
    ('''anvil'', 3, 1, ''{{git}, {tla}}''', 'code_import_job', 'an unknown type in a matrix')
) as given (arguments, relation, why);

-- The clock goes back: what a machine had noted of a later time holds no more
select vcs.code_import_job_claim('pendulum', 0, 0);
update vcs._code_import_machine
set date_look_again = date_look_again + interval '1 h', oldest_start = oldest_start + interval '1 h'
where hostname = 'pendulum';
select an_import();
select let('run', id) from vcs.code_import_job_claim('pendulum', 1, 1);
select is(
    (select date_started from vcs.code_import_job where id = the('run')), now(),
    'a run starts now, not when the clock had been ahead'
);
update vcs._code_import_schedule set heartbeat = now() - interval '1 h' where job_id = the('run');
update vcs._code_import_machine set date_look_again = date_look_again + interval '1 h'
where hostname = 'pendulum';
select vcs.code_import_job_claim('pendulum', 1, 1);
select is(
    (select status from vcs.code_import_result where job_id = the('run')), 'reclaimed',
    'a silent run is reclaimed, though the next look was noted for later'
);

-- Whose
set local session authorization tester_worker;
select lives_ok(
    $$ select * from vcs.code_import_job_claim('anvil-of-a-worker', 3, 1) $$,
    'a worker claims as a machine'
);
set local session authorization tester_other_worker;
select refused(
    $$ select * from vcs.code_import_job_claim('anvil-of-a-worker', 3, 1) $$,
    'IJ403', 'code_import_machine', 'another worker may not claim as it'
);
reset session authorization;

select callable_by(
    'vcs.code_import_job_claim(text, integer, integer, text[])', array['operator', 'worker'],
    'operators and workers may claim'
);
select rules_hold();
select * from finish();
rollback;
