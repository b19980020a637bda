-- A worker tells what its run has found and made, before it finishes it.

create or replace function vcs.code_import_mirror_report(
    p_job_id      bigint,
    p_changes     jsonb   default null,
    p_held        jsonb   default null,
    p_is_verified boolean default false,
    p_damage      text    default null
)
returns vcs.code_import_mirror
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule := vcs._lock_run(p_job_id);
begin
    if p_is_verified is null then
        perform vcs._refuse_null('code_import_mirror', 'is_verified');
    end if;
    if p_changes <> '[]' then
        perform vcs._record_ref_changes(v_schedule.code_import_id, p_changes, p_job_id);
        insert into vcs._code_import_mirror as mirror (code_import_id, job_id)
        values (v_schedule.code_import_id, p_job_id)
        on conflict (code_import_id) do update set job_id = excluded.job_id;
    end if;
    if p_held is not null then
        perform vcs._hold_refs(v_schedule.code_import_id, p_held, p_job_id);
    end if;
    if p_is_verified then
        insert into vcs._code_import_mirror as mirror (code_import_id, date_verified, damage)
        values (v_schedule.code_import_id, now(), left(p_damage, 1000))
        on conflict (code_import_id) do update
        set date_verified = greatest(now(), mirror.date_verified), damage = excluded.damage;
    end if;
    return (
        select mirror from vcs.code_import_mirror as mirror
        where mirror.code_import_id = v_schedule.code_import_id
    );
end;
$$;

comment on function vcs.code_import_mirror_report(bigint, jsonb, jsonb, boolean, text) is
$$Record what a running job has made of its mirror; return the mirror.

changes and held are arrays of objects with ref, kind (new, updated, rewritten or deleted), old and
new; changes may carry the job_id of an earlier run that could not tell. held replaces what was held
before; null leaves either as it is. is_verified: all of the mirror was read, and damage is what was wrong.
error   IJ400 what is no change of a ref, or null
error   IJ403 the job runs on a machine of another role
error   IJ409 the job is not running
error   IJ410 no such run: it has ended, or never was$$;
