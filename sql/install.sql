-- The table of contents, and the only load order. With psql alone, from a checkout:
--
--     psql --no-psqlrc --file sql/install.sql "dbname=…"
--
-- One transaction, safe to run again and beside running workers. It knows what is there already,
-- and leaves the marks that `code-import install` looks for; that command loads the same files
-- in the same order.

\set ON_ERROR_STOP on
\ir install/begin.sql

-- What changed, once each: two lines a migration, in the order of their names.
\set migration 0001.code-import
\ir install/migrate.sql
\set migration 0002.code-import-machine
\ir install/migrate.sql
\set migration 0003.code-import-schedule
\ir install/migrate.sql
\set migration 0004.code-import-result
\ir install/migrate.sql
\set migration 0005.code-import-event
\ir install/migrate.sql
\set migration 0006.code-import-setting
\ir install/migrate.sql
\set migration 0007.cheaper-claims
\ir install/migrate.sql
\set migration 0008.history-by-time
\ir install/migrate.sql
\set migration 0009.looked-through-files
\ir install/migrate.sql
\set migration 0010.mirrors
\ir install/migrate.sql
\set migration 0011.shorter-updates
\ir install/migrate.sql
\set migration 0012.credentials
\ir install/migrate.sql

-- What the API is now: one line a file, nothing but SQL in them.
\ir errors.sql
\ir time.sql
\ir callers.sql

-- What people read, and the rows that functions return
\ir settings/code_import_settings.sql
\ir code_import/code_import.sql
\ir code_import_job/code_import_job.sql
\ir code_import_job/code_import_assignment.sql
\ir code_import_machine/code_import_machine.sql
\ir code_import_log_file/code_import_log_file.sql
\ir code_import_result/code_import_result.sql
\ir code_import_event/code_import_event.sql
\ir code_import_credential/code_import_credential.sql

\ir code_import_mirror/code_import_mirror.sql
\ir code_import_mirror/code_import_ref_change.sql
\ir code_import_mirror/code_import_held_ref.sql

-- Settings
\ir settings/_setting.sql
\ir settings/code_import_configure.sql

-- An import's life: registered, reviewed, requested, changed, deleted
\ir code_import/_schedule.sql
\ir code_import/_import.sql
\ir code_import/_source.sql
\ir code_import/_record.sql
\ir code_import/_register.sql
\ir code_import/_change_import.sql
\ir code_import/code_import_new.sql
\ir code_import/code_import_new_many.sql
\ir code_import/code_import_update.sql
\ir code_import/code_import_set_url.sql
\ir code_import/code_import_request.sql
\ir code_import/code_import_request_again.sql
\ir code_import/code_import_try_again.sql
\ir code_import/code_import_delete.sql

-- Who runs jobs
\ir code_import_machine/_machine.sql
\ir code_import_machine/_ask_for_room.sql
\ir code_import_machine/code_import_machine_new.sql
\ir code_import_machine/code_import_machine_set_online.sql
\ir code_import_machine/code_import_machine_set_quiescing.sql
\ir code_import_machine/code_import_machine_set_offline.sql
\ir code_import_machine/code_import_machine_disown.sql
\ir code_import_machine/code_import_machine_delete.sql

-- A job's life: made, requested, pinned, claimed, beating, finished, released or reclaimed
\ir code_import_job/_job.sql
\ir code_import_job/_job_batch.sql
\ir code_import_job/_logtail.sql
\ir code_import_job/_claim_floor.sql
\ir code_import_job/_claim.sql
\ir code_import_job/_ended_runs.sql
\ir code_import_job/_end_runs.sql
\ir code_import_job/_finish.sql
\ir code_import_job/code_import_job_new.sql
\ir code_import_job/code_import_job_delete_pending.sql
\ir code_import_job/code_import_job_get.sql
\ir code_import_job/code_import_job_is_overdue.sql
\ir code_import_job/code_import_job_request.sql
\ir code_import_job/code_import_job_schedule.sql
\ir code_import_job/code_import_job_next_due.sql
\ir code_import_job/code_import_job_claim.sql
\ir code_import_job/code_import_job_for_machine.sql
\ir code_import_job/code_import_job_start.sql
\ir code_import_job/code_import_job_update_heartbeat.sql
\ir code_import_job/code_import_job_update_heartbeats.sql
\ir code_import_job/code_import_job_kill.sql
\ir code_import_log_file/code_import_log_file_new.sql
\ir code_import_job/code_import_job_finish.sql
\ir code_import_job/code_import_job_finish_many.sql
\ir code_import_job/code_import_job_release.sql
\ir code_import_job/code_import_job_reclaimable.sql
\ir code_import_job/code_import_job_reclaim.sql
\ir code_import_job/code_import_job_reclaim_stale.sql

-- Who runs are to the hosts that they fetch from
\ir code_import_credential/_credential.sql
\ir code_import_credential/code_import_credential_new.sql
\ir code_import_credential/code_import_credential_replace.sql
\ir code_import_credential/code_import_credential_delete.sql
\ir code_import_credential/code_import_credential_for_job.sql

-- What becomes of a mirror: told by its runs, decided by people
\ir code_import_mirror/_mirror.sql
\ir code_import_mirror/code_import_mirror_report.sql
\ir code_import_mirror/code_import_mirror_accept.sql
\ir code_import_mirror/code_import_mirror_keep.sql
\ir code_import_mirror/code_import_mirror_set_maximum_loss.sql
\ir code_import_mirror/code_import_mirror_as_of.sql
\ir code_import_mirror/code_import_mirror_restore.sql

-- Upkeep
\ir upkeep/_partition.sql
\ir upkeep/_make_partitions.sql
\ir upkeep/_keep_results.sql
\ir upkeep/_drop_partitions.sql
\ir upkeep/code_import_tidy_up.sql
\ir upkeep/_first_partitions.sql
\ir code_import_api.sql

-- What is no longer listed goes; then who may do what.
\ir prune.sql
\ir grants.sql

\ir install/end.sql
