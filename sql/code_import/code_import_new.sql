-- Register one import. A reviewed one has its job at once.

create or replace function vcs.code_import_new(
    p_registrant      text,
    p_target          text,
    p_rcs_type        text,
    p_url             text     default null,
    p_cvs_root        text     default null,
    p_cvs_module      text     default null,
    p_review_status   text     default 'reviewed',
    p_owner           text     default null,
    p_update_interval interval default null
)
returns vcs.code_import
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_made record;
begin
    if not vcs._is_update_interval(p_update_interval) then
        perform vcs._refuse_value('code_import', 'update_interval has to be more than nothing and at most 10 years');
    end if;
    select made.* into v_made
    from vcs._register(
        jsonb_build_array(jsonb_build_object(
            'target', p_target, 'rcs_type', p_rcs_type, 'url', p_url,
            'cvs_root', p_cvs_root, 'cvs_module', p_cvs_module,
            'review_status', p_review_status, 'owner', p_owner,
            'update_interval', p_update_interval::text
        )),
        p_registrant
    ) as made;
    if v_made.error_code is not null then
        perform vcs._refuse(
            v_made.error_code, 'code_import', v_made.message,
            p_detail => v_made.detail, p_constraint => v_made.constraint_name
        );
    end if;
    return (select import from vcs.code_import as import where import.id = v_made.code_import_id);
end;
$$;

comment on function vcs.code_import_new(text, text, text, text, text, text, text, text, interval) is
$$Register an import and return it; a reviewed one gets its job, due now.

event   create
error   IJ400 a source, target, status, interval or name that cannot be, or null
error   23505 the target or the source is there already; DETAIL names the other one$$;
