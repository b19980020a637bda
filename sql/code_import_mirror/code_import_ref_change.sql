-- The journal of the refs.

create or replace view vcs.code_import_ref_change as
select
    change.id,
    change.date_created,
    change.code_import_id,
    change.job_id,
    change.kind,
    change.ref,
    change.old_value,
    change.new_value
from vcs._code_import_ref_change as change;

comment on view vcs.code_import_ref_change is
    'What has become of the refs of mirrors, kept for ref_retention.';
comment on column vcs.code_import_ref_change.kind is
    'new, updated, rewritten, deleted, or restored by a person.';
comment on column vcs.code_import_ref_change.ref is
    'Its full name, such as refs/heads/main, or HEAD. A byte that is not UTF-8 is written \xff.';
comment on column vcs.code_import_ref_change.old_value is
    'The object that it named before; null when it was not there. Of HEAD: an object, or "ref: " and a name.';
