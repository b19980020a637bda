-- Remember which file of a partition was looked through: written anew, its rows lie elsewhere.
-- depends: 0008.history-by-time

delete from vcs._code_import_partition;

alter table vcs._code_import_partition add column filenode bigint not null;

comment on column vcs._code_import_partition.filenode is
    'The file whose blocks are meant: where it is another one, rows lie elsewhere, look again.';
