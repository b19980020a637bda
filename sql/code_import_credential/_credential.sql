-- What the credential functions share: what one may be, locking it, and writing it down.

-- Why something cannot be a credential; null when it can.
create or replace function vcs._credential_refusal(
    p_username          text,
    p_secret            bytea,
    p_key_name          text,
    p_allow_unencrypted boolean,
    p_date_expires      timestamptz
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_username is null then 'username is null, and a value is needed'
        when not vcs._is_name(p_username) then format('username %L is not a name', left(p_username, 40))
        when position(':' in p_username) > 0 then 'username has a colon in it, and no server could tell where it ends'
        when p_secret is null then 'secret is null, and a value is needed'
        when octet_length(p_secret) not between 1 and 16384 then 'secret has to have 1 to 16,384 bytes'
        when p_key_name is null then 'key_name is null, and a value is needed'
        when not vcs._is_name(p_key_name) then format('key_name %L is not a name', left(p_key_name, 40))
        when p_allow_unencrypted is null then 'allow_unencrypted is null, and a value is needed'
        when not isfinite(p_date_expires) then 'date_expires is infinite; null is for never'
        when p_date_expires <= now() then 'date_expires is past'
    end;
end;
$$;

-- Why a host cannot be one that a credential is bound to; null when it can.
create or replace function vcs._credential_host_refusal(p_host text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_host is null then 'host is null, and a value is needed'
        when length(p_host) > 260
            or p_host !~ '^([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|[[][0-9a-f:.]+])(:[1-9][0-9]{0,4})?$'
            or substring(p_host from ':([0-9]{1,5})$')::integer > 65535
            then format('host %L is not a host or host:port, in lower case', left(p_host, 40))
    end;
end;
$$;

-- Why a host's credential is of no use to an import, whose row the caller has locked; null when it is.
create or replace function vcs._credential_use_refusal(
    p_code_import_id    bigint,
    p_host              text,
    p_allow_unencrypted boolean
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source record;
begin
    select source.* into v_source
    from vcs._code_import as import
    cross join lateral vcs._source_places(import.url, import.cvs_root) as source
    where import.id = p_code_import_id;
    return case
        when p_host = any (v_source.places) is not true
            then format('code import %s has no use for a credential of the host %s', p_code_import_id, p_host)
        when not v_source.is_encrypted and not p_allow_unencrypted
            then format('the source of code import %s is not encrypted, and the credential is not for such', p_code_import_id)
    end;
end;
$$;

-- Lock a credential, and before it the import whose events it makes, and return it.
create or replace function vcs._lock_credential(p_credential_id bigint)
returns vcs._code_import_credential
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_credential vcs._code_import_credential;
begin
    if p_credential_id is null then
        perform vcs._refuse_null('code_import_credential', 'credential_id');
    end if;
    perform from vcs._code_import_schedule as schedule
    where schedule.code_import_id = (
        select credential.code_import_id
        from vcs._code_import_credential as credential
        where credential.id = p_credential_id
    )
    for no key update;

    select credential.* into v_credential
    from vcs._code_import_credential as credential
    where credential.id = p_credential_id
    for update;
    if not found then
        perform vcs._refuse(
            'IJ404', 'code_import_credential', format('credential %s does not exist', p_credential_id)
        );
    end if;
    return v_credential;
end;
$$;

create or replace function vcs._credential(p_credential_id bigint)
returns vcs.code_import_credential
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select credential from vcs.code_import_credential as credential
        where credential.id = p_credential_id
    );
end;
$$;

-- Record what became of a credential: all that may be seen of it, now and before. That of an import
-- is a part of the import, whose create and delete events are about the whole of it.
create or replace function vcs._record_credential(
    p_old    vcs.code_import_credential,
    p_new    vcs.code_import_credential,
    p_person text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
    v_code_import_id bigint := coalesce(p_new.code_import_id, p_old.code_import_id);
begin
    perform vcs._record_event(
        case
            when v_code_import_id is not null then 'modify'
            when p_old.id is null then 'create'
            when p_new.id is null then 'delete'
            else 'modify'
        end,
        v_code_import_id,
        p_person => p_person,
        p_data => jsonb_build_object(
            'credential', case when p_new.id is not null then to_jsonb(p_new) end,
            'old_credential', case when p_old.id is not null then to_jsonb(p_old) end
        )
    );
end;
$$;
