-- Who may do what: the whole matrix on one page.
--
-- "create or replace" keeps old grants and a new function belongs to PUBLIC, so start from
-- nothing. Installing is one transaction: nobody sees the gap.

revoke all on schema vcs from public, code_import_reader, code_import_worker, code_import_operator, code_import_reclaimer;
revoke all on all tables in schema vcs from public, code_import_reader, code_import_worker, code_import_operator, code_import_reclaimer;
revoke all on all sequences in schema vcs from public, code_import_reader, code_import_worker, code_import_operator, code_import_reclaimer;
revoke all on all routines in schema vcs from public, code_import_reader, code_import_worker, code_import_operator, code_import_reclaimer;

grant usage on schema vcs to code_import_reader, code_import_worker, code_import_operator, code_import_reclaimer;

-- Readers look; workers and operators look too.
grant select on
    vcs.code_import,
    vcs.code_import_job,
    vcs.code_import_assignment,
    vcs.code_import_machine,
    vcs.code_import_event,
    vcs.code_import_result,
    vcs.code_import_log_file,
    vcs.code_import_credential,
    vcs.code_import_mirror,
    vcs.code_import_ref_change,
    vcs.code_import_held_ref,
    vcs.code_import_settings,
    vcs.code_import_api
to code_import_reader, code_import_worker, code_import_operator;

grant execute on function
    vcs.code_import_job_get(bigint),
    vcs.code_import_job_is_overdue(vcs.code_import_job),
    vcs.code_import_job_reclaimable(),
    vcs.code_import_job_next_due(text, text[]),
    vcs.code_import_mirror_as_of(bigint, timestamptz)
to code_import_reader, code_import_worker, code_import_operator;

-- Workers run jobs; operators may do it for them, but are shown no secret.
grant execute on function
    vcs.code_import_job_claim(text, integer, integer, text[]),
    vcs.code_import_job_for_machine(text, integer, text[]),
    vcs.code_import_job_start(bigint, bigint),
    vcs.code_import_job_update_heartbeat(bigint, text),
    vcs.code_import_job_update_heartbeats(bigint[], text[]),
    vcs.code_import_log_file_new(bigint, bytea),
    vcs.code_import_mirror_report(bigint, jsonb, jsonb, boolean, text),
    vcs.code_import_job_finish(bigint, text, bigint),
    vcs.code_import_job_finish_many(bigint[], text[], bigint[]),
    vcs.code_import_job_release(bigint),
    vcs.code_import_job_reclaim(bigint),
    vcs.code_import_credential_for_job(bigint)
to code_import_worker, code_import_operator;

-- Anybody who keeps the farm clean: workers, operators, and the scheduler of the database.
grant execute on function
    vcs.code_import_job_reclaim_stale(integer),
    vcs.code_import_tidy_up()
to code_import_worker, code_import_operator, code_import_reclaimer;

-- Operators register, review, request, kill, run machines, configure, and store logins.
grant execute on function
    vcs.code_import_new(text, text, text, text, text, text, text, text, interval),
    vcs.code_import_new_many(jsonb, text),
    vcs.code_import_update(bigint, jsonb, text),
    vcs.code_import_set_url(bigint, text, text),
    vcs.code_import_delete(bigint, text),
    vcs.code_import_request(bigint, text, boolean),
    vcs.code_import_request_again(bigint, text),
    vcs.code_import_try_again(bigint, text),
    vcs.code_import_job_new(bigint, interval),
    vcs.code_import_job_delete_pending(bigint),
    vcs.code_import_job_request(bigint, text),
    vcs.code_import_job_kill(bigint, text),
    vcs.code_import_job_schedule(bigint, bigint, integer, text),
    vcs.code_import_mirror_accept(bigint, text, text[]),
    vcs.code_import_mirror_keep(bigint, text, text[]),
    vcs.code_import_mirror_set_maximum_loss(bigint, integer, text),
    vcs.code_import_mirror_restore(bigint, jsonb, text),
    vcs.code_import_machine_new(text, text),
    vcs.code_import_machine_set_online(bigint, text, text),
    vcs.code_import_machine_set_quiescing(bigint, text, text),
    vcs.code_import_machine_set_offline(bigint, text, text, text),
    vcs.code_import_machine_delete(bigint, text),
    vcs.code_import_machine_disown(bigint, text),
    vcs.code_import_configure(text, text, text),
    vcs.code_import_credential_new(text, text, bytea, text, text, bigint, boolean, timestamptz),
    vcs.code_import_credential_replace(bigint, text, bytea, text, text, boolean, timestamptz),
    vcs.code_import_credential_delete(bigint, text)
to code_import_operator;
