-- Who may do what: each role is tried on everything, by being it. The page mirrors sql/grants.sql.
begin;
select plan(27);

create temporary table page (kinds text[], functions text[]);
insert into page values
    ('{operator,reader,worker}', array[
        'code_import_job_get', 'code_import_job_is_overdue', 'code_import_job_reclaimable',
        'code_import_job_next_due', 'code_import_mirror_as_of']),
    ('{operator,worker}', array[
        'code_import_job_claim', 'code_import_job_for_machine', 'code_import_job_start',
        'code_import_job_update_heartbeat', 'code_import_job_update_heartbeats',
        'code_import_log_file_new', 'code_import_mirror_report', 'code_import_job_finish',
        'code_import_job_finish_many', 'code_import_job_release', 'code_import_job_reclaim',
        'code_import_credential_for_job']),
    ('{operator,reclaimer,worker}', array['code_import_job_reclaim_stale', 'code_import_tidy_up']),
    ('{operator}', array[
        'code_import_new', 'code_import_new_many', 'code_import_update', 'code_import_set_url',
        'code_import_delete', 'code_import_request', 'code_import_request_again',
        'code_import_try_again', 'code_import_job_new', 'code_import_job_delete_pending',
        'code_import_job_request', 'code_import_job_kill', 'code_import_job_schedule',
        'code_import_mirror_accept', 'code_import_mirror_keep',
        'code_import_mirror_set_maximum_loss', 'code_import_mirror_restore',
        'code_import_machine_new', 'code_import_machine_set_online',
        'code_import_machine_set_quiescing', 'code_import_machine_set_offline',
        'code_import_machine_delete', 'code_import_machine_disown', 'code_import_configure',
        'code_import_credential_new', 'code_import_credential_replace',
        'code_import_credential_delete']);
create temporary table kind as
select unnest(array['operator', 'worker', 'reader', 'reclaimer', 'nobody', 'owner']) as name;
grant select on page, kind to public;

-- Whether a call is stopped for want of a right. Who has it is refused for the null arguments.
create function pg_temp.is_denied(p_sql text) returns boolean language plpgsql as $$
begin
    execute p_sql;
    return false;
exception
    when insufficient_privilege then
        return true;
    when others then
        return false;
end;
$$;
create temporary table call as
select
    function.oid, function.proname::text as name,
    format('select * from vcs.%I(%s)', function.proname, (
        select string_agg(format('null::%s', type::regtype), ', ' order by place)
        from unnest(function.proargtypes) with ordinality as argument (type, place)
    )) as sql
from pg_proc as function
where function.pronamespace = 'vcs'::regnamespace and function.proname !~ '^_';
create temporary table relation as
select relation.relname::text as name, relation.relkind = 'v' as is_view
from pg_class as relation
where relation.relnamespace = 'vcs'::regnamespace and relation.relkind in ('r', 'p', 'v');
grant select on call, relation to public;

select bag_eq(
    'select unnest(functions) from page', 'select name from call',
    'every public function is on the page'
);

create temporary table tried (kind text, what text, is_denied boolean);
grant insert on tried to public;
create function pg_temp.try_as(p_kind text) returns void language plpgsql as $$
begin
    execute format('set local session authorization tester_%s', p_kind);
    insert into tried select p_kind, call.name, pg_temp.is_denied(call.sql) from call;
    insert into tried
    select p_kind, verb || ' ' || relation.name, pg_temp.is_denied(format(
        case verb
            when 'select' then 'select from vcs.%I limit 1'
            when 'insert' then 'insert into vcs.%I default values'
            when 'delete' then 'delete from vcs.%I where false'
            when 'truncate' then 'truncate vcs.%I'
            when 'lock' then 'lock table vcs.%I in access exclusive mode'
        end, relation.name))
    from relation, unnest(array['select', 'insert', 'delete', 'truncate', 'lock']) as verb
    -- a view that cannot be written at all says so before it asks for rights
    where relation.is_view <= (verb in ('select', 'lock'));
    insert into tried
    values (p_kind, 'create', pg_temp.is_denied('create table vcs.mine (a integer)')),
           (p_kind, 'helper', pg_temp.is_denied('select vcs._is_operator()')),
           (p_kind, 'owner', pg_temp.is_denied('set local role code_import_owner'));
    reset session authorization;
end;
$$;
select pg_temp.try_as(name) from kind where name <> 'owner';

select bag_eq(
    format('select what from tried join call on call.name = tried.what where kind = %L and not is_denied', name),
    format('select unnest(functions) from page where %L = any (kinds)', name),
    format('%s may call exactly what the page says', name)
)
from kind where name <> 'owner';
select bag_eq(
    format($$ select what from tried where kind = %L and what like 'select %%' and not is_denied $$,
        name),
    format($$ select 'select ' || name from relation where is_view
        and %L in ('operator', 'worker', 'reader') $$, name),
    format('%s may read %s', name, case when name in ('operator', 'worker',
        'reader') then 'the views, and no table' else 'nothing' end)
)
from kind where name <> 'owner';
select is_empty(
    format($$ select what from tried where kind = %L and not is_denied
        and what ~ '^(insert|delete|truncate|lock|create|helper|owner)' $$, name),
    format('%s may write nothing itself, create nothing, and call no helper', name)
)
from kind where name <> 'owner';
select is(
    (select count(*) from tried where kind = name), (select count(*) from tried
        where kind = 'nobody'),
    format('%s was tried on everything', name)
)
from kind where name <> 'owner';

-- The owner does everything that a caller may, without becoming the owner of a machine
set local session authorization tester_owner;
select lives_ok($$ select an_import() $$, 'a member of code_import_owner may register');
select lives_ok($$ select * from vcs.code_import_job_for_machine('anvil', 1) $$, 'and claim');
reset session authorization;
select is((select owner_role from vcs.code_import_machine where hostname = 'anvil'), null,
    'and owns no machine by it');

-- Groups, not logins
select is_empty(
    $$ select rolname from pg_roles where rolname like 'code\_import\_%'
       and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls
           or rolreplication) $$,
    'no role of ours can log in or has a right of the cluster'
);
select bag_eq(
    $$ select rolname from pg_roles where rolname like 'code\_import\_%' $$,
    $$ select unnest(array['code_import_owner', 'code_import_reader', 'code_import_worker',
       'code_import_operator', 'code_import_reclaimer']::name[]) $$,
    'these are the roles'
);
select is_empty(
    $$ select pg_get_userbyid(member), pg_get_userbyid(roleid) from pg_auth_members
       where pg_get_userbyid(member) like 'code\_import\_%' $$,
    'none of them is a member of another'
);
select * from finish();
rollback;
