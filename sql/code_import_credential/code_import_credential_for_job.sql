-- A worker fetches the login for a run of its own: the one way by which a secret leaves the
-- database, sealed as it is. An operator has no part in it, whatever else he may do for workers.

create or replace function vcs.code_import_credential_for_job(p_job_id bigint)
returns table (
    id bigint, date_created timestamptz, code_import_id bigint, host text, username text,
    key_name text, allow_unencrypted boolean, date_expires timestamptz,
    secret bytea, refusal text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule   vcs._code_import_schedule;
    v_credential record;
begin
    v_schedule := vcs._running_job(p_job_id);
    select credential.*, source.is_encrypted into v_credential
    from vcs._code_import as import
    cross join lateral vcs._source_places(import.url, import.cvs_root) as source
    cross join lateral (
        select own.*
        from vcs._code_import_credential as own
        where own.code_import_id = import.id and own.host = any (source.places)
        union all
        select of_host.*
        from vcs._code_import_credential as of_host
        where of_host.code_import_id is null and of_host.host = any (source.places)
    ) as credential
    where import.id = v_schedule.code_import_id
    order by credential.code_import_id, array_position(source.places, credential.host)
    limit 1;
    if not found then
        return;
    end if;
    perform vcs._check_secret_reader(v_schedule);

    refusal := case
        when v_credential.date_expires <= now() then 'expired'
        when not (v_credential.is_encrypted or v_credential.allow_unencrypted) then 'unencrypted'
    end;
    return query
    select
        v_credential.id, v_credential.date_created, v_credential.code_import_id, v_credential.host,
        v_credential.username, v_credential.key_name, v_credential.allow_unencrypted,
        v_credential.date_expires, case when refusal is null then v_credential.secret end, refusal;
end;
$$;

-- A job that runs, without its lock: nothing is changed.
create or replace function vcs._running_job(p_job_id bigint)
returns vcs._code_import_schedule
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
begin
    if p_job_id is null then
        perform vcs._refuse_null('code_import_job', 'job_id');
    end if;
    select schedule.* into v_schedule
    from vcs._code_import_schedule as schedule
    where schedule.job_id = p_job_id;
    if not found then
        perform vcs._refuse_job_gone(p_job_id);
    elsif v_schedule.state <> 'running' then
        perform vcs._refuse_job_state(p_job_id, v_schedule.state, 'running');
    end if;
    return v_schedule;
end;
$$;

-- The worker role whose machine runs the job, or the owner: nobody else.
create or replace function vcs._check_secret_reader(p_schedule vcs._code_import_schedule)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if vcs._machine_owner(p_schedule.machine_id) = session_user
        or pg_has_role(session_user, 'code_import_owner', 'member')
    then
        return;
    end if;
    perform vcs._refuse(
        'IJ403', 'code_import_credential',
        format('the credential of code import job %s is for the worker role that runs it', p_schedule.job_id),
        'Operators run workers as a role that is a member of code_import_worker alone.'
    );
end;
$$;

comment on function vcs.code_import_credential_for_job(bigint) is
$$Return the sealed login for a running job of one's own, or no row.

The import's own comes before its host's. One that has expired, or is not for a connection that
others can read, has a refusal in place of its secret: expired or unencrypted.
error   IJ400 null
error   IJ403 the job does not run on a machine of the caller's role
error   IJ409 the job is not running
error   IJ410 no such run: it has ended, or never was$$;
