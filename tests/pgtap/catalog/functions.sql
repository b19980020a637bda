-- House rules for every function, checked in the catalog so that none is forgotten.
begin;
select plan(18);

create temporary view ours as
select
    function.oid, function.oid::regprocedure as signature, function.proname, function.proowner,
    function.prosecdef, function.provolatile, function.proconfig, function.proargnames,
    function.proargmodes, function.prorettype, function.proacl, function.prosrc,
    function.proname !~ '^_' as is_public,
    obj_description(function.oid, 'pg_proc') as comment
from pg_proc as function
where function.pronamespace = 'vcs'::regnamespace;

select isnt_empty('select * from ours where is_public', 'there are functions to check');
select is_empty(
    $$ select signature from ours
       where proconfig is null or 'search_path=pg_catalog, pg_temp' <> all (proconfig) $$,
    'every function pins search_path to pg_catalog, pg_temp'
);
select is_empty(
    $$ select signature from ours
       where proname in (
           'code_import_job_claim', 'code_import_job_for_machine', 'code_import_job_start',
           'code_import_job_update_heartbeat', 'code_import_job_update_heartbeats',
           'code_import_job_finish', 'code_import_job_finish_many', 'code_import_job_next_due'
       ) and not proconfig @> array['plan_cache_mode=force_generic_plan', 'enable_seqscan=off'] $$,
    'what workers call all the time is planned once a session, and by index'
);
select is_empty(
    $$ select signature from ours where proowner <> 'code_import_owner'::regrole $$,
    'every function belongs to code_import_owner'
);
select is_empty(
    $$ select signature from ours, aclexplode(coalesce(proacl, acldefault('f', proowner)))
       where grantee = 0 $$,
    'no function is executable by PUBLIC'
);
select is_empty(
    $$ select signature, grantee::regrole
       from ours, aclexplode(proacl)
       where not is_public and grantee <> proowner $$,
    'no helper is granted to anybody'
);
select is_empty(
    'select signature from ours where not is_public and prosecdef', 'no helper is security definer'
);
select is_empty(
    $$ select signature from ours
       where is_public and provolatile = 'v' and not prosecdef $$,
    'whatever writes does so as the owner: callers have no right to'
);
select is_empty(
    $$ select signature from ours where provolatile = 'i'
       and prosrc ~* '\m(now\(|(from|join) vcs\._?code_import|current_setting|session_user)' $$,
    'nothing that reads tables, time or settings is called immutable'
);
select is_empty(
    $$ select signature from ours
       where is_public and exists (
           select from unnest(proargnames, proargmodes) as parameter (name, mode)
           where coalesce(parameter.mode, 'i') in ('i', 'b', 'v') and parameter.name !~ '^p_[a-z_]+$'
       ) $$,
    'every parameter of a public function is called p_something'
);
select is_empty(
    $$ select signature from ours
       where is_public
         and prorettype in ('numeric'::regtype, 'varchar'::regtype, 'timestamp'::regtype) $$,
    'ids are bigint, times timestamptz, names text'
);
select is_empty(
    $$ select signature from ours
       where position(E'\\' in regexp_replace(prosrc, 'E''[^'']*''', '', 'g')) > 0 $$,
    'no string has a backslash that standard_conforming_strings, set by a caller, could turn'
);

-- Comments: the contract of each call
select is_empty(
    'select signature from ours where is_public and comment is null',
    'every public function has a comment'
);
select is_empty(
    $$ select signature, split_part(comment, E'\n', 1) from ours
       where is_public and split_part(comment, E'\n', 1) !~ '^[A-Z].{1,70}\.$' $$,
    'its first line is a sentence of at most 72 characters'
);
select is_empty(
    $$ select signature, line from ours, regexp_split_to_table(comment, E'\n') as line
       where is_public and line ~ '^(state|event|error)' and line !~ '^(state|event|error)   \S' $$,
    'then come lines that begin with state, event or error'
);
select is_empty(
    $$ select signature, line from ours, regexp_split_to_table(comment, E'\n') as line
       where is_public and line ~ '^error'
         and line !~ '^error   (IJ400|IJ403|IJ404|IJ409|IJ410|IJ423|IJ429|23505|0A000) ' $$,
    'each error line begins with a code that there is'
);
select is_empty(
    $$ select signature from ours where is_public and provolatile = 'v' and comment !~ '\nevent   '
         and proname not in (
             'code_import_job_new', 'code_import_job_delete_pending',
             'code_import_job_update_heartbeat',
             'code_import_job_update_heartbeats', 'code_import_log_file_new',
             'code_import_mirror_report') $$,
    'whatever changes a record names its event; heartbeats, logs, the journal and the next job have none'
);
select is_empty(
    $$ select signature, needs.code from ours
       join (values ('p_code_import_id', 'IJ404'), ('p_machine_id', 'IJ404'), ('p_job_id', 'IJ410'),
           ('p_person', 'IJ400'),
                    ('p_hostname', 'IJ400')) as needs (name, code) on needs.name = any (proargnames)
       where is_public and provolatile = 'v' and comment !~ ('\nerror   ' || needs.code) $$,
    'who takes an import, a machine, a job, a person or a host says how a wrong one is refused'
);
select * from finish();
rollback;
