-- How much one run may lose before a person is asked.

create or replace function vcs.code_import_mirror_set_maximum_loss(
    p_code_import_id bigint,
    p_percent        integer,
    p_person         text
)
returns vcs.code_import_mirror
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_old integer;
begin
    perform vcs._check_person('code_import_mirror', p_person);
    perform vcs._lock_import(p_code_import_id);
    if p_percent not between 0 and 100 then
        perform vcs._refuse_value(
            'code_import_mirror', format('the maximum loss is %s percent, and has to be from 0 to 100', p_percent)
        );
    end if;
    select mirror.maximum_loss_percent into v_old
    from vcs._code_import_mirror as mirror where mirror.code_import_id = p_code_import_id;
    if p_percent is distinct from v_old then
        insert into vcs._code_import_mirror as mirror (code_import_id, maximum_loss_percent)
        values (p_code_import_id, p_percent)
        on conflict (code_import_id) do update set maximum_loss_percent = excluded.maximum_loss_percent;
        perform vcs._record_event(
            'modify', p_code_import_id, p_person => p_person,
            p_data => jsonb_build_object(
                'maximum_loss_percent', p_percent, 'old_maximum_loss_percent', v_old
            )
        );
    end if;
    return (
        select mirror from vcs.code_import_mirror as mirror where mirror.code_import_id = p_code_import_id
    );
end;
$$;

comment on function vcs.code_import_mirror_set_maximum_loss(bigint, integer, text) is
$$Set how many percent of a mirror a run may lose; return the mirror.

0: nothing at all; 100: everything but the last branch; null: what the setting says.
event   modify, if it differs
error   IJ400 no percentage, a person that is no name, or null
error   IJ404 no such import$$;
