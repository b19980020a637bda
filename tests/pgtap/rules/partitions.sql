-- The history lies in partitions that code_import_tidy_up makes and drops.
begin;
select plan(49);

create function pg_temp.bounds(p_parent text)
returns table (lower_bound timestamptz, upper_bound timestamptz) language sql as $$
    select lower_bound, upper_bound from vcs._partitions(p_parent)
    where isfinite(upper_bound) order by lower_bound;
$$;
-- The times to come that have none.
create function pg_temp.gaps(p_parent text)
returns table (lower_bound timestamptz, upper_bound timestamptz) language sql as $$
    select gap.*
    from (
        select upper_bound as lower_bound, lead(lower_bound) over (order by lower_bound) as upper_bound
        from pg_temp.bounds(p_parent)
    ) as gap
    where gap.lower_bound <> gap.upper_bound and gap.upper_bound > now();
$$;
create function pg_temp.whole(p_parent text, p_what text) returns text language sql as $$
    select is_empty(format('select * from pg_temp.gaps(%L)', p_parent), p_what);
$$;
-- As after an install long ago: no partition but one that ended so long ago.
create function pg_temp.only(p_parent text, p_lower interval, p_upper interval)
returns void language plpgsql as $$
declare
    v_relation text;
begin
    foreach v_relation in array array(
        select relation from vcs._partitions(p_parent) where isfinite(upper_bound)
    ) loop
        execute format('drop table vcs.%I', v_relation);
    end loop;
    perform set_config('role', 'code_import_owner', true);
    perform vcs._add_partition(p_parent, today + p_lower, today + p_upper)
    from date_trunc('day', now(), 'UTC') as today;
    perform set_config('role', 'none', true);
end;
$$;

-- As installed
select bag_eq(
    'select parent from vcs._history()',
    $$ select relname::text from pg_class
       where relnamespace = 'vcs'::regnamespace and relkind = 'p' $$,
    'everything that is partitioned is kept up'
);
select pg_temp.whole(parent, format('%s has no gaps', parent)) from vcs._history();
select is_empty(
    $$ select parent from vcs._history()
       where not exists (select from pg_temp.bounds(parent) where lower_bound <= now() - interval '24 h')
          or not exists (select from pg_temp.bounds(parent) where upper_bound > now() + interval '1 year') $$,
    'there is room for transactions that began yesterday, and for a year without tidy-up'
);
select bag_eq(
    $$ select parent, relation from vcs._history(), vcs._partitions(parent)
       where upper_bound is null or not isfinite(upper_bound) $$,
    $$ values ('_code_import_result', '_code_import_result_default'),
              ('_code_import_result', '_code_import_result_kept'),
              ('_code_import_event', '_code_import_event_default'),
              ('_code_import_log_file', '_code_import_log_file_default'),
              ('_code_import_ref_change', '_code_import_ref_change_default') $$,
    'a default takes what else comes, and results that are old and stay have their own'
);
select is_empty(
    $$ select parent, lower_bound from vcs._history() as history, pg_temp.bounds(parent)
       where lower_bound < now() + interval '7 days'
         and upper_bound <> lower_bound + vcs._partition_width(history.retention) $$,
    'for a week all have their width'
);
select is_empty(
    $$ select lower_bound from pg_temp.bounds('_code_import_event')
       where lower_bound <> date_trunc('day', lower_bound, 'UTC') $$,
    'and begin at midnight in UTC, wherever the caller is'
);
select is(
    vcs._partition_width(given.retention), given.width, format('for %s they are %s wide', retention, width)
)
from (values
    (interval '1 s', interval '1 h'), ('39 h', '1 h'), ('40 h', '2 h'), ('30 days', '24 h'),
    ('90 days', '48 h'), ('1 year', '240 h'), ('10 years', '4320 h')
) as given (retention, width);
select is((select partitions_made from vcs.code_import_tidy_up()), 0::bigint, 'nothing is missing yet');

-- Made ahead
select pg_temp.only(parent, '-3 days', '-2 days') from vcs._history();
select is((select partitions_made from vcs.code_import_tidy_up()), 52::bigint,
    'later they are made again: nine of their width, and four that are wider');
