-- Registering imports, one or a hundred thousand, in one way.

-- An object with the parameter names of code_import_new as keys, read and judged: refusal
-- says why it cannot be an import, and is null when it can.
create or replace function vcs._given_import(
    p_given      jsonb,
    p_registrant text,
    out target          text,
    out rcs_type        text,
    out url             text,
    out cvs_root        text,
    out cvs_module      text,
    out review_status   text,
    out registrant      text,
    out owner           text,
    out update_interval interval,
    out source_hash     bytea,
    out refusal         text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    refusal := vcs._keys_refusal(p_given, array[
        'registrant', 'target', 'rcs_type', 'url', 'cvs_root', 'cvs_module',
        'review_status', 'owner', 'update_interval'
    ]);
    if refusal is not null then
        target := case when jsonb_typeof(p_given) = 'object' then p_given ->> 'target' end;
        return;
    end if;
    target := p_given ->> 'target';
    rcs_type := p_given ->> 'rcs_type';
    url := p_given ->> 'url';
    cvs_root := p_given ->> 'cvs_root';
    cvs_module := p_given ->> 'cvs_module';
    review_status := case when p_given ? 'review_status' then p_given ->> 'review_status' else 'reviewed' end;
    registrant := coalesce(p_given ->> 'registrant', p_registrant);
    owner := coalesce(p_given ->> 'owner', registrant);
    update_interval := vcs._interval_of(p_given ->> 'update_interval');
    refusal := coalesce(
        case
            when registrant is null then 'registrant is null, and a value is needed'
            when not vcs._is_name(registrant) then format('registrant %L is not a name', left(registrant, 40))
            when update_interval is null and p_given ->> 'update_interval' is not null
                then format('update_interval %L is not an interval', left(p_given ->> 'update_interval', 40))
        end,
        vcs._import_refusal(
            owner, null, target, rcs_type, url, cvs_root, cvs_module, review_status, update_interval
        )
    );
    if refusal is null then
        source_hash := vcs._source_hash(url, cvs_root, cvs_module);
    end if;
end;
$$;

-- Why JSON is not an object of these keys with strings or nulls as values; null when it is.
create or replace function vcs._keys_refusal(p_given jsonb, p_keys text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_given is null or jsonb_typeof(p_given) <> 'object' then
        return 'it is not a JSON object';
    end if;
    return (
        select case
            when entry.key <> all (p_keys)
                then format('there is no key %L here, but %s', left(entry.key, 40), array_to_string(p_keys, ', '))
            else format('%s is not a JSON string', entry.key)
        end
        from jsonb_each(p_given) as entry (key, value)
        where entry.key <> all (p_keys) or jsonb_typeof(entry.value) not in ('string', 'null')
        order by entry.key
        limit 1
    );
end;
$$;

-- Insert what can be, each element of the array under the id at its place; of two that cannot
-- both be, the first.
create or replace function vcs._insert_imports(p_imports jsonb, p_registrant text, p_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into vcs._code_import (
        id, date_created, registrant, owner, target, url, cvs_root, cvs_module, source_hash
    )
    overriding system value
    select
        p_ids[item.place], now(), given.registrant, given.owner, given.target, given.url,
        given.cvs_root, given.cvs_module, given.source_hash
    from jsonb_array_elements(p_imports) with ordinality as item (value, place)
    cross join lateral vcs._given_import(item.value, p_registrant) as given
    where given.refusal is null
    order by item.place
    on conflict do nothing;

    insert into vcs._code_import_schedule (
        code_import_id, rcs_type, review_status, update_interval, job_id, date_created, date_due, state
    )
    select
        import.id, item.value ->> 'rcs_type', given.review_status,
        vcs._interval_of(item.value ->> 'update_interval'),
        case when given.review_status = 'reviewed' then nextval('vcs._code_import_job_id_seq') end,
        case when given.review_status = 'reviewed' then now() end,
        case when given.review_status = 'reviewed' then now() end,
        case when given.review_status = 'reviewed' then 'pending' end
    from jsonb_array_elements(p_imports) with ordinality as item (value, place)
    cross join lateral (select coalesce(item.value ->> 'review_status', 'reviewed')) as given (review_status)
    join vcs._code_import as import on import.id = p_ids[item.place];
end;
$$;

-- Each element of the array becomes an import, or a refusal.
create or replace function vcs._register(p_imports jsonb, p_registrant text)
returns table (
    target text, code_import_id bigint,
    error_code text, message text, detail text, constraint_name text
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := array(
        select nextval('vcs._code_import_id_seq') from generate_series(1, jsonb_array_length(p_imports))
    );
begin
    perform vcs._insert_imports(p_imports, p_registrant, v_ids);

    insert into vcs._code_import_event
        (id, date_created, event_type, code_import_id, person, data)
    select
        nextval('vcs._code_import_event_id_seq'), now(), 'create', import.id,
        import.registrant, vcs._import_json(import)
    from vcs.code_import as import
    where import.id = any (v_ids);

    if exists (
        select from vcs._code_import_schedule as schedule
        where schedule.code_import_id = any (v_ids) and schedule.state = 'pending'
    ) then
        perform vcs._wake_workers();
    end if;

    -- What was inserted is not judged a second time: most of it was.
    return query
    select
        case when jsonb_typeof(item.value) = 'object' then item.value ->> 'target' end,
        import.id,
        refused.error_code, refused.message, refused.detail, refused.constraint_name
    from jsonb_array_elements(p_imports) with ordinality as item (value, place)
    left join vcs._code_import as import on import.id = v_ids[item.place]
    left join lateral (
        select
            case when given.refusal is null then '23505' else 'IJ400' end as error_code,
            coalesce(given.refusal, taken.message) as message,
            taken.detail,
            taken.constraint_name
        from vcs._given_import(item.value, p_registrant) as given
        left join lateral vcs._taken(given.target, given.source_hash, null) as taken on given.refusal is null
        where import.id is null
    ) as refused on true
    order by item.place;
end;
$$;
