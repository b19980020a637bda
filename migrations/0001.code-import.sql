-- Create the imports: what is mirrored, from where, to where, for whom.

create table if not exists vcs._code_import (
    id            bigint      primary key generated always as identity,
    date_created  timestamptz not null,
    registrant    text        not null,
    owner         text        not null,
    assignee      text,
    target        text        not null,
    url           text,
    cvs_root      text,
    cvs_module    text,
    source_hash   bytea       not null,

    constraint code_import_target_is_mirrored_once unique (target),
    constraint code_import_source_is_imported_once unique (source_hash),
    constraint code_import_source_is_a_url_or_a_cvs_root_and_module check (
        (url is not null and num_nulls(cvs_root, cvs_module) = 2)
        or (url is null and num_nulls(cvs_root, cvs_module) = 0)
    )
);

comment on table vcs._code_import is
    'What an import is. What changes with its runs is in _code_import_schedule.';
comment on column vcs._code_import.source_hash is
    'SHA-256 of the source in its normal form: short and of one length, so that any url can be unique.';
