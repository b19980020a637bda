-- House rules for every table and view, checked in the catalog so that none is forgotten.
begin;
select plan(16);

create temporary view ours as
select relation.oid, relation.oid::regclass as name, relation.relname, relation.relkind,
    relation.relowner, relation.relacl,
    relation.relname ~ '^_?yoyo_' as is_of_yoyo
from pg_class as relation
where relation.relnamespace = 'vcs'::regnamespace
  and relation.relkind in ('r', 'p', 'v', 'm', 'S', 'f');

select is(
    (select array_agg(distinct relkind::text order by relkind::text) from ours
        where not is_of_yoyo and relname !~ '^_'),
    array['v'], 'whatever people read is a view'
);
select bag_eq(
    $$ select relname from ours where relkind = 'v' $$,
    $$ select unnest(array[
        'code_import', 'code_import_job', 'code_import_assignment', 'code_import_machine',
        'code_import_event', 'code_import_result', 'code_import_log_file', 'code_import_mirror',
        'code_import_ref_change', 'code_import_held_ref', 'code_import_settings',
        'code_import_credential', 'code_import_api']::name[]) $$,
    'and these are the views'
);
select is_empty(
    $$ select name from ours where relowner <> 'code_import_owner'::regrole $$,
    'everything belongs to code_import_owner'
);
select is_empty(
    $$ select name, grantee::regrole, privilege_type from ours, aclexplode(relacl)
       where grantee <> relowner and (relkind <> 'v' or privilege_type <> 'SELECT') $$,
    'nobody but the owner has any right on a table, or more than SELECT on a view'
);
select is_empty('select name from ours, aclexplode(relacl) where grantee = 0',
    'and PUBLIC none at all');
select is_empty(
    $$ select attribute.attrelid::regclass, attribute.attname
       from pg_attribute as attribute join ours on ours.oid = attribute.attrelid
           where attribute.attacl is not null $$,
    'nor on a column'
);
select bag_eq(
    $$ select case grantee when 0 then 'public' else pg_get_userbyid(grantee)::text end,
       privilege_type::text
       from pg_namespace, aclexplode(nspacl) where nspname = 'vcs' and grantee <> nspowner $$,
    $$ values ('code_import_reader'::text, 'USAGE'::text), ('code_import_worker', 'USAGE'),
              ('code_import_operator', 'USAGE'), ('code_import_reclaimer', 'USAGE') $$,
    'the schema may be used by the roles, and by nobody else'
);

-- Comments
select isnt(obj_description('vcs'::regnamespace, 'pg_namespace'), null, 'the schema has a comment');
select is_empty(
    $$ select name from ours where relkind <> 'S' and obj_description(oid, 'pg_class') is null $$,
    'every table and view has a comment'
);
select is_empty(
    $$ select name, obj_description(oid, 'pg_class') from ours
       where relkind = 'v' and obj_description(oid, 'pg_class') !~ '^[A-Z].{1,70}\.$' $$,
    'that of a view is a sentence of at most 72 characters'
);
select is_empty(
    $$ select ours.name, attribute.attname
       from ours join pg_attribute as attribute on attribute.attrelid = ours.oid
           and attribute.attnum > 0 and not attribute.attisdropped
       where ours.relkind = 'v'
         and attribute.attname in ('state', 'review_status', 'event_type', 'heartbeat', 'date_due',
             'ordering', 'requesting_user', 'logtail',
             'kill_requested_by', 'again_requested_by', 'data', 'person', 'log_excerpt',
             'owner_role', 'value', 'effective_update_interval')
         and ours.relname not in ('code_import_assignment', 'code_import_result')
         and col_description(ours.oid, attribute.attnum) is null $$,
    'and so has every column whose name does not say it all'
);

-- Constraints and types
select is_empty(
    $$ select conrelid::regclass, conname from pg_constraint
       where connamespace = 'vcs'::regnamespace and contype in ('c', 'u', 'x', 't')
         and conname !~ '^code_import(_[a-z]+)*_(is|are|has|ends|fits|goes|names|belongs)(_[a-z]+)+$'
         and conname !~ '^code_import_without_a_job_has(_[a-z]+)+$' $$,
    'every constraint that people may meet is named, and its name is a sentence'
);
select is_empty(
    $$ select ours.name, attribute.attname, attribute.atttypid::regtype
       from ours join pg_attribute as attribute on attribute.attrelid = ours.oid
           and attribute.attnum > 0 and not attribute.attisdropped
       where not ours.is_of_yoyo and ours.relkind in ('r', 'p', 'v')
         and attribute.atttypid::regtype::text not in
             ('bigint', 'integer', 'text', 'boolean', 'timestamp with time zone', 'interval',
                 'jsonb', 'bytea') $$,
    'every column is of one of the plain types'
);
select is_empty(
    $$ select ours.name, attribute.attname
       from ours join pg_attribute as attribute on attribute.attrelid = ours.oid
           and attribute.attnum > 0 and not attribute.attisdropped
       where not ours.is_of_yoyo and ours.relkind in ('r', 'v')
         and (attribute.attname = 'id' or attribute.attname ~ '_id$')
             and attribute.atttypid <> 'bigint'::regtype $$,
    'every id is bigint'
);
select is_empty(
    $$ select conrelid::regclass, conname from pg_constraint as foreign_key
       where connamespace = 'vcs'::regnamespace and contype = 'f'
         and not exists (
             select from pg_index as index
             where index.indrelid = foreign_key.conrelid
                 and index.indkey[0] = foreign_key.conkey[1]) $$,
    'every foreign key has an index'
);

-- What the database is asked for
select is_empty(
    $$ select extname from pg_depend
       join pg_extension on refclassid = 'pg_extension'::regclass and refobjid = pg_extension.oid
           and extname <> 'plpgsql'
       join ours on classid = 'pg_class'::regclass and objid = ours.oid $$,
    'no extension is needed'
);
select * from finish();
rollback;
