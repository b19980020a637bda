-- Create the settings.
-- depends: 0005.code-import-event

create table if not exists vcs._code_import_setting (
    name            text     primary key,
    kind            text     not null,
    value           text,
    default_value   text,
    description     text     not null,
    interval_value  interval,
    number_value    bigint,

    constraint code_import_setting_kind_is_known
        check (kind in ('interval', 'count', 'size', 'hosts'))
);

comment on table vcs._code_import_setting is
    'One row a setting. A null value means the default.';
comment on column vcs._code_import_setting.interval_value is
    'The value in force as an interval, so that no call has to parse text.';
comment on column vcs._code_import_setting.number_value is
    'The value in force as a number (bytes for a size), so that no call has to parse text.';
