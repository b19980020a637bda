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
    v_width interval := vcs._partition_width(p_retention);
    v_rungs text[] := vcs._rungs(p_parent, v_width);
    v_rung  text;
    v_spans tstzrange[];
begin
    if vcs._is_better_without(p_parent, v_width) then
        return 0;
    end if;
    v_spans := vcs._missing_spans(p_parent, p_key, v_width, v_rungs);
    if v_spans = '{}' then
        return 0;
    end if;

    -- This waits for those who read or write now, and others wait behind it: not for long.
    execute format('lock table only vcs.%I in access exclusive mode', p_parent);
    perform set_config('lock_timeout', '20ms', true);
    if v_rungs <@ vcs._rungs(p_parent, v_width) then
        foreach v_rung in array v_rungs loop
            execute format('drop table vcs.%I', v_rung);
        end loop;
        perform vcs._add_partition(
            p_parent, lower(span.given), upper(span.given),
            upper(span.given) > lower(span.given) + v_width
        )
        from unnest(v_spans) as span (given);
        return cardinality(v_spans);
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

-- The empty partitions ahead that are too wide.
create or replace function vcs._rungs(p_parent text, p_width interval)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select part.relation
        from vcs._partitions(p_parent) as part
        where isfinite(part.upper_bound)
          and part.is_ours and part.blocks = 0 and part.lower_bound > now()
          and part.upper_bound > part.lower_bound + p_width
        order by part.lower_bound
    );
end;
$$;

-- What to make in the place of the rungs; nothing while what else there is suffices.
create or replace function vcs._missing_spans(
    p_parent text,
    p_key    text,
    p_width  interval,
    p_rungs  text[]
)
returns tstzrange[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gaps tstzrange[] := vcs._gaps(p_parent, p_key, p_width, p_rungs);
begin
    if lower(v_gaps[1]) < now() + 7 * p_width then
        return array(
            select tstzrange(bound.lower, bound.upper)
            from unnest(v_gaps) as gap
            cross join lateral (
                select vcs._partition_bounds(lower(gap), upper(gap), p_width)
            ) as cut (bounds)
            cross join lateral unnest(cut.bounds, cut.bounds[2:]) as bound (lower, upper)
            where bound.upper is not null
            order by bound.lower
        );
    end if;
    return '{}'::tstzrange[];
end;
$$;

-- From now on, the times for which there is no partition but those given, and that the default one
-- has no row of: no other may be made for a time that it has. They begin a width ago: a transaction
-- may be older than the install.
create or replace function vcs._gaps(
    p_parent  text,
    p_key     text,
    p_width   interval,
    p_but_for text[]
)
returns tstzrange[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_from timestamptz := vcs._aligned(now() - p_width, p_width);
    v_gaps tstzmultirange := tstzmultirange(tstzrange(v_from, null)) - (
        select coalesce(range_agg(tstzrange(part.lower_bound, part.upper_bound)), '{}')
        from vcs._partitions(p_parent) as part
        where not part.is_default and part.relation <> all (p_but_for)
    ) - vcs._times_of_default(p_parent, p_key, v_from, p_width);
begin
    return array(
        select gap from unnest(v_gaps) as gap
        where upper_inf(gap) or upper(gap) > now()
        order by gap
    );
end;
$$;

create or replace function vcs._times_of_default(
    p_parent text,
    p_key    text,
    p_from   timestamptz,
    p_width  interval
)
returns tstzmultirange
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_default text := (select part.relation from vcs._partitions(p_parent) as part where part.is_default);
    v_times   tstzmultirange := tstzmultirange();
begin
    if v_default is not null then
        execute format(
            'select coalesce(range_agg(tstzrange(time.lower, time.lower + $2)), ''{}'')
             from (
                 select distinct vcs._aligned(astray.%2$I, $2)
                 from vcs.%1$I as astray
                 where astray.%2$I >= $1
             ) as time (lower)',
            v_default, p_key
        )
        into v_times using p_from, p_width;
    end if;
    return v_times;
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
            and bool_or(part.lower_bound <= now() + p_width and part.upper_bound > now() + p_width)
        from vcs._partitions(p_parent) as part
    );
end;
$$;

-- Where to cut a gap, from one end to the other or as far as the ladder leads; one that is open has
-- no end.
create or replace function vcs._partition_bounds(
    p_from  timestamptz,
    p_until timestamptz,
    p_width interval
)
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
    while v_last < least(now() + 7 * p_width, p_until) loop
        v_last := least(vcs._aligned(v_last, p_width) + p_width, p_until);
        v_bounds := v_bounds || v_last;
    end loop;
    while v_last < least(now() + interval '8760 h', p_until) loop
        v_last := least(v_last + v_rung, p_until);
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
