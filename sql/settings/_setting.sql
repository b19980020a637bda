-- Reading a setting, and judging a new value.

create or replace function vcs._interval_setting(p_name text)
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select setting.interval_value from vcs._code_import_setting as setting where setting.name = p_name);
end;
$$;

create or replace function vcs._number_setting(p_name text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select setting.number_value from vcs._code_import_setting as setting where setting.name = p_name);
end;
$$;

-- Why text cannot be the value of a setting; null when it can.
create or replace function vcs._setting_refusal(p_setting vcs._code_import_setting, p_value text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_parsed record;
begin
    select parsed.* into v_parsed from vcs._setting_parsed(p_setting.kind, p_value) as parsed;
    return case
        when p_setting.kind = 'interval' and not vcs._is_update_interval(v_parsed.interval_value)
            then 'has to be more than nothing and at most 10 years'
        when p_setting.kind = 'count' and v_parsed.number_value < 0
            then 'cannot be negative'
        when p_setting.name = 'consecutive_reclaim_limit' and v_parsed.number_value = 0
            then 'has to be at least 1'
        when p_setting.name = 'maximum_loss_percent' and v_parsed.number_value > 100
            then 'has to be at most 100'
        when p_setting.kind = 'size' and v_parsed.number_value not between 1 and 512 * 1024 * 1024
            then 'has to be between 1 byte and 512 MB'
        when p_setting.kind = 'hosts' and p_value !~ '^([^[:space:],/@]{1,255}([[:space:]]*,[[:space:]]*[^[:space:],/@]{1,255})*)?$'
            then 'has to be host names with commas between them'
    end;
exception
    when data_exception then
        return format('cannot be read as %s', case p_setting.kind
            when 'interval' then 'an interval such as 300 s'
            when 'size' then 'a size such as 64 kB'
            else 'a whole number'
        end);
end;
$$;
