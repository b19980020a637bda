begin;
select plan(11);

select columns_are('vcs', 'code_import_credential', array['id', 'date_created', 'code_import_id',
    'host', 'username', 'key_name', 'allow_unencrypted', 'date_expires'],
    'a credential has these columns, and its secret is none of them');
select col_type_is('vcs', 'code_import_credential', name, type, format('%s is %s', name, type))
from (values
    ('id', 'bigint'), ('date_created', 'timestamp with time zone'), ('code_import_id', 'bigint'),
    ('host', 'text'), ('username', 'text'), ('key_name', 'text'),
    ('allow_unencrypted', 'boolean'), ('date_expires', 'timestamp with time zone')
) as given (name, type);

select let('credential', a_credential());
set local session authorization tester_reader;
select is((select username from vcs.code_import_credential where id = the('credential')), 'robot',
    'readers see who somebody is to a host');
reset session authorization;
select is_empty(
    $$ select attribute.attrelid::regclass
       from pg_attribute as attribute
       join pg_class as relation on relation.oid = attribute.attrelid
       where relation.relnamespace = 'vcs'::regnamespace and relation.relkind = 'v'
         and attribute.attname in ('secret', 'password') $$,
    'no view shows a secret'
);
select * from finish();
rollback;
