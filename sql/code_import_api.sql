-- The API, listed by the database itself: select * from vcs.code_import_api;

create or replace view vcs.code_import_api as
select
    function.proname::text as function,
    pg_get_function_arguments(function.oid) as arguments,
    pg_get_function_result(function.oid) as result,
    split_part(obj_description(function.oid, 'pg_proc'), E'\n', 1) as does
from pg_catalog.pg_proc as function
where function.pronamespace = 'vcs'::regnamespace
  and function.proname !~ '^_'
order by function.proname;

comment on view vcs.code_import_api is
    'The functions that callers may use, each with what it does.';

comment on schema vcs is
    'Recurring imports of foreign code repositories; see code_import_api.';
