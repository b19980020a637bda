-- Whole logs, or their ends.

create or replace view vcs.code_import_log_file as
select
    file.id,
    file.date_created,
    file.job_id,
    octet_length(file.content)::bigint as size,
    file.content
from vcs._code_import_log_file as file;

comment on view vcs.code_import_log_file is
    'The whole logs of runs, each at most its last log_file_limit bytes.';
comment on column vcs.code_import_log_file.size is
    'Bytes kept.';
