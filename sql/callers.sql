-- Who is calling. session_user, because inside these functions current_user is their owner.

create or replace function vcs._is_operator()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_has_role(session_user, 'code_import_operator', 'member')
        or pg_has_role(session_user, 'code_import_owner', 'member');
end;
$$;

-- May the caller act as a machine that belongs to this role? Null belongs to nobody yet.
create or replace function vcs._may_act_for(p_owner_role text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_owner_role is null or p_owner_role = session_user or vcs._is_operator();
end;
$$;
