-- A new password, or an old one sealed with a new key. What a credential is bound to stays.

create or replace function vcs.code_import_credential_replace(
    p_credential_id     bigint,
    p_username          text,
    p_secret            bytea,
    p_key_name          text,
    p_person            text,
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
    v_old     vcs.code_import_credential;
    v_refusal text := vcs._credential_refusal(
        p_username, p_secret, p_key_name, p_allow_unencrypted, p_date_expires
    );
begin
    perform vcs._check_person('code_import_credential', p_person);
    if v_refusal is not null then
        perform vcs._refuse_value('code_import_credential', v_refusal);
    end if;
    perform vcs._lock_credential(p_credential_id);
    v_old := vcs._credential(p_credential_id);

    update vcs._code_import_credential as credential
    set username = p_username,
        secret = p_secret,
        key_name = p_key_name,
        allow_unencrypted = p_allow_unencrypted,
        date_expires = p_date_expires
    where credential.id = p_credential_id;
    perform vcs._record_credential(v_old, vcs._credential(p_credential_id), p_person);
    return vcs._credential(p_credential_id);
end;
$$;

comment on function vcs.code_import_credential_replace(bigint, text, bytea, text, text, boolean, timestamptz) is
$$Replace all of a credential but its host and its import, and return it.

The secret is sealed by the caller, with the key of that name.
event   modify
error   IJ400 a username, date or name that cannot be, or null
error   IJ404 no such credential$$;
