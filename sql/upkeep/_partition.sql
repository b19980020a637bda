-- The history, and the partitions that it has: read from the catalog, which cannot be out of date.

create or replace function vcs._history()
returns table (parent text, key text, retention interval)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events interval := vcs._interval_setting('event_retention');
begin
    -- Starts and finishes are read from the results: these stay as long as events do.
    return query
    values
        ('_code_import_result', 'date_filed', greatest(v_events, vcs._interval_setting('result_retention'))),
        ('_code_import_event', 'date_created', v_events),
        ('_code_import_log_file', 'date_created', vcs._interval_setting('log_retention')),
        ('_code_import_ref_change', 'date_created', vcs._interval_setting('ref_retention'));
end;
$$;

-- Not ours is what a person has attached from elsewhere: it is neither looked through nor dropped.
create or replace function vcs._partitions(p_parent text)
returns table (
    relation text, lower_bound timestamptz, upper_bound timestamptz,
    is_default boolean, is_ours boolean, blocks bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
begin
    return query
    select
        part.relname::text,
        replace(trim(bound.words[1], ''''), 'MINVALUE', '-infinity')::timestamptz,
        replace(trim(bound.words[2], ''''), 'MAXVALUE', 'infinity')::timestamptz,
        bound.words is null,
        part.relnamespace = 'vcs'::regnamespace and part.relkind = 'r'
            and part.relowner = 'code_import_owner'::regrole,
        pg_relation_size(part.oid) / current_setting('block_size')::bigint
    from pg_inherits as child
    join pg_class as part on part.oid = child.inhrelid
    cross join lateral regexp_match(
        pg_get_expr(part.relpartbound, part.oid), '^FOR VALUES FROM [(](.*)[)] TO [(](.*)[)]$'
    ) as bound (words)
    where child.inhparent = format('vcs.%I', p_parent)::regclass
    order by 2 nulls last;
end;
$$;

-- As wide as can be while at most a twentieth of the retention: twenty to sixty partitions are in
-- use, and nothing stays a tenth longer than it should, but for the shortest retentions.
create or replace function vcs._partition_width(p_retention interval)
returns interval
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select max(make_interval(hours => hour.count))
        from unnest(array[1, 2, 6, 12, 24, 48, 120, 240, 720, 2160, 4320]) as hour (count)
        where hour.count * 3600 <= greatest(extract(epoch from p_retention) / 20, 3600)
    );
end;
$$;

-- The last multiple of a width since the epoch.
create or replace function vcs._aligned(p_instant timestamptz, p_width interval)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return to_timestamp(
        floor(extract(epoch from p_instant) / extract(epoch from p_width)) * extract(epoch from p_width)
    );
end;
$$;

-- A table that may become a partition, under a name that is free.
create or replace function vcs._new_partition(p_parent text, p_ending text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name  text := p_parent || p_ending;
    v_count integer := 1;
begin
    while to_regclass(format('vcs.%I', v_name)) is not null loop
        v_count := v_count + 1;
        v_name := format('%s%s_%s', p_parent, p_ending, v_count);
    end loop;
    execute format('create table vcs.%I (like vcs.%I including all)', v_name, p_parent);
    execute format('comment on table vcs.%I is %L', v_name, format('A part of %s.', p_parent));
    return v_name;
end;
$$;

-- A partition for a span of time. Attached, not created in place: that would lock all readers out.
create or replace function vcs._add_partition(
    p_parent  text,
    p_lower   timestamptz,
    p_upper   timestamptz,
    p_is_wide boolean default false
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
declare
    v_name text := vcs._new_partition(p_parent, concat(
        '_p', vcs._bound_name(p_lower), case when p_is_wide then '_to_' || vcs._bound_name(p_upper) end
    ));
begin
    execute format(
        'alter table vcs.%I attach partition vcs.%I for values from (%L) to (%L)',
        p_parent, v_name, p_lower, p_upper
    );
end;
$$;

create or replace function vcs._bound_name(p_instant timestamptz)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_instant timestamp := p_instant at time zone 'UTC';
begin
    return to_char(
        v_instant,
        case when v_instant = date_trunc('day', v_instant) then 'YYYYMMDD' else 'YYYYMMDD_HH24' end
    );
end;
$$;
