-- A person brings refs back. The disk is the caller's, in the same transaction.

create or replace function vcs.code_import_mirror_restore(
    p_code_import_id bigint,
    p_changes        jsonb,
    p_person         text
)
returns vcs.code_import
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    perform vcs._check_person('code_import_mirror', p_person);
    v_schedule := vcs._lock_import(p_code_import_id);
    if v_schedule.state = 'running' then
        perform vcs._refuse(
            'IJ423', 'code_import', format('code import %s is running', p_code_import_id),
            'Wait for its run to end, or kill it.'
        );
    end if;
    if v_schedule.review_status in ('reviewed', 'failing') then
        perform vcs.code_import_update(p_code_import_id, '{"review_status": "suspended"}', p_person);
    end if;
    insert into vcs._code_import_ref_change
        (id, date_created, code_import_id, kind, ref, old_value, new_value)
    select
        nextval('vcs._code_import_ref_change_id_seq'), now(), p_code_import_id, 'restored',
        change.ref, change.old_value, change.new_value
    from vcs._read_ref_changes('code_import_ref_change', p_changes, null) as change;
    perform vcs._record_event(
        'modify', p_code_import_id, p_person => p_person,
        p_data => jsonb_build_object('refs_restored', jsonb_array_length(p_changes))
    );
    return (select import from vcs.code_import as import where import.id = p_code_import_id);
end;
$$;

comment on function vcs.code_import_mirror_restore(bigint, jsonb, text) is
$$Record that refs of a mirror are restored; return its import, suspended.

Restore the refs on disk before this transaction ends: until then no run can start. changes is an
array of objects with ref, kind, old and new.
state   the import: reviewed or failing -> suspended; its waiting job goes
event   modify, for the import if it is suspended, then for the refs
error   IJ400 what is no change of a ref, a person that is no name, or null
error   IJ404 no such import
error   IJ423 a run goes on$$;
