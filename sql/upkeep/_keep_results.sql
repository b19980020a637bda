-- Results that stay, however old they are: those among the newest of an import. Before the
-- partition of their time is dropped they are filed under infinity, which moves them.
--
-- A partition is looked through by blocks, as far as one call comes, and the next goes on there.

create or replace function vcs._keep_results(p_oldest timestamptz, p_until timestamptz)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept  bigint := vcs._number_setting('results_kept');
    v_part  record;
    v_count bigint := 0;
begin
    for v_part in
        select part.* from vcs._partitions('_code_import_result') as part
        where part.is_ours and part.upper_bound <= p_oldest
          and v_kept > 0 and vcs._sees_all()
        order by part.lower_bound
    loop
        if not vcs._is_looked_through(v_part.relation, v_kept)
            and vcs._begin_to_look(v_part.relation, v_kept)
        then
            v_count := v_count + vcs._move_results(
                v_part.relation, v_part.lower_bound, v_part.upper_bound, v_kept, p_until
            );
        end if;
        exit when clock_timestamp() >= p_until;
    end loop;
    return v_count;
end;
$$;

-- An old snapshot does not show all that there is. On one, results are left for another time.
create or replace function vcs._sees_all()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return current_setting('transaction_isolation') in ('read committed', 'read uncommitted');
end;
$$;

-- Whether every result that has to stay is out of a partition.
create or replace function vcs._is_looked_through(p_relation text, p_kept bigint)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_kept = 0 or exists (
        select from vcs._code_import_partition as looked
        where looked.relation = p_relation
          and looked.filenode = vcs._filenode(p_relation)
          and looked.next_block >= vcs._blocks(p_relation)
          and looked.results_kept >= p_kept
          and looked.newest_id >= vcs._newest_id(p_relation)
    );
end;
$$;

-- Begin, unless it is begun and nothing has come to be in doubt since. Nothing can be seen of what
-- is written and not committed: the lock waits for whoever writes there still, or gives up.
create or replace function vcs._begin_to_look(p_relation text, p_kept bigint)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
    if exists (
        select from vcs._code_import_partition as looked
        where looked.relation = p_relation
          and looked.filenode = vcs._filenode(p_relation)
          and looked.next_block < vcs._blocks(p_relation)
          and looked.results_kept >= p_kept
          and looked.newest_id >= vcs._newest_id(p_relation)
    ) then
        return true;
    end if;
    execute format('lock table only vcs.%I in share mode', p_relation);
    insert into vcs._code_import_partition as looked
        (relation, next_block, newest_id, results_kept, filenode)
    values (p_relation, 0, vcs._newest_id(p_relation), p_kept, vcs._filenode(p_relation))
    on conflict on constraint _code_import_partition_pkey do update
    set next_block = excluded.next_block,
        newest_id = excluded.newest_id,
        results_kept = excluded.results_kept,
        filenode = excluded.filenode;
    return true;
exception
    when lock_not_available or deadlock_detected or undefined_table then
        return false;
end;
$$;

create or replace function vcs._blocks(p_relation text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_relation_size(format('vcs.%I', p_relation)::regclass)
        / current_setting('block_size')::bigint;
end;
$$;

-- Another one after VACUUM FULL, CLUSTER or a restore, and then blocks have other rows.
create or replace function vcs._filenode(p_relation text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_relation_filenode(format('vcs.%I', p_relation)::regclass)::bigint;
end;
$$;

create or replace function vcs._newest_id(p_relation text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    execute format('select coalesce(max(id), 0) from vcs.%I', p_relation) into v_id;
    return v_id;
end;
$$;

-- From where the last call came to, to the end or until the time is over; at least a few blocks.
create or replace function vcs._move_results(
    p_relation text,
    p_lower    timestamptz,
    p_upper    timestamptz,
    p_kept     bigint,
    p_until    timestamptz
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    c_blocks constant integer := 128;
    v_blocks bigint := vcs._blocks(p_relation);
    v_next   bigint := (
        select looked.next_block from vcs._code_import_partition as looked
        where looked.relation = p_relation
    );
    v_moved  bigint;
    v_count  bigint := 0;
begin
    while v_next < v_blocks loop
        -- With its bounds written out, so that this partition alone is opened.
        execute
            'update vcs._code_import_result as result
             set date_filed = ''infinity''
             from vcs._code_import_schedule as schedule
             where result.ctid >= $1 and result.ctid < $2
               and result.date_filed >= $3 and result.date_filed < $4
               and schedule.code_import_id = result.code_import_id
               and result.result_number > schedule.result_count - $5'
        using
            format('(%s,0)', v_next)::tid, format('(%s,0)', v_next + c_blocks)::tid,
            p_lower, p_upper, p_kept;
        get diagnostics v_moved = row_count;
        v_count := v_count + v_moved;
        v_next := v_next + c_blocks;
        exit when clock_timestamp() >= p_until;
    end loop;
    update vcs._code_import_partition as looked
    set next_block = v_next
    where looked.relation = p_relation;
    return v_count;
end;
$$;

-- Of those that stayed, the ones that are among the newest no longer: round and round, as far as
-- one call comes.
create or replace function vcs._sweep_kept_results(p_oldest timestamptz, p_until timestamptz)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    c_blocks constant integer := 128;
    v_part   text := (
        select part.relation from vcs._partitions('_code_import_result') as part
        where part.lower_bound = 'infinity'
    );
    v_kept   bigint := vcs._number_setting('results_kept');
    v_blocks bigint := vcs._blocks(v_part);
    v_next   bigint := (
        select looked.next_block from vcs._code_import_partition as looked where looked.relation = v_part
    );
    v_gone   bigint;
    v_count  bigint := 0;
begin
    for v_round in 0 .. v_blocks / c_blocks loop
        v_next := case when v_next < v_blocks then v_next else 0 end;
        execute format(
            'delete from vcs.%I as result
             where result.ctid >= $1 and result.ctid < $2
               and result.date_created < $3
               and not exists (
                   select from vcs._code_import_schedule as schedule
                   where schedule.code_import_id = result.code_import_id
                     and result.result_number > schedule.result_count - $4
               )',
            v_part
        )
        using
            format('(%s,0)', v_next)::tid, format('(%s,0)', v_next + c_blocks)::tid, p_oldest, v_kept;
        get diagnostics v_gone = row_count;
        v_count := v_count + v_gone;
        v_next := v_next + c_blocks;
        exit when clock_timestamp() >= p_until;
    end loop;
    insert into vcs._code_import_partition as looked
        (relation, next_block, newest_id, results_kept, filenode)
    values (v_part, v_next, 0, v_kept, vcs._filenode(v_part))
    on conflict on constraint _code_import_partition_pkey do update
    set next_block = excluded.next_block,
        results_kept = excluded.results_kept,
        filenode = excluded.filenode;
    return v_count;
end;
$$;
