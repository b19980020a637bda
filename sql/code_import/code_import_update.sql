-- An operator changes what an import is, whether it runs, or how often.

create or replace function vcs.code_import_update(
    p_code_import_id bigint,
    p_changes        jsonb,
    p_person         text default null
)
returns setof vcs.code_import_event
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule      vcs._code_import_schedule;
    v_old           vcs.code_import;
    v_new           vcs.code_import;
    v_source_is_new boolean;
    v_event_id      bigint;
begin
    perform vcs._check_optional_person('code_import', p_person);
    v_schedule := vcs._lock_import(p_code_import_id);
    select import.* into v_old from vcs.code_import as import where import.id = p_code_import_id;
    v_new := vcs._changed_import(v_old, p_changes);
    -- By image: 30 days and a month are equal, and yet not the same interval.
    if v_new *= v_old then
        return;
    end if;

    v_source_is_new := vcs._source_hash(v_old.url, v_old.cvs_root, v_old.cvs_module)
        <> vcs._source_hash(v_new.url, v_new.cvs_root, v_new.cvs_module);
    perform vcs._write_import(v_new);
    perform vcs._change_schedule(v_new, v_source_is_new);
    if v_new.review_status = 'reviewed' and v_schedule.job_id is null then
        perform vcs.code_import_job_new(p_code_import_id);
    elsif v_new.review_status <> 'reviewed' and v_schedule.state in ('pending', 'scheduled') then
        perform vcs.code_import_job_delete_pending(p_code_import_id);
    end if;
    perform vcs._pull_in_job(p_code_import_id, v_old.effective_update_interval, v_source_is_new);

    v_event_id := vcs._record_event(
        'modify', p_code_import_id, p_person => p_person, p_data => vcs._changes_json(v_old, import)
    )
    from vcs.code_import as import
    where import.id = p_code_import_id;
    return query
    select event.* from vcs._code_import_event as event
    where event.id = v_event_id and event.date_created = now();
end;
$$;

comment on function vcs.code_import_update(bigint, jsonb, text) is
$$Change an import; return the event, or no row if nothing changed.

Keys: owner, assignee, review_status, update_interval, url, cvs_root, cvs_module, target.
state   to reviewed: a pending job if there was none; to anything else: a waiting job goes
event   modify, with all present values and old_ ones of what changed
error   IJ400 an unknown key, or a value that cannot be
error   IJ404 no such import
error   23505 the target or the source is there already; DETAIL names the other one$$;
