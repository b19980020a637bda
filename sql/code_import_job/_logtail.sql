-- Log tails: the newest bytes, cut between characters.

create or replace function vcs._newest_bytes(p_text text, p_limit bigint)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text   text;
    v_excess bigint;
begin
    if octet_length(p_text) <= p_limit then
        return p_text;
    end if;
    v_text := right(p_text, p_limit::integer);
    v_excess := octet_length(v_text) - p_limit;
    -- Whatever the database's encoding, a character has at most four bytes: that many go at least.
    while v_excess > 0 loop
        v_text := right(v_text, - ((v_excess + 3) / 4)::integer);
        v_excess := octet_length(v_text) - p_limit;
    end loop;
    return v_text;
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
