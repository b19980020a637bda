-- A worker asks for one job for its host.

create or replace function vcs.code_import_job_for_machine(
    p_hostname     text,
    p_worker_limit integer,
    p_rcs_types    text[] default null
)
returns setof vcs.code_import_assignment
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    return query
    select assignment.*
    from vcs.code_import_job_claim(p_hostname, p_worker_limit, 1, p_rcs_types) as assignment;
end;
$$;

comment on function vcs.code_import_job_for_machine(text, integer, text[]) is
$$Start the first due job on a host and return it; no row if none is due.

state   pending, or scheduled for this machine -> running; the machine comes or goes as asked
event   start; online for a new host; offline for a quiescing one that has run dry
event   modify for a machine that a worker role makes its own
error   IJ400 a hostname, limit or rcs_type that cannot be, or null
error   IJ403 the machine belongs to another role
error   0A000 above READ COMMITTED, where a limit cannot be kept$$;
