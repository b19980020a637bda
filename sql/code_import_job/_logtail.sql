-- Log tails: the newest bytes, cut between characters.

create or replace function vcs._newest_bytes(p_text text, p_limit bigint)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bytes bytea;
    v_start integer := 1;
begin
    if octet_length(p_text) <= p_limit then
        return p_text;
    end if;
    v_bytes := convert_to(p_text, 'UTF8');
    v_bytes := substring(v_bytes from greatest(octet_length(v_bytes) - p_limit, 0)::integer + 1);
    -- Bytes 10xxxxxx continue a character whose first byte was cut off.
    while v_start <= octet_length(v_bytes) and get_byte(v_bytes, v_start - 1) & 192 = 128 loop
        v_start := v_start + 1;
    end loop;
    return convert_from(substring(v_bytes from v_start), 'UTF8');
end;
$$;

-- Null leaves a tail as it is.
create or replace function vcs._keep_logtails(p_job_ids bigint[], p_logtails text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_limit bigint := vcs._number_setting('logtail_limit');
begin
    insert into vcs._code_import_logtail as tail (job_id, logtail)
    select given.job_id, vcs._newest_bytes(given.logtail, v_limit)
    from unnest(p_job_ids, p_logtails) as given (job_id, logtail)
    where given.logtail is not null
    order by given.job_id
    on conflict on constraint _code_import_logtail_pkey do update
    set logtail = excluded.logtail
    where tail.logtail <> excluded.logtail;
end;
$$;