select is_empty(
    $$ select parent from vcs._history() as history
       where not exists (select from pg_temp.bounds(parent) where upper_bound >= now() + interval '7 days'
           and upper_bound = lower_bound + vcs._partition_width(history.retention)) $$,
    'for a week at least'
);
select pg_temp.only('_code_import_event', '-3 days', '6 days');
select vcs.code_import_tidy_up();
select is(
    (select array_agg((upper_bound - lower_bound) / 24 order by lower_bound)
     from pg_temp.bounds('_code_import_event')),
    array['9 h', '1 h', '1 h', '8 h', '32 h', '128 h', '512 h']::interval[],
    'each of the wider ones is four times as wide as the one before'
);
select is(
    (select partitions_made from vcs.code_import_tidy_up()), 0::bigint, 'and then they are left alone'
);

-- Nobody tidied up for long
select pg_temp.only('_code_import_result', '-20 days', '-10 days');
set local role code_import_owner;
select vcs._add_partition('_code_import_result', today - interval '240 h', today + interval '72 h', true),
    vcs._add_partition('_code_import_result', today + interval '72 h', today + interval '720 h', true)
from date_trunc('day', now(), 'UTC') as today;
reset role;
select let('import', an_import());
select run_to(the('import'), 'success');
select is((select rows_astray from vcs.code_import_tidy_up()), 0::bigint,
    'what came meanwhile lies in one of the wider ones');
select pg_temp.whole('_code_import_result', 'which is kept');
select is(
    (select array_agg((upper_bound - lower_bound) / 24 order by lower_bound)
     from pg_temp.bounds('_code_import_result')),
    array['10 h', '13 h', '1 h', '1 h', '1 h', '1 h', '1 h', '8 h', '32 h', '128 h', '512 h']::interval[],
    'only what comes after it is cut anew'
);
select isnt_empty($$ select * from vcs.code_import_result where code_import_id = the('import') $$,
    'and nothing is lost');

-- A clock was ahead
select pg_temp.only('_code_import_log_file', '-1 day', '2 days');
set local role code_import_owner;
select vcs._add_partition('_code_import_log_file', today + interval '48 h', today + interval '240 h', true)
from date_trunc('day', now(), 'UTC') as today;
reset role;
insert into vcs._code_import_log_file (id, date_created, job_id, content)
values (0, now() + interval '6 days', 0, '');
select vcs.code_import_tidy_up();
select isnt_empty('select * from vcs.code_import_log_file where id = 0',
    'what lies ahead of time is not lost');
select pg_temp.whole('_code_import_log_file', 'and leaves no gap');
delete from vcs._code_import_log_file;

select pg_temp.only('_code_import_event', '-10 days', '-1 day');
insert into vcs._code_import_event (id, date_created, event_type, data)
values (0, now() + interval '20 years', 'online', '{}');
set local role code_import_owner;
select vcs._add_partition('_code_import_event', today + interval '7200 h', today + interval '7224 h')
from date_trunc('day', now(), 'UTC') as today;
reset role;
select vcs.code_import_tidy_up();
select pg_temp.whole('_code_import_event', 'neither does what lies ahead by far');
select is_empty(
    $$ select lower_bound from pg_temp.bounds('_code_import_event')
       where lower_bound > now() and lower_bound < now() + interval '6 days'
         and upper_bound > lower_bound + interval '24 h' $$,
    'nor makes it what comes first wider'
);
select is((select partitions_made from vcs.code_import_tidy_up()), 0::bigint, 'and all is made once');
delete from vcs._code_import_event where id = 0;

-- Text of dates, as some callers have it, is not what it seems to be
select pg_temp.only('_code_import_event', '-3 days', '-2 days');
set local datestyle = 'SQL, DMY';
set local timezone = 'Asia/Kolkata';
select vcs.code_import_tidy_up();
reset datestyle;
reset timezone;
select is_empty(
    $$ select lower_bound from pg_temp.bounds('_code_import_event')
       where lower_bound <> date_trunc('day', lower_bound, 'UTC') $$,
    'partitions begin at midnight in UTC, whatever the settings of the caller'
);

-- Retention is changed
select set_to('event_retention', '2 days');
select vcs.code_import_tidy_up();
select pg_temp.whole('_code_import_event', 'a shorter one leaves no gaps');
select is_empty(
    $$ select lower_bound from pg_temp.bounds('_code_import_event')
       where lower_bound > now() and lower_bound < now() + interval '14 h'
         and upper_bound > lower_bound + interval '2 h' $$,
    'for a shorter retention the next ones are narrower'
);
select set_to('event_retention', '10 years');
select vcs.code_import_tidy_up();
select pg_temp.whole('_code_import_event', 'nor does a longer one');
select isnt_empty(
    $$ select lower_bound from pg_temp.bounds('_code_import_event')
       where upper_bound - lower_bound > interval '4000 h'
         and extract(epoch from upper_bound)::bigint % (4320 * 3600) = 0 $$,
    'for a longer one wider, in line with the epoch'
);
select set_to('event_retention', null);

