-- Partitions are made ahead of time, so that nothing is ever without one.
--
-- Seven widths ahead they are as wide as the retention asks for. From there a ladder of ever wider
-- ones leads a year ahead, empty, and cut anew each time. When nobody has tidied up for long, rows
-- come to lie in a rung of it, which thereby is a partition as any other: about as wide as the time
-- that nobody came. So no row has ever to be moved, and none is refused.

create or replace function vcs._make_partitions(p_parent text, p_key text, p_retention interval)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
    v_width  interval := vcs._partition_width(p_retention);
    v_rungs  text[] := vcs._rungs(p_parent, v_width);
    v_from   timestamptz := vcs._end_of_partitions(p_parent, v_rungs);
    v_rung   text;
    v_bounds timestamptz[];
begin
    if v_from >= now() + 7 * v_width or vcs._is_better_without(p_parent, v_width) then
        return 0;
    end if;
    -- Where there is nothing yet they begin a width ago: a transaction may be older than the install.
    v_from := greatest(
        v_from, vcs._aligned(now() - v_width, v_width), vcs._end_of_default(p_parent, p_key, v_width)
    );
    v_bounds := vcs._partition_bounds(v_from, v_width);

    -- This waits for those who read or write now, and others wait behind it: not for long.
    execute format('lock table only vcs.%I in access exclusive mode', p_parent);
    perform set_config('lock_timeout', '20ms', true);
    if v_rungs <@ vcs._rungs(p_parent, v_width) then
        foreach v_rung in array v_rungs loop
            execute format('drop table vcs.%I', v_rung);
        end loop;
        perform vcs._add_partition(
            p_parent, bound.lower, bound.upper, bound.upper > bound.lower + v_width
        )
        from unnest(v_bounds, v_bounds[2:]) as bound (lower, upper)
        where bound.upper is not null;
        return cardinality(v_bounds) - 1;
    end if;
    return 0;
exception
    -- Somebody reads, or has built something on it, or a row has just come: another time.
    when lock_not_available or deadlock_detected or object_in_use
        or dependent_objects_still_exist or check_violation
    then
        return 0;
end;
$$;

-- The empty partitions ahead that are too wide, after which there are no others.
create or replace function vcs._rungs(p_parent text, p_width interval)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        with part as materialized (
            select
                listed.*,
                listed.is_ours and listed.blocks = 0 and listed.lower_bound > now()
                    and listed.upper_bound > listed.lower_bound + p_width as is_rung
            from vcs._partitions(p_parent) as listed
            where isfinite(listed.upper_bound)
        )
        select rung.relation
        from part as rung
        where rung.is_rung
          and not exists (
              select from part as other
              where not other.is_rung and other.upper_bound > rung.lower_bound
          )
        order by rung.lower_bound
    );
end;
$$;

create or replace function vcs._end_of_partitions(p_parent text, p_but_for text[])
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select max(part.upper_bound)
        from vcs._partitions(p_parent) as part
        where isfinite(part.upper_bound) and part.relation <> all (p_but_for)
    );
end;
$$;

-- Each new partition has the default one read under the lock: one with much in it is let be for as
-- long as the ladder holds. It empties by retention.
create or replace function vcs._is_better_without(p_parent text, p_width interval)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select bool_or(part.is_default and part.blocks > 1024)
            and bool_or(isfinite(part.upper_bound) and part.upper_bound > now() + p_width)
        from vcs._partitions(p_parent) as part
    );
end;
$$;

-- Where no row lies in the default partition any more: no other may be made before it.
create or replace function vcs._end_of_default(p_parent text, p_key text, p_width interval)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_default text := (select part.relation from vcs._partitions(p_parent) as part where part.is_default);
    v_newest  timestamptz;
begin
    if v_default is not null then
        execute format('select max(%I) from vcs.%I', p_key, v_default) into v_newest;
    end if;
    return vcs._aligned(v_newest, p_width) + p_width;
end;
$$;

create or replace function vcs._partition_bounds(p_from timestamptz, p_width interval)
returns timestamptz[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bounds timestamptz[] := array[p_from];
    v_last   timestamptz := p_from;
    v_rung   interval := 8 * p_width;
begin
    while v_last < now() + 7 * p_width loop
        v_last := vcs._aligned(v_last, p_width) + p_width;
        v_bounds := v_bounds || v_last;
    end loop;
    while v_last < now() + interval '8760 h' loop
        v_last := v_last + v_rung;
        v_bounds := v_bounds || v_last;
        v_rung := 4 * v_rung;
    end loop;
    return v_bounds;
end;
$$;

-- What no partition is made for, and what stays however old it is, have one each. Whoever drops
-- them by hand gets them back.
create or replace function vcs._mend_history(p_parent text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
    if not exists (select from vcs._partitions(p_parent) as part where part.is_default) then
        execute format(
            'alter table vcs.%I attach partition vcs.%I default',
            p_parent, vcs._new_partition(p_parent, '_default')
        );
    end if;
    if p_parent = '_code_import_result'
        and not exists (select from vcs._partitions(p_parent) as part where part.lower_bound = 'infinity')
    then
        execute format(
            'alter table vcs._code_import_result attach partition vcs.%I for values from (%L) to (maxvalue)',
            vcs._new_partition(p_parent, '_kept'), 'infinity'
        );
    end if;
    return true;
exception
    when lock_not_available or deadlock_detected or object_in_use then
        return false;
end;
$$;
