-- What waits for a person's word.

create or replace view vcs.code_import_held_ref as
select
    held.code_import_id,
    held.ref,
    held.kind,
    held.old_value,
    held.new_value,
    held.date_held,
    held.job_id,
    held.decision,
    held.person,
    held.date_decided
from vcs._code_import_held_ref as held;

comment on view vcs.code_import_held_ref is
    'Changes at the source that the newest run has held back.';
comment on column vcs.code_import_held_ref.old_value is
    'What the mirror has.';
comment on column vcs.code_import_held_ref.new_value is
    'What the source has; null when it is gone there.';
comment on column vcs.code_import_held_ref.job_id is
    'The run that held it back first.';
comment on column vcs.code_import_held_ref.person is
    'Who has decided.';
comment on column vcs.code_import_held_ref.decision is
    'accept: the next run publishes it; keep: the mirror stays as it is; null: nobody has said.';
