-- What holds after every transaction: each row that this returns is a rule that is broken.
--
-- It reads the public relations, and of the private tables only what nobody may see left behind.
-- It supposes a whole history: after retention has removed some of it, skip the rules in "history".

with
job as materialized (select * from vcs.code_import_job),
import as materialized (select * from vcs.code_import),
machine as materialized (select * from vcs.code_import_machine),
result as materialized (select * from vcs.code_import_result),
event as materialized (
    select *, (data ->> 'job_id')::bigint as job_id from vcs.code_import_event
),
start_event as materialized (select * from event where event_type = 'start'),
finish_event as materialized (select * from event where event_type = 'finish'),

-- What becomes of a run: it goes on, or one of three things has ended it.
run as materialized (
    select
        start_event.*,
        (select count(*) from job where job.id = start_event.job_id and job.state = 'running') as goes_on,
        (select count(*) from finish_event where finish_event.job_id = start_event.job_id) as finishes,
        (
            select count(*) from event
            where event.event_type = 'release' and event.job_id = start_event.job_id
        ) as releases,
        (
            select count(*) from event
            where event.event_type = 'delete' and event.code_import_id = start_event.code_import_id
        ) as deletes
    from start_event
),

-- The record of each import as its newest create or modify event has it.
told as materialized (
    select distinct on (event.code_import_id) event.*
    from event
    where event.event_type in ('create', 'modify') and event.data ? 'review_status'
    order by event.code_import_id, event.id desc
),

-- The counts, recounted: what ended since they last started afresh.
afresh as materialized (
    select
        import.id,
        greatest(
            (
                select max(result.id) from result
                where result.code_import_id = import.id and result.status like 'success%'
            ),
            (
                select max(event.id) from event
                where event.code_import_id = import.id
                  and event.event_type = 'modify'
                  and (
                      event.data ?| array['old_cvs_root', 'old_cvs_module']
                      or (
                          event.data ? 'old_url'
                          and vcs._normal_url(event.data ->> 'old_url')
                              <> vcs._normal_url(event.data ->> 'url')
                      )
                      or (
                          event.data ->> 'old_review_status' = 'failing'
                          and event.data ->> 'review_status' = 'reviewed'
                      )
                  )
            ),
            0
        ) as since
    from import
),

record as (
    select 'a reviewed import has exactly one job' as rule, import.id
    from import
    where import.review_status = 'reviewed'
      and 1 <> (select count(*) from job where job.code_import_id = import.id)
    union all
    select 'the job of an import that is not reviewed is running', job.id
    from import join job on job.code_import_id = import.id
    where import.review_status <> 'reviewed' and job.state <> 'running'
    union all
    select 'an import has at most one job', job.code_import_id
    from job group by job.code_import_id having count(*) > 1
    union all
    select 'a job has an import', job.id
    from job where not exists (select from import where import.id = job.code_import_id)
    union all
    select 'a job has a creation, a due date and a state', job.id
    from job where num_nulls(job.date_created, job.date_due, job.state) > 0
    union all
    select 'a pending job has no machine', job.id
    from job where job.state = 'pending' and job.machine_id is not null
    union all
    select 'a job that does not run has no heartbeat, start, logtail, killer or second requester', job.id
    from job
    where job.state <> 'running'
      and num_nonnulls(
          job.heartbeat, job.date_started, job.logtail, job.kill_requested_by, job.again_requested_by
      ) > 0
    union all
    select 'a running job has a machine, heartbeat, start and logtail', job.id
    from job
    where job.state = 'running'
      and num_nulls(job.machine_id, job.heartbeat, job.date_started, job.logtail) > 0
    union all
    select 'the machine of a job exists', job.id
    from job
    where job.state <> 'pending'
      and not exists (select from machine where machine.id = job.machine_id)
    union all
    select 'a run starts after its job was made, and beats from then on', job.id
    from job where not (job.date_created <= job.date_started and job.date_started <= job.heartbeat)
    union all
    select 'the assignments are the running jobs', coalesce(job.id, assignment.id)
    from vcs.code_import_assignment as assignment
    full join (select * from job where job.state = 'running') as job on job.id = assignment.id
    where job.id is null or assignment.id is null
    union all
    select 'only a running job has a logtail', tail.job_id
    from vcs._code_import_logtail as tail
    where not exists (select from job where job.id = tail.job_id and job.state = 'running')
    union all
    select 'a run has at most one result', result.job_id
    from result group by result.job_id having count(*) > 1
    union all
    select 'a run with a result has no job', result.job_id
    from result join job on job.id = result.job_id
    union all
    select 'a run ends after its start', result.id
    from result where result.job_duration < '0'
    union all
    select 'a log is of its run', result.id
    from result join vcs.code_import_log_file as file on file.id = result.log_file_id
    where file.job_id <> result.job_id
    union all
    select 'an import starts no run before its last one has ended', later.id
    from result as earlier
    join (
        select code_import_id, id, job_id, date_job_started from result
        union all
        select code_import_id, id, id, date_started from job where state = 'running'
    ) as later on later.code_import_id = earlier.code_import_id and later.job_id > earlier.job_id
    where later.date_job_started < earlier.date_created
    union all
    select 'results come in the order of their runs', later.id
    from result as earlier
    join result as later
        on later.code_import_id = earlier.code_import_id and later.job_id > earlier.job_id
    where later.id <= earlier.id
    union all
    select 'job ids grow within an import', job.id
    from job join start_event on start_event.code_import_id = job.code_import_id
    where start_event.job_id > job.id
       or (start_event.job_id = job.id and job.state <> 'running')
    union all
    select 'event ids are unique', event.id
    from event group by event.id having count(*) > 1
    union all
    select 'event times never go back from the start of a run to its end', finish_event.id
    from finish_event join start_event using (job_id)
    where finish_event.date_created < start_event.date_created
       or finish_event.id < start_event.id
    union all
    select 'an import that is gone has no event after its delete', event.id
    from event
    join event as gone
        on gone.event_type = 'delete' and gone.code_import_id = event.code_import_id
    where event.id > gone.id
    union all
    select 'an import that has a delete event is gone', import.id
    from import
    join event on event.code_import_id = import.id and event.event_type = 'delete'
),

