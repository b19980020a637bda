begin;
select plan(53);

-- --- What a claim gives ------------------------------------------------------------------------

-- Nothing is due: no row, and the machine is made
select mark();
select is_empty(
    $$ select * from vcs.code_import_job_for_machine('anvil', 3) $$,
    'when nothing is due there is no row'
);
select results_eq(
    $$ select state, heartbeat, date_created from vcs.code_import_machine
       where hostname = 'anvil' $$,
    $$ values ('online'::text, now(), now()) $$,
    'a machine that was unknown is online from its first call'
);
select let('machine', id) from vcs.code_import_machine where hostname = 'anvil';
select results_eq(
    $$ select event_type, machine_id, code_import_id, person from happened() $$,
    $$ values ('online'::text, the('machine'), null::bigint, null::text) $$,
    'with an event online'
);

-- One is due
select let('import', an_import());
select let('job', job_of(the('import')));
select vcs.code_import_job_request(the('job'), 'bob');
select mark();
create temporary table assignment as select * from vcs.code_import_job_for_machine('anvil', 3);
select results_eq(
    $$ select id, code_import_id, state, machine_id, date_started, heartbeat, logtail,
       requesting_user
       from assignment $$,
    $$ values (the('job'), the('import'), 'running'::text, the('machine'), now(), now(), ''::text,
               'bob'::text) $$,
    'a job that is due is handed over, started'
);
select results_eq(
    $$ select rcs_type, url, cvs_root, cvs_module, target from assignment $$,
    $$ select rcs_type, url, cvs_root, cvs_module, target from vcs.code_import
       where id = the('import') $$,
    'with the source and the target of its import'
);
select results_eq(
    $$ select event_type, code_import_id, machine_id from happened() $$,
    $$ values ('start'::text, the('import'), the('machine')) $$,
    'and one event start'
);
select results_eq(
    $$ select * from assignment $$, $$ select * from vcs.code_import_assignment $$,
    'which runs a machine has can be asked again'
);
select vcs.code_import_job_finish(the('job'), 'success');

-- cvs has no url
select let('cvs', an_import(p_rcs_type => 'cvs'));
select results_eq(
    $$ select code_import_id, rcs_type, url, cvs_root from vcs.code_import_job_for_machine('anvil',
       3) $$,
    $$ values (the('cvs'), 'cvs'::text, null::text, ':pserver:anonymous@example.org:/cvs'::text) $$,
    'a cvs import comes with its root and module'
);
select vcs.code_import_job_finish(job_of(the('cvs')), 'success');

-- --- Which job -----------------------------------------------------------------------------------

-- The first of those that are due: requested, ordering (nulls last), date_due, id
create temporary table waiting (place integer, name text, requester text, ordering integer,
    due interval);
insert into waiting values
    (1, 'requested, first in order', 'bob', 1, '-1 m'),
    (2, 'requested, second in order', 'bob', 2, '-9 m'),
    (3, 'requested, older', 'bob', null, '-5 m'),
    (4, 'requested, newer', 'bob', null, '-1 m'),
    (5, 'first in order', null, -1, '-1 m'),
    (6, 'second in order, older', null, 0, '-3 m'),
    (7, 'second in order, newer', null, 0, '-2 m'),
    (8, 'oldest', null, null, '-2 h'),
    (9, 'older', null, null, '-1 h'),
    (10, 'due now, lower id', null, null, '0'),
    (11, 'due now, higher id', null, null, '0');
-- made in another order, but for the last two
select let(name, an_import()) from waiting order by place > 9, place % 3, place;
select vcs.code_import_job_schedule(job_of(the(name)), null, ordering) from waiting
    where ordering is not null;
select vcs.code_import_job_request(job_of(the(name)), requester) from waiting
    where requester is not null;
select move(the(name), p_date_due => now() + due) from waiting;
select let('not due', an_import());
select move(the('not due'), p_date_due => now() + interval '1 microsecond');
select let('pinned elsewhere', an_import());
select vcs.code_import_job_schedule(job_of(the('pinned elsewhere')), a_machine(), -9);
select vcs.code_import_job_request(job_of(the('pinned elsewhere')), 'bob');

create function pg_temp.claimed(p_types text[] default null) returns bigint language sql as $$
    select code_import_id from vcs.code_import_job_for_machine('anvil', 1000, p_types);
$$;
select is(pg_temp.claimed(), the(name), format('number %s is the one that is %s', place, name))
from waiting order by place;
select is(pg_temp.claimed(), null,
    'what is due in a microsecond or pinned elsewhere is not handed over');

-- A pinned job has its place like any other
select let('plain', an_import());
select let('pinned', an_import());
select vcs.code_import_job_schedule(job_of(the('pinned')), the('machine'));
select move(the('pinned'), p_date_due => now() - interval '1 m');
select is(pg_temp.claimed(), the('pinned'), 'a job pinned to this machine is handed to it');
select is(pg_temp.claimed(), the('plain'),
    'before one that is due later, and after one due earlier');

-- Types
select let(type, an_import(p_rcs_type => type)) from unnest(array['svn', 'hg', 'bzr', 'cvs',
    'git']) as given (type);
select is(pg_temp.claimed(array['hg']), the('hg'), 'only types that it serves');
select is(pg_temp.claimed(array['hg']), null, 'and no others');
select is(pg_temp.claimed('{}'), null, 'of no type, nothing');
select is(pg_temp.claimed(array['git', 'cvs']), the('cvs'), 'of several, the first in order');
select is(pg_temp.claimed(), the('svn'), 'null is all');
select pg_temp.claimed() from generate_series(1, 2);

