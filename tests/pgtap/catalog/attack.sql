-- A caller cannot have anything done as the owner: what he puts into pg_temp is never found there.
begin;
select plan(11);

select let('import', an_import());
select let('job', job_of(the('import')));
select let('machine', a_machine());
create temporary table caught (who name);
grant insert on caught to public;

-- A function that is open to it, to see that the trap closes
create function open_to_attack() returns void language plpgsql security definer
    set search_path = '' as $$
declare
    v_text text := 'x';
begin
    v_text := v_text || 'y';
end;
$$;
alter function open_to_attack() owner to code_import_owner;

set local session authorization tester_worker;

-- Whatever is looked up by a name without a schema is looked up here first, if it is at all.
create function pg_temp.evil(p_value anyelement) returns boolean language plpgsql as $$
begin
    insert into pg_temp.caught values (current_user);
    return true;
end;
$$;
create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value));
create domain pg_temp.bigint as pg_catalog.int8 check (pg_temp.evil(value));
create domain pg_temp.interval as pg_catalog.interval check (pg_temp.evil(value));
create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.evil(value));
create function pg_temp.now() returns timestamptz language sql as $$ select pg_temp.evil(1); select '-infinity'::timestamptz $$;
create function pg_temp.greatest(timestamptz,
    timestamptz) returns timestamptz language sql as $$ select pg_temp.evil(1); select $1 $$;
create function pg_temp.is_equal(pg_catalog.int8,
    pg_catalog.int8) returns boolean language sql as $$ select pg_temp.evil($1) $$;
create operator pg_temp.= (leftarg = pg_catalog.int8, rightarg = pg_catalog.int8,
    function = pg_temp.is_equal);
create temporary view code_import_job as select * from vcs.code_import_job where pg_temp.evil(id);
create temporary view pg_roles as select * from pg_catalog.pg_roles where pg_temp.evil(rolname);
select open_to_attack();
reset session authorization;
select isnt_empty(
    $$ select who from pg_temp.caught where who = 'code_import_owner' $$,
    'the trap catches a function that is open to it'
);
delete from caught;
set local session authorization tester_worker;
set local search_path = pg_temp, tap, pg_catalog;

select tap.lives_ok(sql, format('a call in front of a trap: %s', name))
from (values
    ('claim', 'select * from vcs.code_import_job_claim(''trap'', 3, 1)'),
    ('heartbeat', 'select vcs.code_import_job_update_heartbeat(tap.the(''job''), ''x'')'),
    ('heartbeats',
        'select * from vcs.code_import_job_update_heartbeats(array[tap.the(''job'')], array[''x''::pg_catalog.text])'),
    ('log', 'select vcs.code_import_log_file_new(tap.the(''job''), ''x'')'),
    ('finish', 'select vcs.code_import_job_finish(tap.the(''job''), ''success'')'),
    ('next due', 'select vcs.code_import_job_next_due(''trap'')'),
    ('stale', 'select vcs.code_import_job_reclaim_stale()'),
    ('tidy up', 'select * from vcs.code_import_tidy_up()'),
    ('views', 'select count(*) from vcs.code_import_event')
) as given (name, sql);
set local search_path = tap;
reset session authorization;

select is_empty(
    $$ select who from pg_temp.caught where who = 'code_import_owner' $$,
    'no call runs as the owner what a caller has laid'
);
select * from finish();
rollback;
