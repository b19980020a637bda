begin;
select plan(4);

select columns_are('vcs', 'code_import_api', array['function', 'arguments', 'result', 'does'],
    'the API lists itself in these columns');
select bag_eq(
    $$ select function from vcs.code_import_api $$,
    $$ values
        ('code_import_new'::text), ('code_import_new_many'), ('code_import_update'),
        ('code_import_set_url'),
        ('code_import_delete'), ('code_import_request'), ('code_import_request_again'),
        ('code_import_try_again'),
        ('code_import_job_new'), ('code_import_job_delete_pending'), ('code_import_job_request'),
        ('code_import_job_start'),
        ('code_import_job_update_heartbeat'), ('code_import_job_update_heartbeats'),
        ('code_import_job_finish'),
        ('code_import_job_finish_many'), ('code_import_job_reclaim'),
        ('code_import_job_reclaim_stale'),
        ('code_import_job_reclaimable'), ('code_import_job_release'), ('code_import_job_kill'),
        ('code_import_job_schedule'),
        ('code_import_job_is_overdue'), ('code_import_job_get'), ('code_import_job_next_due'),
        ('code_import_job_for_machine'),
        ('code_import_job_claim'), ('code_import_machine_new'), ('code_import_machine_set_online'),
        ('code_import_machine_set_quiescing'), ('code_import_machine_set_offline'),
        ('code_import_machine_delete'),
        ('code_import_machine_disown'), ('code_import_log_file_new'), ('code_import_configure'),
        ('code_import_mirror_report'), ('code_import_mirror_accept'), ('code_import_mirror_keep'),
        ('code_import_mirror_set_maximum_loss'), ('code_import_mirror_as_of'),
        ('code_import_mirror_restore'),
        ('code_import_tidy_up'), ('code_import_credential_new'),
        ('code_import_credential_replace'), ('code_import_credential_delete'),
        ('code_import_credential_for_job') $$,
    'these are the functions that callers may use'
);
select is_empty(
    $$ select function from vcs.code_import_api where does is null or does !~ '^[A-Z].*[.]$' $$,
    'each says in a sentence what it does'
);
select is_empty(
    $$ select function from vcs.code_import_api
       where arguments <> '' and arguments !~ '^(p_\w+ [^,]+(, )?)+$' $$,
    'each parameter has a name that begins with p_'
);
select * from finish();
rollback;
