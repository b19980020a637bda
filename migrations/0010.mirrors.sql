-- Keep a journal of what became of each mirror's refs, and what people decide about them.
-- depends: 0009.looked-through-files

create sequence vcs._code_import_ref_change_id_seq as bigint;

create table vcs._code_import_ref_change (
    id              bigint      not null,
    date_created    timestamptz not null,
    code_import_id  bigint      not null,
    job_id          bigint,
    kind            text        not null,
    ref             text        not null,
    old_value       text,
    new_value       text,

    constraint code_import_ref_change_kind_is_known check (
        kind in ('new', 'updated', 'rewritten', 'deleted', 'restored')
    ),
    constraint code_import_ref_change_is_a_change check (old_value is distinct from new_value)
) partition by range (date_created);

comment on table vcs._code_import_ref_change is
    'What became of the refs of mirrors. Kept for ref_retention; no foreign keys, as in all history.';
comment on column vcs._code_import_ref_change.job_id is
    'The run that published it; null when a person restored the mirror.';

create table vcs._code_import_ref_change_default
    partition of vcs._code_import_ref_change default;

comment on table vcs._code_import_ref_change_default is
    'Changes of a time that has no partition.';

create index _code_import_ref_change_code_import_idx
    on vcs._code_import_ref_change (code_import_id, id);
create index _code_import_ref_change_ref_idx
    on vcs._code_import_ref_change (code_import_id, ref, id);

create table vcs._code_import_mirror (
    code_import_id        bigint primary key
        references vcs._code_import (id) on delete cascade,
    maximum_loss_percent  integer,
    job_id                bigint,
    date_verified         timestamptz,
    damage                text,

    constraint code_import_mirror_loss_is_a_percentage check (
        maximum_loss_percent between 0 and 100
    )
);

comment on table vcs._code_import_mirror is
    'What is known of a mirror, and what its owner wants; none is needed for one without news.';

create index _code_import_mirror_damaged_idx
    on vcs._code_import_mirror (code_import_id) where damage is not null;

create table vcs._code_import_held_ref (
    code_import_id  bigint      not null
        references vcs._code_import (id) on delete cascade,
    ref             text        not null,
    kind            text        not null,
    old_value       text,
    new_value       text,
    date_held       timestamptz not null,
    job_id          bigint      not null,
    decision        text,
    person          text,
    date_decided    timestamptz,

    primary key (code_import_id, ref),
    constraint code_import_held_ref_decision_is_known check (decision in ('accept', 'keep')),
    constraint code_import_held_ref_decision_has_a_person check (
        (decision is null) = (person is null) and (decision is null) = (date_decided is null)
    )
);

comment on table vcs._code_import_held_ref is
    'Changes at the source that the newest run has not published, and what a person has decided.';
