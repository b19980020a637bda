-- The tables in which yoyo-migrations 9 keeps its marks, exactly as it makes them, so that psql
-- and the command find each other's.

create table if not exists vcs._yoyo_migration (
    migration_hash  varchar(64),
    migration_id    varchar(255),
    applied_at_utc  timestamp,
    primary key (migration_hash)
);

create table if not exists vcs._yoyo_log (
    id              varchar(36),
    migration_hash  varchar(64),
    migration_id    varchar(255),
    operation       varchar(10),
    username        varchar(255),
    hostname        varchar(255),
    comment         varchar(255),
    created_at_utc  timestamp,
    primary key (id)
);

create table if not exists vcs._yoyo_version (
    version           int  not null  primary key,
    installed_at_utc  timestamp
);

create table if not exists vcs.yoyo_lock (
    locked  int  default 1,
    ctime   timestamp,
    pid     int  not null,
    primary key (locked)
);

insert into vcs._yoyo_version (version, installed_at_utc)
select 2, now() at time zone 'UTC'
where not exists (select from vcs._yoyo_version);

comment on table vcs._yoyo_migration is
    'Migrations that this database has. Written by the installer alone.';
comment on table vcs._yoyo_log is
    'When which migration was applied and the API was loaded (operation "load"; comment: of which text).';
comment on table vcs._yoyo_version is
    'Which form yoyo''s own tables have.';
comment on table vcs.yoyo_lock is
    'Empty but for the moments in which yoyo-migrations works. A row left by a crash is removed by the next install.';
