-- What is past its retention goes with the partition of its time, however much it is.

create or replace function vcs._drop_partitions(p_parent text, p_oldest timestamptz)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
    c_at_once constant integer := 12;
    v_old   text[] := array(
        select part.relation from vcs._partitions(p_parent) as part
        where part.is_ours and part.upper_bound <= p_oldest
          and vcs._may_be_dropped(p_parent, part.relation)
        order by part.upper_bound
        limit c_at_once
    );
    v_relation text;
    v_count    bigint := 0;
begin
    if v_old = '{}' then
        return 0;
    end if;
    execute format('lock table only vcs.%I in access exclusive mode', p_parent);
    perform set_config('lock_timeout', '20ms', true);
    foreach v_relation in array v_old loop
        -- Once more, now that nobody can write there.
        if vcs._may_be_dropped(p_parent, v_relation) and vcs._drop_table(v_relation) then
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
exception
    when lock_not_available or deadlock_detected then
        return 0;
end;
$$;

create or replace function vcs._may_be_dropped(p_parent text, p_relation text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_parent <> '_code_import_result'
        or (vcs._sees_all() and vcs._is_looked_through(p_relation, vcs._number_setting('results_kept')));
end;
$$;

-- False when somebody is in the way: who reads just this table, or has built something on it.
create or replace function vcs._drop_table(p_relation text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('drop table vcs.%I', p_relation);
    delete from vcs._code_import_partition as looked where looked.relation = p_relation;
    return true;
exception
    when lock_not_available or deadlock_detected or object_in_use
        or dependent_objects_still_exist or undefined_table
    then
        return false;
end;
$$;

-- Of what lies in the default partition, what is past its retention goes row by row.
create or replace function vcs._tidy_default(p_parent text, p_key text, p_oldest timestamptz)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_default text := (select part.relation from vcs._partitions(p_parent) as part where part.is_default);
    v_rows    tid[];
    v_count   bigint;
begin
    execute format('select array(select ctid from vcs.%I where %I < $1 limit 10000)', v_default, p_key)
    into v_rows using p_oldest;
    if v_rows = '{}' then
        return 0;
    end if;
    if p_parent = '_code_import_result' then
        update vcs._code_import_result as result
        set date_filed = 'infinity'
        from vcs._code_import_schedule as schedule
        where result.tableoid = format('vcs.%I', v_default)::regclass
          and result.ctid = any (v_rows)
          and schedule.code_import_id = result.code_import_id
          and result.result_number > schedule.result_count - vcs._number_setting('results_kept');
    end if;
    execute format('delete from vcs.%I where ctid = any ($1)', v_default) using v_rows;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;

-- How much lies in the default partition, counted to a limit; also told as a warning.
create or replace function vcs._astray(p_parent text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    c_limit   constant bigint := 10000;
    v_default text := (select part.relation from vcs._partitions(p_parent) as part where part.is_default);
    v_count   bigint;
begin
    execute format('select count(*) from (select from vcs.%I limit $1) as found', v_default)
    into v_count using c_limit;
    if v_count > 0 then
        raise warning '% rows of vcs.% lie in vcs.%',
            case when v_count = c_limit then 'at least ' else '' end || v_count, p_parent, v_default
            using detail = 'No partition is there for their time: one was removed by hand, a clock was wrong, or code_import_tidy_up had not been called for a year.',
                  hint = 'Nothing is lost: they go by retention. Let code_import_tidy_up be called every hour.';
    end if;
    return v_count;
end;
$$;
