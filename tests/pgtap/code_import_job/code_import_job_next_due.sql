begin;
select plan(17);

create function pg_temp.next_due(p_hostname text default null, p_types text[] default null)
returns interval language sql as $$
    select vcs.code_import_job_next_due(p_hostname, p_types) - now();
$$;

select is(pg_temp.next_due(), null, 'without imports there is nothing to wait for');

-- Waiting jobs
select let('soon', an_import());
select let('later', an_import(p_rcs_type => 'svn'));
select move(the('soon'), p_date_due => now() + interval '1 h');
select move(the('later'), p_date_due => now() + interval '2 h');
select is(pg_temp.next_due(), interval '1 h', 'the next due time of a waiting job');
select is(pg_temp.next_due(null, array['svn', 'hg']), interval '2 h', 'of a type that is served');
select is(pg_temp.next_due(null, array['hg']), null, 'without a job of such a type, nothing');
select move(the('soon'), p_date_due => now() - interval '1 h');
select is(pg_temp.next_due(), interval '-1 h', 'a job that is overdue is in the past');

-- Pinned jobs
select let('machine', a_machine());
select let('other machine', a_machine());
select vcs.code_import_job_schedule(job_of(the('soon')), the('machine'));
select is(
    pg_temp.next_due(hostname_of(the('machine'))), interval '-1 h',
    'a job pinned to the machine that asks counts'
);
select is(
    pg_temp.next_due(hostname_of(the('other machine'))), interval '2 h',
    'one pinned to another does not'
);
select is(pg_temp.next_due('never-seen'), interval '2 h',
    'a machine that is not yet known may ask');
select is(pg_temp.next_due(), interval '2 h', 'without a machine, only what any may take');

-- Running jobs become reclaimable
select let('running', an_import());
select a_run(the('running'), the('other machine'));
select move(the('running'), p_heartbeat => now() - interval '1 m',
    p_date_started => now() - interval '1 h');
select is(
    pg_temp.next_due(), interval '4 m', 'the moment at which a running job can become reclaimable'
);
select is(
    pg_temp.next_due(null, array['hg']), interval '4 m', 'whatever its type'
);
select set_to('maximum_heartbeat_interval', '10 m');
select is(pg_temp.next_due(), interval '9 m', 'by the interval that is set');
select set_to('maximum_heartbeat_interval', '1 day');
select is(pg_temp.next_due(), interval '2 h', 'the earlier of the two');

-- A machine that takes nothing new
select let(state, a_machine(state)) from unnest(array['offline', 'quiescing']) as given (state);
select is(
    pg_temp.next_due(hostname_of(the(state))), null,
    format('a machine that is %s waits for nothing', state)
)
from unnest(array['offline', 'quiescing']) as given (state);

-- Refusals
select refused(
    $$ select vcs.code_import_job_next_due(null, array['tla']) $$,
    'IJ400', 'code_import_job', 'an unknown type is refused'
);

select callable_by(
    'vcs.code_import_job_next_due(text, text[])', array['operator', 'worker', 'reader'],
    'whoever reads may ask'
);
select * from finish();
rollback;
