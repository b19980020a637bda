-- A worker stores the whole log of its run before it finishes it.

create or replace function vcs.code_import_log_file_new(p_job_id bigint, p_content bytea)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_limit    bigint := vcs._number_setting('log_file_limit');
    v_schedule vcs._code_import_schedule;
    v_id       bigint;
begin
    if p_content is null then
        perform vcs._refuse_null('code_import_log_file', 'content');
    end if;
    v_schedule := vcs._lock_run(p_job_id);

    insert into vcs._code_import_log_file as file (id, date_created, job_id, content)
    values (
        nextval('vcs._code_import_log_file_id_seq'),
        -- However old this transaction is: a log is looked for from the start of its run on.
        greatest(now(), v_schedule.date_started),
        p_job_id,
        substring(p_content from greatest(octet_length(p_content) - v_limit, 0)::integer + 1)
    )
    returning file.id into v_id;
    return v_id;
end;
$$;

comment on function vcs.code_import_log_file_new(bigint, bytea) is
$$Store the log of a running job, or its end, and return its id.

Of a long one the last log_file_limit bytes are kept.
error   IJ400 null
error   IJ403 the job runs on a machine of another role
error   IJ409 the job is not running
error   IJ410 no such run: it has ended, or never was$$;