-- Rows for which there is none
insert into vcs._code_import_event (id, date_created, event_type, data)
select nextval('vcs._code_import_event_id_seq'), now() - given.age, 'online', '{}'
from (values (interval '29 days'), ('31 days')) as given (age);
select results_eq(
    'select rows_deleted, rows_astray from vcs.code_import_tidy_up()', $$ values (1::bigint, 1::bigint) $$,
    'of what is without a partition, what is old goes, and the rest is told of'
);
select let('astray', an_import());
select run_to(the('astray'), 'success') from generate_series(1, 7);
update vcs._code_import_result set date_filed = now() - interval '40 days'
where code_import_id = the('astray');
select results_eq(
    'select results_kept, rows_deleted, rows_astray from vcs.code_import_tidy_up()',
    $$ values (0::bigint, 2::bigint, 1::bigint) $$, 'old results too'
);
select is(
    (select count(*) from vcs._code_import_result_kept where code_import_id = the('astray')), 5::bigint,
    'but for those that stay'
);

-- What people do by hand
select let('by hand', an_import());
do $$
begin
    execute (
        select format('drop table vcs.%I', relation) from vcs._partitions('_code_import_result')
        where lower_bound <= now() and now() < upper_bound
    );
end;
$$;
select lives_ok($$ select run_to(the('by hand'), 'success') $$,
    'where the partition of now was dropped, runs still end');
select is((select rows_astray from vcs.code_import_tidy_up()), 2::bigint, 'which is told of');
select isnt_empty($$ select * from vcs.code_import_result where code_import_id = the('by hand') $$,
    'and read');

delete from vcs._code_import_result_default;
drop table vcs._code_import_result_default;
alter table vcs._code_import_result detach partition vcs._code_import_result_kept;
alter table vcs._code_import_result_kept rename to _code_import_result_kept_before;
select lives_ok('select vcs.code_import_tidy_up()', 'what is there once is mended');
select bag_eq(
    $$ select relation from vcs._partitions('_code_import_result')
       where upper_bound is null or not isfinite(upper_bound) $$,
    $$ values ('_code_import_result_default'), ('_code_import_result_kept') $$,
    'and there again'
);

select pg_temp.only('_code_import_event', '-60 days', '-50 days');
select pg_temp.only('_code_import_log_file', '-60 days', '-50 days');
do $$
begin
    execute format('create view public.built as select id from vcs.%I',
        (select relation from vcs._partitions('_code_import_log_file') where lower_bound < now() limit 1));
end;
$$;
select results_eq(
    'select partitions_dropped, partitions_due from vcs.code_import_tidy_up()',
    $$ values (1::bigint, 1::bigint) $$,
    'a partition that somebody has built on stays and is told of; the others go'
);
drop view public.built;
select results_eq(
    'select partitions_dropped, partitions_due from vcs.code_import_tidy_up()',
    $$ values (1::bigint, 0::bigint) $$, 'until it is free'
);

create table public.theirs (like vcs._code_import_event including all);
insert into public.theirs (id, date_created, event_type, data)
values (0, now() - interval '50 days', 'online', '{}');
alter table vcs._code_import_event attach partition public.theirs
    for values from (now() - interval '60 days') to (now() - interval '40 days');
select results_eq(
    'select partitions_dropped, partitions_due from vcs.code_import_tidy_up()',
    $$ values (0::bigint, 0::bigint) $$, 'one that was attached from elsewhere is let be'
);
select isnt_empty('select * from public.theirs', 'with all that is in it');

select pg_temp.only('_code_import_log_file', '-3 days', '-2 days');
do $$
begin
    execute format('create table vcs.%I (id bigint)',
        '_code_import_log_file_p' || to_char((now() + interval '1 day') at time zone 'UTC', 'YYYYMMDD'));
end;
$$;
select is((select partitions_made from vcs.code_import_tidy_up()), 13::bigint,
    'a name that is taken is no hindrance');
select pg_temp.whole('_code_import_log_file', 'and leaves no gap');

select * from finish();
rollback;
