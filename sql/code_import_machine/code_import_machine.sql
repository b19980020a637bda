-- The hosts that run jobs.

create or replace view vcs.code_import_machine as
select
    machine.id,
    machine.date_created,
    machine.hostname,
    machine.state,
    machine.heartbeat,
    machine.owner_role
from vcs._code_import_machine as machine;

comment on view vcs.code_import_machine is
    'The machines: who runs jobs, and whether they take new ones.';
comment on column vcs.code_import_machine.state is
    'offline, online, or quiescing (finishes what it has, takes nothing new).';
comment on column vcs.code_import_machine.heartbeat is
    'When it last asked for work or beat for a job, give or take 10 seconds.';
comment on column vcs.code_import_machine.owner_role is
    'The database role that claims as this machine; null until a worker role does.';
