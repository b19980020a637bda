-- Give a reviewed import its job. By hand it mostly refuses: at every commit a reviewed
-- import has one already.

create or replace function vcs.code_import_job_new(
    p_code_import_id  bigint,
    p_update_interval interval default null
)
returns vcs.code_import_job
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
    v_due      timestamptz;
begin
    if not vcs._is_update_interval(p_update_interval) then
        perform vcs._refuse_value('code_import_job', 'update_interval has to be more than nothing and at most 10 years');
    end if;
    v_schedule := vcs._lock_import(p_code_import_id);
    if v_schedule.review_status <> 'reviewed' then
        perform vcs._refuse_import_status(v_schedule, 'reviewed');
    elsif v_schedule.job_id is not null then
        perform vcs._refuse(
            'IJ409', 'code_import_job',
            format('code import %s has the job %s already', p_code_import_id, v_schedule.job_id)
        );
    end if;
    -- greatest() ignores the null of an import that never ran: it is due now.
    v_due := greatest(now(), vcs._plus(
        v_schedule.date_last_started,
        coalesce(p_update_interval, vcs._effective_update_interval(v_schedule))
    ));

    update vcs._code_import_schedule as schedule
    set job_id = nextval('vcs._code_import_job_id_seq'),
        -- However old this transaction is, its job is not made before the last run had ended.
        date_created = greatest(now(), (
            select result.date_created
            from vcs._code_import_result as result
            where result.code_import_id = p_code_import_id
              and result.date_filed >= v_schedule.date_last_started
            order by result.id desc
            limit 1
        )),
        date_due = v_due,
        state = 'pending'
    where schedule.code_import_id = p_code_import_id
    returning schedule.* into v_schedule;

    if v_due <= now() then
        perform vcs._wake_workers();
    end if;
    return vcs._job(v_schedule.job_id);
end;
$$;

comment on function vcs.code_import_job_new(bigint, interval) is
$$Make the job of a reviewed import that has none, and return it.

state   none -> pending, due now or an interval after the newest run's start
error   IJ400 an interval that cannot be, or a null code_import_id
error   IJ404 no such import
error   IJ409 the import is not reviewed, or has a job$$;
