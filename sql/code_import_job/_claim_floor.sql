-- Where claims start to look while an old snapshot keeps the index entries of jobs that were
-- claimed long ago: walking past all of them is what makes other queues slow.
--
-- Claims go through a range in the order of date_due, so the first job that was seen in it is a
-- floor for the next walk. It is a hint, which a session keeps for itself as a setting (a row would
-- leave dead versions of its own), and only while walks are long. It is forgotten
--
--   when a job appears before now: whoever does that draws from _code_import_recall_seq, and for
--   a second, in which it commits, no floor is kept;
--   after ten seconds, or longer if the walk without it was very long, for what came some other
--   way: from a transaction that took long to commit.

-- The floors of the requested, the ordered, and all other jobs, each a date_due and a job's id.
create or replace function vcs._claim_floor(
    p_machine_id bigint,
    p_rcs_types  text[],
    out is_kept boolean,
    out dates   timestamptz[],
    out job_ids bigint[]
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept text[];
begin
    is_kept := coalesce(current_setting('code_import.claim_floor', true) <> '', false);
    if is_kept then
        v_kept := string_to_array(current_setting('code_import.claim_floor'), ' ');
        if v_kept[1] = vcs._claim_floor_key(p_machine_id, p_rcs_types)
            and v_kept[3]::numeric > extract(epoch from clock_timestamp())
            -- The clock may have gone back.
            and greatest(v_kept[4]::numeric, v_kept[5]::numeric, v_kept[6]::numeric)
                <= extract(epoch from now())
        then
            dates := array[
                to_timestamp(v_kept[4]::double precision),
                to_timestamp(v_kept[5]::double precision),
                to_timestamp(v_kept[6]::double precision)
            ];
            job_ids := v_kept[7:9]::bigint[];
            return;
        end if;
    end if;
    dates := array['-infinity', '-infinity', '-infinity']::timestamptz[];
    job_ids := array[0, 0, 0]::bigint[];
end;
$$;

-- After a long walk, keep the first jobs that it saw in each range; after a short one from the very
-- start, forget. What is kept: for which ranges, since when, until when, and the floors.
create or replace function vcs._keep_claim_floor(
    p_machine_id bigint,
    p_rcs_types  text[],
    p_has_floor  boolean,
    p_dates      timestamptz[],
    p_job_ids    bigint[],
    p_walked     bigint
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept  text[] := string_to_array(current_setting('code_import.claim_floor', true), ' ');
    v_key   text := vcs._claim_floor_key(p_machine_id, p_rcs_types);
    -- Numeric, since what a double reads as depends on the caller's extra_float_digits.
    v_now   numeric := extract(epoch from clock_timestamp());
    v_since numeric := case when v_kept[1] = v_key then v_kept[2]::numeric else v_now end;
    -- Something may have been recalled during the walk.
    v_until numeric := case
        when p_has_floor and v_kept[1] = v_key then v_kept[3]::numeric
        when v_since < v_now - 1 then v_now + greatest(10, p_walked / 10000)
        else 0
    end;
    -- What becomes due while others claim is no older than their transactions.
    v_latest timestamptz := now() - interval '2 s';
begin
    perform set_config(
        'code_import.claim_floor',
        case
            when p_has_floor or p_walked > 200 or v_kept[1] <> v_key then concat_ws(
                ' ', v_key, v_since, v_until,
                extract(epoch from least(p_dates[1], v_latest)),
                extract(epoch from least(p_dates[2], v_latest)),
                extract(epoch from least(p_dates[3], v_latest)),
                case when p_dates[1] <= v_latest then p_job_ids[1] else 0 end,
                case when p_dates[2] <= v_latest then p_job_ids[2] else 0 end,
                case when p_dates[3] <= v_latest then p_job_ids[3] else 0 end
            )
            else ''
        end,
        false
    );
end;
$$;

-- A floor holds for these ranges, and as long as nothing was recalled.
create or replace function vcs._claim_floor_key(p_machine_id bigint, p_rcs_types text[])
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return concat_ws(
        ',', p_machine_id, array_to_string(p_rcs_types, ','),
        coalesce(pg_sequence_last_value('vcs._code_import_recall_seq'), 0)
    );
end;
$$;

-- A job is about to wait that was due before now.
create or replace function vcs._recall_claims()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform nextval('vcs._code_import_recall_seq');
end;
$$;

-- How many entries of the waiting ranges this session has read, dead ones among them. Only the
-- difference of two calls in one transaction means something.
create or replace function vcs._entries_read()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_stat_get_xact_tuples_returned('vcs._code_import_schedule_special_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('vcs._code_import_schedule_requested_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('vcs._code_import_schedule_ordered_idx'::regclass)
        + pg_stat_get_xact_tuples_returned('vcs._code_import_schedule_due_idx'::regclass);
end;
$$;
