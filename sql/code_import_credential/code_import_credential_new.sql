-- Store a login for a host, or for one import from it. What is secret comes sealed: the database
-- cannot read it, and so nor can a backup or whoever takes the database over.

create or replace function vcs.code_import_credential_new(
    p_host              text,
    p_username          text,
    p_secret            bytea,
    p_key_name          text,
    p_person            text,
    p_code_import_id    bigint      default null,
    p_allow_unencrypted boolean     default false,
    p_date_expires      timestamptz default null
)
returns vcs.code_import_credential
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_refusal text := coalesce(
        vcs._credential_host_refusal(p_host),
        vcs._credential_refusal(p_username, p_secret, p_key_name, p_allow_unencrypted, p_date_expires)
    );
    v_id      bigint;
begin
    perform vcs._check_person('code_import_credential', p_person);
    if p_code_import_id is not null then
        perform vcs._lock_import(p_code_import_id);
        v_refusal := coalesce(
            v_refusal, vcs._credential_use_refusal(p_code_import_id, p_host, p_allow_unencrypted)
        );
    end if;
    if v_refusal is not null then
        perform vcs._refuse_value('code_import_credential', v_refusal);
    end if;

    insert into vcs._code_import_credential as credential (
        date_created, code_import_id, host, username, secret, key_name, allow_unencrypted, date_expires
    )
    values (
        now(), p_code_import_id, p_host, p_username, p_secret, p_key_name, p_allow_unencrypted,
        p_date_expires
    )
    on conflict do nothing
    returning credential.id into v_id;
    if not found then
        perform vcs._refuse_second_credential(p_host, p_code_import_id);
    end if;
    perform vcs._record_credential(null, vcs._credential(v_id), p_person);
    return vcs._credential(v_id);
end;
$$;

create or replace function vcs._refuse_second_credential(p_host text, p_code_import_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform vcs._refuse(
        '23505', 'code_import_credential',
        case
            when p_code_import_id is null then format('the host %s has a credential already', p_host)
            else format('code import %s has a credential already', p_code_import_id)
        end,
        p_detail => coalesce(
            (
                select format('It is credential %s.', credential.id)
                from vcs._code_import_credential as credential
                where credential.code_import_id = p_code_import_id
                   or (p_code_import_id is null and credential.code_import_id is null
                       and credential.host = p_host)
            ),
            'It is one that this transaction cannot see.'
        ),
        p_constraint => 'code_import_credential_is_the_only_one_of_its_'
            || case when p_code_import_id is null then 'host' else 'import' end
    );
end;
$$;

comment on function vcs.code_import_credential_new(text, text, bytea, text, text, bigint, boolean, timestamptz) is
$$Store a login for a host, or for one import from it, and return it.

The secret is sealed by the caller, with the key of that name. An import's own comes before its host's.
event   create; modify of the import, if it is for one
error   IJ400 a host, username, date or name that cannot be, or null; a host that the import is not from
error   IJ404 no such import
error   23505 the host or the import has one already; DETAIL names it$$;
