-- What the job functions share: locking a job, and saying why a run cannot be touched.

-- Lock a job's row, whatever its state, and return it.
create or replace function vcs._lock_job(p_job_id bigint)
returns vcs._code_import_schedule
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    if p_job_id is null then
        perform vcs._refuse_null('code_import_job', 'job_id');
    end if;
    select schedule.* into v_schedule
    from vcs._code_import_schedule as schedule
    where schedule.job_id = p_job_id
    for no key update;
    if not found then
        perform vcs._refuse_job_gone(p_job_id);
    end if;
    return v_schedule;
end;
$$;

create or replace function vcs._refuse_job_gone(p_job_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ410', 'code_import_job',
        format('code import job %s has ended, or never was', p_job_id),
        'A worker stops this run quietly and publishes nothing.'
    );
end;
$$;

create or replace function vcs._refuse_job_state(p_job_id bigint, p_state text, p_needed text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ409', 'code_import_job', format('code import job %s is %s, not %s', p_job_id, p_state, p_needed)
    );
end;
$$;

-- Lock a running job, as whoever may act for its machine, and return it.
create or replace function vcs._lock_run(p_job_id bigint)
returns vcs._code_import_schedule
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule := vcs._lock_job(p_job_id);
begin
    if v_schedule.state <> 'running' then
        perform vcs._refuse_job_state(p_job_id, v_schedule.state, 'running');
    end if;
    perform vcs._check_run_owner(v_schedule);
    return v_schedule;
end;
$$;

create or replace function vcs._check_run_owner(p_schedule vcs._code_import_schedule)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner_role text := vcs._machine_owner(p_schedule.machine_id);
begin
    if not vcs._may_act_for(v_owner_role) then
        perform vcs._refuse_other_role(p_schedule.job_id, v_owner_role);
    end if;
end;
$$;

create or replace function vcs._machine_owner(p_machine_id bigint)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select machine.owner_role from vcs._code_import_machine as machine where machine.id = p_machine_id);
end;
$$;

create or replace function vcs._refuse_other_role(p_job_id bigint, p_owner_role text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        'IJ403', 'code_import_job',
        format('code import job %s runs on a machine of %s', p_job_id, coalesce('the role ' || p_owner_role, 'no worker role'))
    );
end;
$$;

create or replace function vcs._job(p_job_id bigint)
returns vcs.code_import_job
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select job from vcs.code_import_job as job where job.id = p_job_id);
end;
$$;

-- Wake workers: a hint, at most one a transaction, since equal notifications are folded.
create or replace function vcs._wake_workers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('code_import_job_due', '');
end;
$$;

-- Pin a waiting job to a machine (null: to none), give it its place, and record what changed.
create or replace function vcs._pin_job(
    p_job_id     bigint,
    p_machine_id bigint,
    p_ordering   integer,
    p_person     text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_old vcs._code_import_schedule := vcs._lock_job(p_job_id);
begin
    if v_old.state = 'running' then
        perform vcs._refuse_job_state(p_job_id, 'running', 'pending or scheduled');
    elsif (v_old.machine_id, v_old.ordering) is not distinct from (p_machine_id, p_ordering) then
        return;
    end if;

    update vcs._code_import_schedule as schedule
    set machine_id = p_machine_id,
        is_pinned = p_machine_id is not null,
        state = case when p_machine_id is null then 'pending' else 'scheduled' end,
        ordering = p_ordering
    where schedule.job_id = p_job_id;

    perform vcs._record_event(
        'modify', v_old.code_import_id, p_machine_id, p_person,
        jsonb_build_object(
            'job_id', p_job_id,
            'machine_id', p_machine_id, 'old_machine_id', v_old.machine_id,
            'ordering', p_ordering, 'old_ordering', v_old.ordering
        )
    );
    if v_old.date_due <= now() then
        perform vcs._recall_claims();
        perform vcs._wake_workers();
    end if;
end;
$$;
