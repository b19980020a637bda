-- What an import is and how it fares: two tables for a writer, one record for a reader.

create or replace view vcs.code_import as
select
    import.id,
    import.date_created,
    import.registrant,
    import.owner,
    import.assignee,
    import.target,
    schedule.rcs_type,
    import.url,
    import.cvs_root,
    import.cvs_module,
    schedule.review_status,
    schedule.update_interval,
    coalesce(
        schedule.update_interval,
        (
            select setting.interval_value
            from vcs._code_import_setting as setting
            where setting.name = 'default_interval_' || schedule.rcs_type
        )
    ) as effective_update_interval,
    schedule.date_last_successful,
    schedule.consecutive_failure_count
from vcs._code_import as import
join vcs._code_import_schedule as schedule on schedule.code_import_id = import.id;

comment on view vcs.code_import is
    'The imports: what is mirrored, from where, to where, and how it fares.';
comment on column vcs.code_import.target is
    'Unique name of the mirror: a relative path such as project/repo.';
comment on column vcs.code_import.url is
    'Source as it was given; null for cvs, which has cvs_root and cvs_module.';
comment on column vcs.code_import.review_status is
    'new, invalid, reviewed (the only one that runs), suspended or failing.';
comment on column vcs.code_import.update_interval is
    'Time from one run to the next; null means the default of the rcs_type.';
comment on column vcs.code_import.effective_update_interval is
    'The update_interval in force.';
comment on column vcs.code_import.date_last_successful is
    'End of the newest run that found or fetched all there was; null before the first.';
comment on column vcs.code_import.consecutive_failure_count is
    'Failures of the source since its last success.';
