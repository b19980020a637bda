-- Writing down a change of an import, and what follows from it for the job.

-- The import as it would be with these changes.
create or replace function vcs._changed_import(p_import vcs.code_import, p_changes jsonb)
returns vcs.code_import
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_import  vcs.code_import := p_import;
    v_refusal text := vcs._keys_refusal(p_changes, array[
        'owner', 'assignee', 'review_status', 'update_interval', 'url', 'cvs_root', 'cvs_module', 'target'
    ]);
begin
    if p_changes ? 'owner' then v_import.owner := p_changes ->> 'owner'; end if;
    if p_changes ? 'assignee' then v_import.assignee := p_changes ->> 'assignee'; end if;
    if p_changes ? 'review_status' then v_import.review_status := p_changes ->> 'review_status'; end if;
    if p_changes ? 'url' then v_import.url := p_changes ->> 'url'; end if;
    if p_changes ? 'cvs_root' then v_import.cvs_root := p_changes ->> 'cvs_root'; end if;
    if p_changes ? 'cvs_module' then v_import.cvs_module := p_changes ->> 'cvs_module'; end if;
    if p_changes ? 'target' then v_import.target := p_changes ->> 'target'; end if;
    if p_changes ? 'update_interval' then
        v_import.update_interval := vcs._interval_of(p_changes ->> 'update_interval');
        if v_import.update_interval is null and p_changes ->> 'update_interval' is not null then
            v_refusal := coalesce(
                v_refusal,
                format('update_interval %L is not an interval', left(p_changes ->> 'update_interval', 40))
            );
        end if;
    end if;
    v_refusal := coalesce(v_refusal, vcs._import_refusal(
        v_import.owner, v_import.assignee, v_import.target, v_import.rcs_type, v_import.url,
        v_import.cvs_root, v_import.cvs_module, v_import.review_status, v_import.update_interval
    ));
    if v_refusal is not null then
        perform vcs._refuse_value('code_import', v_refusal);
    end if;
    return v_import;
end;
$$;

-- Write what the import is. Two sessions can choose one target: the constraint decides.
create or replace function vcs._write_import(p_import vcs.code_import)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source_hash bytea := vcs._source_hash(p_import.url, p_import.cvs_root, p_import.cvs_module);
begin
    -- What is taken for all to see is refused without waiting for whoever may be giving it up:
    -- two imports that swap their targets would wait for each other.
    if exists (
        select from vcs._code_import as import
        where (import.target = p_import.target or import.source_hash = v_source_hash)
          and import.id <> p_import.id
    ) then
        perform vcs._refuse_taken(p_import.target, v_source_hash, p_import.id);
    end if;

    if exists (
        select from vcs._code_import as import
        where import.id = p_import.id
          and import.target <> p_import.target and import.source_hash <> v_source_hash
    ) then
        perform vcs._lock_lists();
    end if;
    update vcs._code_import as import
    set owner = p_import.owner,
        assignee = p_import.assignee,
        target = p_import.target,
        url = p_import.url,
        cvs_root = p_import.cvs_root,
        cvs_module = p_import.cvs_module,
        source_hash = v_source_hash
    where import.id = p_import.id;
exception
    when unique_violation then
        perform vcs._refuse_taken(p_import.target, v_source_hash, p_import.id);
end;
$$;

-- Write what the change means for the schedule. Another source starts the counts afresh, and so
-- does a failing import that is reviewed again.
create or replace function vcs._change_schedule(p_import vcs.code_import, p_source_is_new boolean)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- The job follows in a step of its own, even for a caller who has set constraints immediate.
    set constraints vcs.code_import_has_a_job_iff_reviewed_or_still_running deferred;
    update vcs._code_import_schedule as schedule
    set review_status = p_import.review_status,
        update_interval = p_import.update_interval,
        consecutive_failure_count = case when anew.starts then 0 else schedule.consecutive_failure_count end,
        consecutive_reclaim_count = case when anew.starts then 0 else schedule.consecutive_reclaim_count end,
        is_due_after_run = schedule.is_due_after_run
            or (p_source_is_new and schedule.state is not distinct from 'running'),
        again_requested_by = case when p_import.review_status = 'reviewed' then schedule.again_requested_by end
    from (
        select p_source_is_new or (former.review_status = 'failing' and p_import.review_status = 'reviewed') as starts
        from vcs._code_import_schedule as former
        where former.code_import_id = p_import.id
    ) as anew
    where schedule.code_import_id = p_import.id;
end;
$$;

-- Pull a waiting job in: another source is due now, and a shorter interval counts from the newest
-- start, unless the job backs off from failures.
create or replace function vcs._pull_in_job(
    p_code_import_id bigint,
    p_old_interval   interval,
    p_source_is_new  boolean
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule := vcs._lock_import(p_code_import_id);
    v_interval interval := vcs._effective_update_interval(v_schedule);
    v_due      timestamptz;
begin
    if p_source_is_new then
        v_due := now();
    elsif v_schedule.consecutive_failure_count = 0 and v_interval < p_old_interval then
        v_due := greatest(now(), vcs._plus(v_schedule.date_last_started, v_interval));
    end if;

    update vcs._code_import_schedule as schedule
    set date_due = v_due
    where schedule.code_import_id = p_code_import_id
      and schedule.state in ('pending', 'scheduled')
      and schedule.date_due > v_due;
    if found and v_due <= now() then
        perform vcs._wake_workers();
    end if;
end;
$$;

-- Present values, and old ones of what changed.
create or replace function vcs._changes_json(p_old vcs.code_import, p_new vcs.code_import)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return vcs._import_json(p_new) || coalesce(
        (
            select jsonb_object_agg('old_' || former.key, former.value)
            from jsonb_each(vcs._import_json(p_old)) as former
            where former.value <> vcs._import_json(p_new) -> former.key
              and former.key not in ('consecutive_failure_count', 'effective_update_interval')
        ),
        '{}'
    );
end;
$$;
