-- Time, independent of the caller's TimeZone and IntervalStyle.

-- "+" on timestamptz counts days in the session's time zone, where one can have 23 hours.
create or replace function vcs._plus(p_instant timestamptz, p_interval interval)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (p_instant at time zone 'UTC' + p_interval) at time zone 'UTC';
end;
$$;

-- The wait after the n-th failure of the source in a row: doubled each time, and never more
-- than the limit or the interval itself, whichever is longer. Compared in seconds first:
-- doubling an interval hundreds of times would overflow it.
create or replace function vcs._retry_wait(
    p_interval interval,
    p_failures integer,
    p_limit    interval
)
returns interval
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_factor double precision := power(2::double precision, least(p_failures - 1, 100));
begin
    if p_failures <= 1 or p_interval >= p_limit then
        return p_interval;
    elsif extract(epoch from p_interval) * v_factor >= extract(epoch from p_limit) then
        return p_limit;
    else
        return p_interval * v_factor;
    end if;
end;
$$;

-- Null for text that is no interval: only a block with an exception clause can tell on every version.
create or replace function vcs._interval_of(p_text text)
returns interval
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
begin
    return p_text::interval;
exception
    when data_exception then
        return null;
end;
$$;

-- Update intervals are positive, finite, and at most 10 years. Null passes.
create or replace function vcs._is_update_interval(p_interval interval)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- By the calendar: compared as intervals, 10 years have 3600 days.
    return p_interval is null
        or (p_interval > '0' and p_interval < '11 years'
            and timestamp '2000-01-01' + p_interval <= timestamp '2010-01-01');
end;
$$;
