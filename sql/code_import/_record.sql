-- An import as a record: what it may hold, and how JSON shows it.

-- Why a target cannot be one; null when it can. It becomes a path: no part may climb,
-- hide, look like an option, or be taken for a repository or a lock.
create or replace function vcs._target_refusal(p_target text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_target is null then 'target is null, and a value is needed'
        when length(p_target) > 200 then 'target has more than 200 characters'
        when p_target !~ '^[A-Za-z0-9_+][A-Za-z0-9._+-]*(/[A-Za-z0-9_+][A-Za-z0-9._+-]*)*$'
            then format('target %L is not a path of parts made of letters, digits and "._+-", none starting with "." or "-"', left(p_target, 40))
        when p_target ~ '[.](git|lock)(/|$)'
            then format('target %L has a part that ends in .git or .lock', left(p_target, 40))
    end;
end;
$$;

-- Why an import cannot be as described; null when it can.
create or replace function vcs._import_refusal(
    p_owner           text,
    p_assignee        text,
    p_target          text,
    p_rcs_type        text,
    p_url             text,
    p_cvs_root        text,
    p_cvs_module      text,
    p_review_status   text,
    p_update_interval interval
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        vcs._target_refusal(p_target),
        vcs._source_refusal(p_rcs_type, p_url, p_cvs_root, p_cvs_module),
        case
            when p_owner is null then 'owner is null, and a value is needed'
            when not vcs._is_name(p_owner) then format('owner %L is not a name', left(p_owner, 40))
            when not vcs._is_name(p_assignee) then format('assignee %L is not a name', left(p_assignee, 40))
            when p_review_status is null then 'review_status is null, and a value is needed'
            when p_review_status not in ('new', 'invalid', 'reviewed', 'suspended', 'failing')
                then format('review_status is %L, and has to be one of new, invalid, reviewed, suspended, failing', left(p_review_status, 40))
            when not vcs._is_update_interval(p_update_interval)
                then 'update_interval has to be more than nothing and at most 10 years'
        end
    );
end;
$$;

-- The whole record. Times in UTC and intervals as ISO 8601, whatever the caller's settings.
create or replace function vcs._import_json(p_import vcs.code_import)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'iso_8601'
as $$
begin
    return to_jsonb(p_import);
end;
$$;

-- Who has this target or source already; raises 23505 with the name of the constraint.
create or replace function vcs._refuse_taken(p_target text, p_source_hash bytea, p_code_import_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_taken record;
begin
    select taken.* into v_taken from vcs._taken(p_target, p_source_hash, p_code_import_id) as taken;
    perform vcs._refuse(
        '23505', 'code_import', v_taken.message,
        p_detail => v_taken.detail, p_constraint => v_taken.constraint_name
    );
end;
$$;

create or replace function vcs._taken(
    p_target         text,
    p_source_hash    bytea,
    p_code_import_id bigint,
    out message text,
    out detail text,
    out constraint_name text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_other vcs._code_import;
begin
    select import.* into v_other
    from vcs._code_import as import
    where (import.target = p_target or import.source_hash = p_source_hash)
      and import.id is distinct from p_code_import_id
    order by import.target <> p_target, import.id
    limit 1;

    if v_other.target is distinct from p_target then
        message := 'the source is imported already';
        constraint_name := 'code_import_source_is_imported_once';
    else
        message := format('the target %s is mirrored already', p_target);
        constraint_name := 'code_import_target_is_mirrored_once';
    end if;
    detail := case
        when v_other.id is null then 'By an import that this transaction cannot see.'
        else format('By code import %s, target %s.', v_other.id, v_other.target)
    end;
end;
$$;
