-- What always holds of a row of the schedule, whoever writes it.

-- One check by a function: the text of an expression is read again for each statement that writes,
-- which would cost more than all else that a claim or a finish does.
create or replace function vcs._is_whole(p_schedule vcs._code_import_schedule)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_schedule.rcs_type in ('git', 'svn', 'hg', 'cvs', 'bzr')
        and p_schedule.review_status in ('new', 'invalid', 'reviewed', 'suspended', 'failing')
        and least(
            p_schedule.consecutive_failure_count, p_schedule.consecutive_reclaim_count,
            p_schedule.result_count
        ) >= 0
        and case
            when p_schedule.state is null then num_nonnulls(
                p_schedule.job_id, p_schedule.date_created, p_schedule.date_due,
                p_schedule.requesting_user, p_schedule.ordering
            ) = 0
            else num_nulls(p_schedule.job_id, p_schedule.date_created, p_schedule.date_due) = 0
        end
        and case
            when p_schedule.state = 'running' then num_nulls(
                p_schedule.machine_id, p_schedule.date_started, p_schedule.heartbeat,
                p_schedule.start_event_id
            ) = 0
            else num_nonnulls(
                p_schedule.date_started, p_schedule.heartbeat, p_schedule.start_event_id,
                p_schedule.kill_requested_by, p_schedule.again_requested_by
            ) = 0
            and not p_schedule.is_due_after_run
            and p_schedule.is_pinned = (p_schedule.machine_id is not null)
            and case
                when p_schedule.is_pinned then coalesce(p_schedule.state = 'scheduled', false)
                else coalesce(p_schedule.state = 'pending', true)
            end
        end;
end;
$$;

do $$
begin
    if not exists (
        select from pg_catalog.pg_constraint as con
        where con.conrelid = 'vcs._code_import_schedule'::regclass
          and con.conname = 'code_import_job_has_what_its_state_needs'
    ) then
        alter table vcs._code_import_schedule
            add constraint code_import_job_has_what_its_state_needs
            check (vcs._is_whole(_code_import_schedule));
    end if;
end;
$$;

-- At every commit a reviewed import has its job, and the job of any other is running.
-- A trigger that waits for the commit can tell; a CHECK would forbid the steps in between.
create or replace function vcs._check_job_of_import()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from vcs._code_import_schedule as schedule
        where schedule.code_import_id = new.code_import_id
          and case
              when schedule.review_status = 'reviewed' then schedule.state is null
              else schedule.state <> 'running'
          end
    ) then
        perform vcs._refuse(
            '23514', 'code_import', format('code import %s has a job where it cannot, or none', new.code_import_id),
            p_detail => 'A reviewed import has exactly one job; any other has none, or one that runs.',
            p_constraint => 'code_import_has_a_job_iff_reviewed_or_still_running'
        );
    end if;
    return null;
end;
$$;

do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger as tg
        where tg.tgrelid = 'vcs._code_import_schedule'::regclass
          and tg.tgname = 'code_import_has_a_job_iff_reviewed_or_still_running'
    ) then
        create constraint trigger code_import_has_a_job_iff_reviewed_or_still_running
        after insert or update on vcs._code_import_schedule
        deferrable initially deferred
        for each row
        when (
            case
                when new.review_status = 'reviewed' then new.state is null
                else new.state <> 'running'
            end
        )
        execute function vcs._check_job_of_import();
    end if;
end;
$$;
