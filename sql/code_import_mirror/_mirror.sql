-- What the mirror functions share: changes of refs as JSON, and locking.

-- Read changes, or refuse the first that cannot be one.
create or replace function vcs._read_ref_changes(p_relation text, p_changes jsonb, p_job_id bigint)
returns table (place bigint, ref text, kind text, old_value text, new_value text, job_id bigint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wrong jsonb;
begin
    if p_changes is null then
        perform vcs._refuse_null(p_relation, 'changes');
    elsif jsonb_typeof(p_changes) <> 'array' then
        perform vcs._refuse_value(p_relation, 'the changes are no JSON array');
    end if;
    select item.value into v_wrong
    from jsonb_array_elements(p_changes) as item
    where not vcs._is_ref_change(item.value, p_job_id)
    limit 1;
    if found then
        perform vcs._refuse_value(
            p_relation, format('this is no change of a ref: %s', left(v_wrong::text, 200)),
            'An object with ref, kind (new, updated, rewritten or deleted), old and new.'
        );
    end if;
    return query
    select
        item.place, item.value ->> 'ref', item.value ->> 'kind', item.value ->> 'old', item.value ->> 'new',
        coalesce((item.value ->> 'job_id')::bigint, p_job_id)
    from jsonb_array_elements(p_changes) with ordinality as item (value, place);
end;
$$;

create or replace function vcs._is_ref_change(p_item jsonb, p_job_id bigint)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_typeof(p_item) = 'object'
        and jsonb_typeof(p_item -> 'ref') = 'string'
        and length(p_item ->> 'ref') between 1 and 4096
        and (p_item ->> 'ref') !~ '[[:cntrl:] ]'
        and coalesce((p_item ->> 'kind') in ('new', 'updated', 'rewritten', 'deleted'), false)
        and vcs._is_ref_value(p_item ->> 'old')
        and vcs._is_ref_value(p_item ->> 'new')
        and (p_item ->> 'old') is distinct from (p_item ->> 'new')
        and case jsonb_typeof(p_item -> 'job_id')
            when 'number' then (p_item ->> 'job_id') ~ '^[0-9]{1,18}$'
                and (p_item ->> 'job_id')::bigint <= p_job_id
            else coalesce(jsonb_typeof(p_item -> 'job_id'), 'null') = 'null'
        end;
end;
$$;

create or replace function vcs._is_ref_value(p_value text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_value is null
        or p_value ~ '^([0-9a-f]{40}|[0-9a-f]{64})$'
        or (p_value ~ '^ref: [^[:cntrl:] ]+$' and length(p_value) <= 4096);
end;
$$;

-- Write changes into the journal; what an earlier try has written is not written again.
create or replace function vcs._record_ref_changes(p_code_import_id bigint, p_changes jsonb, p_job_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into vcs._code_import_ref_change
        (id, date_created, code_import_id, job_id, kind, ref, old_value, new_value)
    select
        nextval('vcs._code_import_ref_change_id_seq'), now(), p_code_import_id,
        change.job_id, change.kind, change.ref, change.old_value, change.new_value
    from (
        select told.*
        from vcs._read_ref_changes('code_import_ref_change', p_changes, p_job_id) as told
        where not exists (
            select from vcs._code_import_ref_change as written
            where written.code_import_id = p_code_import_id
              and written.ref = told.ref
              and written.job_id = told.job_id
              and (written.old_value, written.new_value)
                  is not distinct from (told.old_value, told.new_value)
        )
        order by told.place
    ) as change;
end;
$$;

-- Make what is held that which a run has told. A decision stays while it is about the same.
create or replace function vcs._hold_refs(p_code_import_id bigint, p_held jsonb, p_job_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from vcs._code_import_held_ref as held
    where held.code_import_id = p_code_import_id
      and not exists (
          select from jsonb_array_elements(p_held) as item where item.value ->> 'ref' = held.ref
      );
    insert into vcs._code_import_held_ref as held
        (code_import_id, ref, kind, old_value, new_value, date_held, job_id)
    select distinct on (change.ref)
        p_code_import_id, change.ref, change.kind, change.old_value, change.new_value, now(), p_job_id
    from vcs._read_ref_changes('code_import_held_ref', p_held, p_job_id) as change
    on conflict (code_import_id, ref) do update
    set kind = excluded.kind,
        old_value = excluded.old_value,
        new_value = excluded.new_value,
        decision = case when vcs._still_decided(held, excluded) then held.decision end,
        person = case when vcs._still_decided(held, excluded) then held.person end,
        date_decided = case when vcs._still_decided(held, excluded) then held.date_decided end
    where (held.kind, held.old_value, held.new_value)
        is distinct from (excluded.kind, excluded.old_value, excluded.new_value);
end;
$$;

-- To accept is to accept what was seen; to keep is to keep what the mirror has.
create or replace function vcs._still_decided(
    p_held vcs._code_import_held_ref, p_new vcs._code_import_held_ref
)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case p_held.decision
        when 'keep' then p_held.old_value is not distinct from p_new.old_value
        else p_held.new_value is not distinct from p_new.new_value
    end;
end;
$$;

-- Decide about what is held, all of it or some refs, and have it carried out.
create or replace function vcs._decide_held(
    p_code_import_id bigint, p_person text, p_refs text[], p_decision text
)
returns setof vcs.code_import_held_ref
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule vcs._code_import_schedule;
    v_refs     text[];
begin
    perform vcs._check_person('code_import_held_ref', p_person);
    v_schedule := vcs._lock_import(p_code_import_id);
    perform vcs._check_held(p_code_import_id, p_refs);

    update vcs._code_import_held_ref as held
    set decision = p_decision, person = p_person, date_decided = now()
    where held.code_import_id = p_code_import_id
      and (p_refs is null or held.ref = any (p_refs));
    v_refs := array(
        select held.ref from vcs._code_import_held_ref as held
        where held.code_import_id = p_code_import_id and (p_refs is null or held.ref = any (p_refs))
        order by held.ref
    );
    perform vcs._record_event(
        'modify', p_code_import_id, p_person => p_person,
        p_data => jsonb_build_object(
            'held', p_decision, 'ref_count', cardinality(v_refs), 'refs', to_jsonb(v_refs[:100])
        )
    );
    if v_schedule.review_status = 'reviewed' then
        perform vcs.code_import_request_again(p_code_import_id, p_person);
    elsif v_schedule.review_status = 'failing' and v_schedule.state is distinct from 'running' then
        perform vcs.code_import_try_again(p_code_import_id, p_person);
    end if;
    return query
    select held.* from vcs.code_import_held_ref as held
    where held.code_import_id = p_code_import_id and held.ref = any (v_refs)
    order by held.ref;
end;
$$;

create or replace function vcs._check_held(p_code_import_id bigint, p_refs text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ref text;
begin
    if not exists (
        select from vcs._code_import_held_ref as held where held.code_import_id = p_code_import_id
    ) then
        perform vcs._refuse(
            'IJ409', 'code_import_held_ref', format('no ref of code import %s is held', p_code_import_id)
        );
    end if;
    select given.ref into v_ref
    from unnest(p_refs) as given (ref)
    where not exists (
        select from vcs._code_import_held_ref as held
        where held.code_import_id = p_code_import_id and held.ref = given.ref
    )
    limit 1;
    if found then
        perform vcs._refuse(
            'IJ404', 'code_import_held_ref',
            format('code import %s has no held ref %L', p_code_import_id, left(v_ref, 100)),
            'The relation code_import_held_ref lists them.'
        );
    end if;
end;
$$;
