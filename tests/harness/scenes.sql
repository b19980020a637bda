-- The scenes in which calls meet: one import with its job, and one machine. Loaded into a test's
-- database, so that a scene costs one round trip.

create schema scene;

-- Remove everything but the settings, and make a scene of this name.
create function scene.make(
    p_state            text,
    out code_import_id bigint,
    out job_id         bigint,
    out machine_id     bigint
)
language plpgsql
as $$
begin
    perform scene.clear();
    select id into machine_id from vcs.code_import_machine_new('one.example.org', 'online');
    select id into code_import_id
    from vcs.code_import_new('ada', 'team/one', 'git', 'https://example.org/one');
    job_id := scene.job_of(code_import_id);

    if p_state = 'requested' then
        perform vcs.code_import_job_request(job_id, 'ada');
    elsif p_state in ('pinned', 'pinned offline', 'again') then
        perform vcs.code_import_job_schedule(job_id, machine_id, 3, 'ada');
    elsif p_state = 'quiescing' then
        perform vcs.code_import_machine_set_quiescing(machine_id, 'ada');
    elsif p_state = 'failing' then
        perform vcs.code_import_update(code_import_id, '{"review_status": "failing"}', 'ada');
    end if;

    if p_state in ('running', 'again', 'last run', 'later') then
        perform vcs.code_import_job_start(job_id, machine_id);
        perform scene.fall_silent();
    end if;
    if p_state = 'again' then
        perform vcs.code_import_request_again(code_import_id, 'ada');
    elsif p_state = 'last run' then
        perform vcs.code_import_update(code_import_id, '{"review_status": "suspended"}', 'ada');
    elsif p_state = 'later' then
        perform vcs.code_import_job_finish(job_id, 'success');
        job_id := scene.job_of(code_import_id);
    elsif p_state in ('offline', 'pinned offline', 'failing') then
        perform vcs.code_import_machine_set_offline(machine_id, 'stopped');
    end if;
end;
$$;

create function scene.clear() returns void language sql as $$
    delete from vcs._code_import_logtail;
    delete from vcs._code_import_log_file;
    delete from vcs._code_import_result;
    delete from vcs._code_import_event;
    delete from vcs._code_import_schedule;
    delete from vcs._code_import_credential;
    delete from vcs._code_import;
    delete from vcs._code_import_machine;
    update vcs._code_import_setting
    set value = null, number_value = 5
    where name = 'consecutive_failure_limit' and value is not null;
$$;

create function scene.job_of(p_code_import_id bigint) returns bigint language sql as $$
    select job.id from vcs.code_import_job as job where job.code_import_id = p_code_import_id;
$$;

-- Runs and machines began an hour ago and nobody has heard of them since.
create function scene.fall_silent() returns void language sql as $$
    update vcs._code_import_schedule
    set date_created = date_created - interval '1 hour',
        date_started = date_started - interval '1 hour',
        heartbeat = heartbeat - interval '1 hour';
    update vcs._code_import_machine
    set heartbeat = now() - interval '1 hour',
        date_look_again = null,
        oldest_start = oldest_start - interval '1 hour',
        owner_role = 'tester_worker';
$$;

-- All that can be seen, the same for two databases in which the same happened. The heartbeat of
-- the machine is not there: it may lag.
create function scene.seen() returns jsonb language plpgsql as $$
begin
    return jsonb_build_object(
        'imports', (
            select jsonb_agg(jsonb_build_array(
                target, url, review_status, update_interval, consecutive_failure_count,
                date_last_successful is not null
            ) order by id)
            from vcs.code_import
        ),
        'jobs', (
            select jsonb_agg(jsonb_build_array(
                job.state, machine.hostname, requesting_user, ordering, kill_requested_by,
                again_requested_by, logtail, round(extract(epoch from date_due - now()) / 600),
                job.heartbeat > now() - interval '5 minutes'
            ) order by code_import_id)
            from vcs.code_import_job as job
            left join vcs.code_import_machine as machine on machine.id = job.machine_id
        ),
        'results', (
            select jsonb_agg(jsonb_build_array(status, requesting_user, log_excerpt) order by id)
            from vcs.code_import_result
        ),
        'machines', (
            select jsonb_agg(jsonb_build_array(hostname, state, owner_role) order by id)
            from vcs.code_import_machine
        ),
        'events of imports', (
            select jsonb_agg(jsonb_build_array(event_type, person) order by code_import_id, id)
            from vcs.code_import_event where code_import_id is not null
        ),
        'events of machines', (
            select jsonb_agg(jsonb_build_array(event_type, person) order by machine_id, id)
            from vcs.code_import_event where machine_id is not null
        ),
        'credentials', (
            select jsonb_agg(jsonb_build_array(
                credential.code_import_id is null, host, username, secret
            ) order by credential.id)
            from vcs._code_import_credential as credential
        ),
        'logs', (select count(*) from vcs.code_import_log_file),
        'settings', (select jsonb_agg(value order by name) from vcs.code_import_settings)
    );
end;
$$;
