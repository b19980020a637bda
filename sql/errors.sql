-- Errors a caller can act on. Class IJ ("import job") lies in the range that the SQL
-- standard leaves to applications; the digits follow HTTP so that they need no look-up.
--
--   IJ400  bad value          source details, target, status, limit, setting, null
--   IJ403  not yours          the machine or job belongs to another role
--   IJ404  not found          no such import, machine, log file or credential
--   IJ409  wrong state        not in the state that the call needs
--   IJ410  run gone           no such run: it has ended, or never was
--   IJ423  already running    a request for what is running already
--   IJ429  already requested  DETAIL names the requester
--
-- The TABLE field of every error names the relation meant.

create or replace function vcs._refuse(
    p_errcode    text,
    p_relation   text,
    p_message    text,
    p_hint       text default null,
    p_detail     text default null,
    p_constraint text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_message text := vcs._one_line(p_message);
begin
    -- RAISE takes no null option, and an empty one would print an empty line. What names a
    -- constraint has a detail, and what has a detail otherwise has a hint.
    if p_constraint is not null then
        raise exception using
            errcode = p_errcode, schema = 'vcs', table = p_relation, message = v_message,
            detail = p_detail, constraint = p_constraint;
    elsif p_detail is not null then
        raise exception using
            errcode = p_errcode, schema = 'vcs', table = p_relation, message = v_message,
            detail = p_detail, hint = p_hint;
    elsif p_hint is not null then
        raise exception using
            errcode = p_errcode, schema = 'vcs', table = p_relation, message = v_message,
            hint = p_hint;
    else
        raise exception using
            errcode = p_errcode, schema = 'vcs', table = p_relation, message = v_message;
    end if;
end;
$$;

-- A message may quote what a caller gave. It stays one line, and a log stays readable.
create or replace function vcs._one_line(p_message text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return regexp_replace(p_message, '[[:cntrl:]]', '?', 'g');
end;
$$;

create or replace function vcs._refuse_value(p_relation text, p_message text, p_hint text default null)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse('IJ400', p_relation, p_message, p_hint);
end;
$$;

create or replace function vcs._refuse_null(p_relation text, p_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse_value(p_relation, p_name || ' is null, and a value is needed');
end;
$$;

create or replace function vcs._check_person(p_relation text, p_person text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_person is null then
        perform vcs._refuse_null(p_relation, 'person');
    end if;
    perform vcs._check_optional_person(p_relation, p_person);
end;
$$;

create or replace function vcs._check_optional_person(p_relation text, p_person text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not vcs._is_name(p_person) then
        perform vcs._refuse_value(
            p_relation,
            format('person %L is not a name', left(p_person, 40)),
            'A name has 1 to 200 characters, none of them a control character.'
        );
    end if;
end;
$$;

-- People, owners and assignees are names that the caller gives. Null passes.
create or replace function vcs._is_name(p_name text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- The length first: what is far too long, no pattern can be held against.
    return p_name is null
        or (length(p_name) <= 200 and p_name !~ '[[:cntrl:]]' and p_name ~ '[^[:space:]]');
end;
$$;
