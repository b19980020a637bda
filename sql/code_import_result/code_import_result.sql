-- How each run ended.

create or replace view vcs.code_import_result as
select
    result.id,
    result.date_created,
    result.code_import_id,
    result.machine_id,
    result.job_id,
    result.requesting_user,
    result.log_excerpt,
    -- Looked for in the time of the run alone, with a day for clocks that are put right.
    case
        when result.log_file_id is not null then (
            select file.id
            from vcs._code_import_log_file as file
            where file.id = result.log_file_id
              and file.date_created >= result.date_job_started
              and file.date_created <= result.date_filed + interval '24 h'
        )
    end as log_file_id,
    result.status,
    result.date_job_started,
    result.date_created - result.date_job_started as job_duration
from vcs._code_import_result as result;

comment on view vcs.code_import_result is
    'The results: how each run ended; they outlive imports and machines.';
comment on column vcs.code_import_result.date_created is
    'When the run ended.';
comment on column vcs.code_import_result.job_id is
    'The run; its job is gone.';
comment on column vcs.code_import_result.log_excerpt is
    'The logtail as it was when the run ended.';
comment on column vcs.code_import_result.log_file_id is
    'The whole log; null when none was stored or it is no longer kept.';
