begin;
select plan(7);

select let('import', an_import());
select is(
    vcs.code_import_job_is_overdue(job), due <= interval '0',
    format('a job due %s from now is %soverdue', due,
        case when due > interval '0' then 'not ' else '' end)
)
from unnest(array['-1 second', '0', '1 microsecond', '1 day']::interval[]) as given (due)
cross join lateral (
    select (vcs.code_import_job_get(job_of(the('import')))).*
) as stored
cross join lateral (
    select row(
        stored.id, stored.date_created, stored.code_import_id, stored.machine_id, now() + given.due,
        stored.state, stored.requesting_user, stored.ordering, stored.heartbeat, stored.logtail,
        stored.date_started, stored.kill_requested_by, stored.again_requested_by,
        stored.rcs_type
    )::vcs.code_import_job as job
) as moved;

-- As a computed column
select move(the('import'), p_date_due => now() + interval '1 hour');
set local search_path = tap, vcs;
select is(
    (select job.code_import_job_is_overdue from vcs.code_import_job as job
     where job.code_import_id = the('import')),
    false,
    'it can be read like a column of the job'
);
set local search_path = tap;

select is(
    vcs.code_import_job_is_overdue(null), null,
    'no job is neither overdue nor not'
);

select callable_by(
    'vcs.code_import_job_is_overdue(vcs.code_import_job)', array['operator', 'worker', 'reader'],
    'whoever reads may ask'
);
select * from finish();
rollback;
