-- Registering imports, one or a hundred thousand, in one way.

-- One list at a time, and none beside an import that takes both another target and another source:
-- two with the same sources under other targets have no order in which they could not wait for
-- each other.
create or replace function vcs._lock_lists()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('code_import_new_many', 0));
end;
$$;

-- The parameter names of code_import_new.
create or replace function vcs._import_keys()
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array[
        'registrant', 'target', 'rcs_type', 'url', 'cvs_root', 'cvs_module',
        'review_status', 'owner', 'update_interval'
    ];
end;
$$;

-- An object with those keys, read and judged: refusal says why it cannot be an import, and is
-- null when it can.
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
    refusal := vcs._keys_refusal(p_given, vcs._import_keys());
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
    if p_given ->> 'update_interval' is not null then
        update_interval := vcs._interval_of(p_given ->> 'update_interval');
    end if;
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
    elsif p_given - p_keys = '{}' and not jsonb_path_exists(p_given, 'strict $.* ? (@.type() != "string" && @.type() != "null")') then
        return null;
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

-- Those elements of an array that a glance shows to be right, as most are. To be plain is less
-- than to be right: whoever widens this must not let in what _given_import refuses, nor give it
-- another hash.
create or replace function vcs._plain_imports(p_imports jsonb, p_registrant text)
returns table (
    place bigint, target text, rcs_type text, url text, review_status text, owner text,
    update_interval interval, source_hash bytea
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_keys text[] := vcs._import_keys();
begin
    if p_registrant is null or not vcs._is_name(p_registrant) then
        return;
    end if;
    return query
    select
        item.place, item.target, item.rcs_type, item.url, item.review_status, item.owner,
        item.update_interval, sha256(convert_to(rtrim(item.url, '/'), 'UTF8'))
    from jsonb_array_elements(p_imports) with ordinality as element (value, place)
    cross join lateral (
        select
            element.place,
            element.value ->> 'target' as target,
            element.value ->> 'rcs_type' as rcs_type,
            element.value ->> 'url' as url,
            case
                when element.value ? 'review_status' then element.value ->> 'review_status'
                else 'reviewed'
            end as review_status,
            coalesce(element.value ->> 'owner', p_registrant) as owner,
            case
                when element.value ->> 'update_interval' is not null
                    then vcs._interval_of(element.value ->> 'update_interval')
            end as update_interval
    ) as item
    where case when jsonb_typeof(element.value) = 'object' then
        element.value - v_keys = '{}'
        and not jsonb_path_exists(
            element.value, 'strict $.* ? (@.type() != "string" && @.type() != "null")'
        )
        and element.value ->> 'registrant' is null
        and num_nonnulls(element.value ->> 'cvs_root', element.value ->> 'cvs_module') = 0
        and length(item.target) <= 200
        and item.target ~ '^[A-Za-z0-9_+][A-Za-z0-9._+-]*(/[A-Za-z0-9_+][A-Za-z0-9._+-]*)*$'
        and item.target !~ '[.](git|lock)(/|$)'
        and item.rcs_type in ('git', 'svn', 'hg', 'bzr')
        and length(item.url) <= 2000
        and item.url ~ '^[!-~]*$'
        and split_part(item.url, '://', 1)
            in ('https', 'http', 'git', 'ssh', 'svn', 'svn+ssh', 'bzr', 'bzr+ssh', 'ftp')
        and split_part(item.url, '/', 3) ~ '^([A-Za-z0-9_]+@)?[a-z0-9][a-z0-9.-]*$'
        and item.review_status in ('new', 'invalid', 'reviewed', 'suspended', 'failing')
        and (item.owner = p_registrant or vcs._is_name(item.owner))
        and (element.value ->> 'update_interval' is null
            or vcs._is_update_interval(coalesce(item.update_interval, '0')))
    end;
end;
$$;

-- Every element of an array, read and judged.
create or replace function vcs._given_imports(p_imports jsonb, p_registrant text)
returns table (
    place bigint, target text, rcs_type text, url text, cvs_root text, cvs_module text,
    review_status text, registrant text, owner text, update_interval interval,
    source_hash bytea, refusal text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with plain as materialized (
        select item.* from vcs._plain_imports(p_imports, p_registrant) as item
    ),
    doubtful as materialized (
        select element.*
        from jsonb_array_elements(p_imports) with ordinality as element (value, place)
        where not exists (select from plain where plain.place = element.place)
    )
    select
        plain.place, plain.target, plain.rcs_type, plain.url, null, null, plain.review_status,
        p_registrant, plain.owner, plain.update_interval, plain.source_hash, null
    from plain
    union all
    select
        doubtful.place, given.target, given.rcs_type, given.url, given.cvs_root, given.cvs_module,
        given.review_status, given.registrant, given.owner, given.update_interval,
        given.source_hash, given.refusal
    from doubtful
    cross join lateral vcs._given_import(doubtful.value, p_registrant) as given
    order by 1;
end;
$$;

-- Insert what can be; of two that cannot both be, the first. The arrays answer by place: what has
-- no id was not inserted, and what has no refusal either is there already.
create or replace function vcs._insert_imports(
    p_imports    jsonb,
    p_registrant text,
    out targets       text[],
    out ids           bigint[],
    out refusals      text[],
    out source_hashes bytea[],
    out is_any_due    boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'iso_8601'
as $$
begin
    with given as materialized (
        select
            item.*,
            item.review_status = 'reviewed' as is_due,
            case when item.refusal is null then nextval('vcs._code_import_id_seq') end as id
        from vcs._given_imports(p_imports, p_registrant) as item
    ),
    made as (
        insert into vcs._code_import as import (
            id, date_created, registrant, owner, target, url, cvs_root, cvs_module, source_hash
        )
        overriding system value
        select
            given.id, now(), given.registrant, given.owner, given.target, given.url,
            given.cvs_root, given.cvs_module, given.source_hash
        from given
        where given.refusal is null
        on conflict do nothing
        returning import.id
    ),
    schedule as (
        insert into vcs._code_import_schedule as schedule (
            code_import_id, rcs_type, review_status, update_interval,
            job_id, date_created, date_due, state
        )
        select
            given.id, given.rcs_type, given.review_status, given.update_interval,
            case when given.is_due then nextval('vcs._code_import_job_id_seq') end,
            case when given.is_due then now() end,
            case when given.is_due then now() end,
            case when given.is_due then 'pending' end
        from made
        join given on given.id = made.id
    ),
    event as (
        insert into vcs._code_import_event
            (id, date_created, event_type, code_import_id, person, data)
        select
            nextval('vcs._code_import_event_id_seq'), now(), 'create', given.id, given.registrant,
            to_jsonb(row(
                given.id, now(), given.registrant, given.owner, null, given.target, given.rcs_type,
                given.url, given.cvs_root, given.cvs_module, given.review_status,
                given.update_interval, coalesce(given.update_interval, setting.interval_value),
                null, 0
            )::vcs.code_import)
        from made
        join given on given.id = made.id
        left join vcs._code_import_setting as setting
            on setting.name = 'default_interval_' || given.rcs_type
    )
    select
        array_agg(given.target order by given.place),
        array_agg(made.id order by given.place),
        array_agg(given.refusal order by given.place),
        array_agg(case when made.id is null then given.source_hash end order by given.place),
        coalesce(bool_or(given.is_due) filter (where made.id is not null), false)
    into targets, ids, refusals, source_hashes, is_any_due
    from given
    left join made on made.id = given.id;
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
    v_made record := vcs._insert_imports(p_imports, p_registrant);
begin
    if v_made.is_any_due then
        perform vcs._wake_workers();
    end if;
    return query
    with item as materialized (
        select entry.*
        from unnest(v_made.targets, v_made.ids, v_made.refusals, v_made.source_hashes)
            with ordinality as entry (target, id, refusal, source_hash, place)
    ),
    answer as (
        select
            item.place, item.target, item.id,
            null as error_code, null as message, null as detail, null as constraint_name
        from item
        where item.id is not null
        union all
        select item.place, item.target, null, 'IJ400', item.refusal, null, null
        from item
        where item.refusal is not null
        union all
        select
            item.place, item.target, null,
            '23505', taken.message, taken.detail, taken.constraint_name
        from item
        cross join lateral vcs._taken(item.target, item.source_hash, null) as taken
        where item.id is null and item.refusal is null
    )
    select
        answer.target, answer.id,
        answer.error_code, answer.message, answer.detail, answer.constraint_name
    from answer
    order by answer.place;
end;
$$;
