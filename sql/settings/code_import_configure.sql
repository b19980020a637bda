-- An operator changes a setting, or gives it back to its default with null.

create or replace function vcs.code_import_configure(p_name text, p_value text, p_person text)
returns vcs.code_import_settings
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_setting vcs._code_import_setting;
    v_value   text := btrim(p_value, E' \t\r\n');
    v_refusal text;
begin
    perform vcs._check_person('code_import_settings', p_person);
    if p_name is null then
        perform vcs._refuse_null('code_import_settings', 'name');
    end if;
    select setting.* into v_setting
    from vcs._code_import_setting as setting
    where setting.name = p_name
    for no key update;
    if not found then
        perform vcs._refuse_value(
            'code_import_settings', format('there is no setting %L', left(p_name, 40)),
            'The relation code_import_settings lists them.'
        );
    end if;
    v_refusal := vcs._setting_refusal(v_setting, v_value);
    if v_refusal is not null then
        perform vcs._refuse_value(
            'code_import_settings', format('%s %s, and is given %L', p_name, v_refusal, left(p_value, 40))
        );
    end if;

    update vcs._code_import_setting as setting
    set value = v_value,
        interval_value = parsed.interval_value,
        number_value = parsed.number_value
    from vcs._setting_parsed(v_setting.kind, coalesce(v_value, v_setting.default_value)) as parsed
    where setting.name = p_name;
    if p_name = 'maximum_heartbeat_interval' then
        perform vcs._look_again();
    end if;

    if v_value is distinct from v_setting.value then
        perform vcs._record_event(
            'modify', p_person => p_person,
            p_data => jsonb_build_object(
                'setting', p_name,
                'value', coalesce(v_value, v_setting.default_value),
                'old_value', coalesce(v_setting.value, v_setting.default_value)
            )
        );
    end if;
    return (select setting from vcs.code_import_settings as setting where setting.name = p_name);
end;
$$;

comment on function vcs.code_import_configure(text, text, text) is
$$Change a setting, or give it back to its default with null; return it.

event   modify
error   IJ400 no such setting, or a value that makes no sense$$;
