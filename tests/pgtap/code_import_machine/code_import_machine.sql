begin;
select plan(16);

select columns_are('vcs', 'code_import_machine', array['id', 'date_created', 'hostname', 'state',
    'heartbeat', 'owner_role'],
    'a machine has these columns');
select col_type_is('vcs', 'code_import_machine', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('hostname', 'text'),
    ('state', 'text'),
    ('heartbeat', 'timestamp with time zone'), ('owner_role', 'text')
) as given (name, type);

-- Its heartbeat moves when it asks and when its jobs beat, but need not more often than every 10 s
select let('machine', a_machine());
select let('job', a_run(an_import(), the('machine')));
create function pg_temp.heard(p_ago interval, p_how text) returns interval language plpgsql as $$
begin
    update vcs._code_import_machine set heartbeat = now() - p_ago where id = the('machine');
    if p_how = 'claim' then
        perform vcs.code_import_job_for_machine(hostname_of(the('machine')), 0);
    elsif p_how = 'beat' then
        perform vcs.code_import_job_update_heartbeat(the('job'), null);
    else
        perform vcs.code_import_job_update_heartbeats(array[the('job')], array[null]::text[]);
    end if;
    return (select now() - heartbeat from vcs.code_import_machine where id = the('machine'));
end;
$$;
select is(pg_temp.heard('11 s', how), interval '0', format('%s moves a heartbeat of 11 s ago', how))
from unnest(array['claim', 'beat', 'batch']) as given (how);
select cmp_ok(pg_temp.heard('9 s', how), '<=', interval '9 s',
    format('%s may leave one of 9 s ago', how))
from unnest(array['claim', 'beat', 'batch']) as given (how);
select is(pg_temp.heard('-1 m', how), interval '-1 m', format('%s moves none backwards', how))
from unnest(array['claim', 'beat', 'batch']) as given (how);
select * from finish();
rollback;
