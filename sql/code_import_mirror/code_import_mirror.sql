-- Mirrors: how they are, and what their people want.

create or replace view vcs.code_import_mirror as
select
    import.id as code_import_id,
    import.target,
    coalesce(mirror.maximum_loss_percent, loss.number_value::integer) as maximum_loss_percent,
    (
        select count(*) from vcs._code_import_held_ref as held
        where held.code_import_id = import.id
    ) as refs_held,
    mirror.job_id,
    mirror.date_verified,
    mirror.damage,
    -- The first time spread evenly, so that mirrors registered together are not all read at once.
    coalesce(mirror.date_verified, import.date_created) + verification.interval_value
        * case when mirror.date_verified is null then import.id * 7919 % 1000 / 1000.0 else 1 end
        as date_verification_due
from vcs._code_import as import
left join vcs._code_import_mirror as mirror on mirror.code_import_id = import.id
cross join lateral (
    select setting.number_value from vcs._code_import_setting as setting
    where setting.name = 'maximum_loss_percent'
) as loss
cross join lateral (
    select setting.interval_value from vcs._code_import_setting as setting
    where setting.name = 'verification_interval'
) as verification;

comment on view vcs.code_import_mirror is
    'The mirrors: one for each import, by what its runs have told.';
comment on column vcs.code_import_mirror.maximum_loss_percent is
    'A run that would lose more of the branches, the tags or the commits than this holds it back.';
comment on column vcs.code_import_mirror.refs_held is
    'How many changes at the source are held back: code_import_held_ref lists them.';
comment on column vcs.code_import_mirror.job_id is
    'The newest run that has told of a change of refs.';
comment on column vcs.code_import_mirror.date_verified is
    'When all objects of the mirror were read and checked last; null for not yet.';
comment on column vcs.code_import_mirror.damage is
    'What was found wrong then; null for nothing.';
comment on column vcs.code_import_mirror.date_verification_due is
    'From when on a run reads and checks all of it; null for never.';