-- --- How many ------------------------------------------------------------------------------------

select an_import() from generate_series(1, 4);
create function pg_temp.got(p_hostname text, p_limit integer) returns bigint language sql as $$
    select count(*) from vcs.code_import_job_for_machine(p_hostname, p_limit);
$$;
select is(
    array(select pg_temp.got('small', 2) from generate_series(1, 4)), array[1, 1, 0, 0]::bigint[],
    'a machine gets jobs only while it runs fewer than its limit'
);
select let('small', id) from vcs.code_import_machine where hostname = 'small';
select vcs.code_import_job_finish(
    (select min(id) from vcs.code_import_job where machine_id = the('small')), 'success');
select is(
    array(select pg_temp.got('small', 2) from generate_series(1, 2)), array[1, 0]::bigint[],
    'after one has ended it gets another'
);
select is(pg_temp.got('small', 0), 0::bigint, 'a limit of 0 gives nothing');

-- --- Machines that want nothing ------------------------------------------------------------------

select let('off', a_machine('offline'));
update vcs._code_import_machine set heartbeat = now() - interval '1 hour' where id = the('off');
select mark();
select is(pg_temp.got(hostname_of(the('off')), 3), 0::bigint,
    'a machine that is offline gets nothing');
select results_eq(
    $$ select state, heartbeat from vcs.code_import_machine where id = the('off') $$,
    $$ values ('offline'::text, now() - interval '1 hour') $$,
    'and its heartbeat does not move'
);
select let('quiet', a_machine('online'));
select let('its run', a_run(an_import(), the('quiet')));
select vcs.code_import_machine_set_quiescing(the('quiet'), 'bob');
update vcs._code_import_machine set heartbeat = now() - interval '1 hour' where id = the('quiet');
select is(
    pg_temp.got(hostname_of(the('quiet')), 3), 0::bigint, 'a machine that is quiescing gets nothing'
);
select results_eq(
    $$ select state, heartbeat from vcs.code_import_machine where id = the('quiet') $$,
    $$ values ('quiescing'::text, now()) $$,
    'while it has a run it stays quiescing, and beats'
);
select vcs.code_import_job_finish(the('its run'), 'success');
select mark();
select is(pg_temp.got(hostname_of(the('quiet')), 3), 0::bigint,
    'without a run it gets nothing either');
select is(
    (select state from vcs.code_import_machine where id = the('quiet')), 'offline',
    'and is offline from then on'
);
select results_eq(
    $$ select event_type, machine_id, person, data ->> 'reason' from happened() $$,
    $$ values ('offline'::text, the('quiet'), null::text, 'quiesced'::text) $$,
    'with an event offline for the reason quiesced'
);

-- --- Stale runs ----------------------------------------------------------------------------------

select let('stale', an_import());
select let('stale run', a_run(the('stale')));
select move(the('stale'), p_heartbeat => now() - interval '1 hour',
    p_date_started => now() - interval '1 hour');
select is(pg_temp.got(hostname_of(the('off')), 3), 0::bigint, 'even a machine that is offline');
select is(
    (select status from vcs.code_import_result where job_id = the('stale run')), 'reclaimed',
    'reclaims what is stale when it asks'
);

-- --- Refusals ------------------------------------------------------------------------------------

select refused(
    format('select * from vcs.code_import_job_for_machine(%s)', arguments),
    'IJ400', relation, format('refused: %s', why)
)
from (values
    ('null, 3', 'code_import_machine', 'no hostname'),
    (''''', 3', 'code_import_machine', 'an empty hostname'),
    (quote_literal(E'a\nb') || ', 3', 'code_import_machine', 'a hostname with a control character'),
    ('''anvil'', null', 'code_import_job', 'no limit'),
    ('''anvil'', -1', 'code_import_job', 'a negative limit'),
    ('''anvil'', 3, array[''tla'']', 'code_import_job', 'an unknown type'),
    ('''anvil'', 3, array[null]::text[]', 'code_import_job', 'a null among the types')
) as given (arguments, relation, why);

-- --- Whose ---------------------------------------------------------------------------------------

select an_import() from generate_series(1, 3);
set local session authorization tester_worker;
select is(pg_temp.got('anvil-of-a-worker', 3), 1::bigint, 'a worker claims as a machine');
set local session authorization tester_other_worker;
select refused(
    $$ select * from vcs.code_import_job_for_machine('anvil-of-a-worker', 3) $$,
    'IJ403', 'code_import_machine', 'another worker may not claim as it'
);
set local session authorization tester_operator;
select is(pg_temp.got('anvil-of-a-worker', 3), 1::bigint, 'an operator may');
select is(pg_temp.got('anvil-of-an-operator', 3), 1::bigint, 'also as a new machine');
reset session authorization;
select results_eq(
    $$ select hostname, owner_role from vcs.code_import_machine
       where hostname like 'anvil-of-%' order by hostname $$,
    $$ values ('anvil-of-a-worker'::text, 'tester_worker'::text), ('anvil-of-an-operator', null) $$,
    'the worker owns its machine, an operator none'
);

select callable_by(
    'vcs.code_import_job_for_machine(text, integer, text[])', array['operator', 'worker'],
    'operators and workers may claim'
);
select rules_hold();
select * from finish();
rollback;
