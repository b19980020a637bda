-- A running job with all that its worker needs. It is what a claim returns, and where a
-- worker that lost an answer asks which runs its machine has.

create or replace view vcs.code_import_assignment as
select
    job.*,
    import.url,
    import.cvs_root,
    import.cvs_module,
    import.target
from vcs.code_import_job as job
join vcs._code_import as import on import.id = job.code_import_id
where job.state = 'running';

comment on view vcs.code_import_assignment is
    'The running jobs, each with the source and target of its import.';