history as (
    select 'every running job has its start event' as rule, job.id
    from job
    where job.state = 'running'
      and 1 <> (
          select count(*) from start_event
          where (start_event.job_id, start_event.code_import_id, start_event.machine_id, start_event.date_created)
              = (job.id, job.code_import_id, job.machine_id, job.date_started)
      )
    union all
    select 'every result has its start event', result.id
    from result
    where 1 <> (
        select count(*) from start_event
        where (start_event.job_id, start_event.code_import_id, start_event.machine_id, start_event.date_created)
            = (result.job_id, result.code_import_id, result.machine_id, result.date_job_started)
    )
    union all
    select 'every result has its finish event', result.id
    from result
    where 1 <> (
        select count(*) from finish_event
        where (finish_event.job_id, finish_event.code_import_id, finish_event.machine_id, finish_event.date_created, finish_event.data ->> 'status')
            = (result.job_id, result.code_import_id, result.machine_id, result.date_created, result.status)
    )
    union all
    select 'a run has one start event', start_event.job_id
    from start_event group by start_event.job_id having count(*) > 1
    union all
    select 'a run goes on, or has a result, a release, or an import that was deleted', run.job_id
    from run
    where run.goes_on + run.finishes + run.releases > 1
       or (run.goes_on + run.finishes + run.releases = 0 and run.deletes <> 1)
    union all
    select 'what finishes or is released has started', event.id
    from event
    where event.event_type in ('finish', 'release')
      and not exists (
          select from run where run.job_id = event.job_id and run.id < event.id
      )
    union all
    select 'a reclaimed run has its reclaim event before its finish', finish_event.id
    from finish_event
    where (finish_event.data ->> 'status' = 'reclaimed')::integer <> (
        select count(*) from event
        where event.event_type = 'reclaim'
          and event.job_id = finish_event.job_id
          and event.id < finish_event.id
    )
    union all
    select 'what is reclaimed has a result', event.id
    from event
    where event.event_type = 'reclaim'
      and not exists (select from finish_event where finish_event.job_id = event.job_id)
    union all
    select 'an import publishes once', event.code_import_id
    from event where event.event_type = 'publish'
    group by event.code_import_id having count(*) > 1
    union all
    select 'an import has published iff it was successful', import.id
    from import
    where (import.date_last_successful is not null) <> exists (
        select from event where event.event_type = 'publish' and event.code_import_id = import.id
    )
    union all
    select 'the last success is the newest successful result', import.id
    from import
    where import.date_last_successful is distinct from (
        select max(result.date_created) from result
        where result.code_import_id = import.id and result.status in ('success', 'success_nochange')
    )
    union all
    select 'failures are counted since the last success or new start', import.id
    from import join afresh using (id)
    where import.consecutive_failure_count <> (
        select count(*) from result
        where result.code_import_id = import.id and result.status like 'failure%' and result.id > afresh.since
    )
    union all
    select 'the first event of an import is its creation', first.code_import_id
    from (
        select distinct on (event.code_import_id) event.* from event
        where event.code_import_id is not null order by event.code_import_id, event.id
    ) as first
    where first.event_type <> 'create'
    union all
    select 'an import is created once', event.code_import_id
    from event where event.event_type = 'create' and event.code_import_id is not null
    group by event.code_import_id having count(*) > 1
    union all
    select 'an import that has events is there or has a delete event', event.code_import_id
    from event
    where event.event_type = 'create' and event.code_import_id is not null
      and not exists (select from import where import.id = event.code_import_id)
      and not exists (
          select from event as gone
          where gone.event_type = 'delete' and gone.code_import_id = event.code_import_id
      )
    union all
    select 'the events tell what an import is', import.id
    from import left join told on told.code_import_id = import.id
    where (told.data ->> 'owner', told.data ->> 'assignee', told.data ->> 'target', told.data ->> 'rcs_type', told.data ->> 'url', told.data ->> 'review_status')
        is distinct from (import.owner, import.assignee, import.target, import.rcs_type, import.url, import.review_status)
    union all
    select 'the events tell what a credential is', credential.id
    from vcs.code_import_credential as credential
    left join lateral (
        select event.data from event
        where credential.id::text
            in (event.data #>> '{credential, id}', event.data #>> '{old_credential, id}')
        order by event.id desc
        limit 1
    ) as told on true
    where told.data #>> '{credential, username}' is distinct from credential.username
    union all
    select 'the events tell the state of a machine', machine.id
    from machine
    where machine.state <> coalesce(
        (
            select case event.event_type when 'quiesce' then 'quiescing' else event.event_type end
            from event
            where event.machine_id = machine.id and event.event_type in ('online', 'offline', 'quiesce')
            order by event.id desc
            limit 1
        ),
        'offline'
    )
)

select rule, array_agg(id order by id) as ids, 'record' as kind from record group by rule
union all
select rule, array_agg(id order by id), 'history' from history group by rule
