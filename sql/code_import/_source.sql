-- Sources: what a url or a CVS root may be, and when two of them are the same.

-- The parts of a url; all null when it is none. "user@host:path" reads as ssh, a path as file.
create or replace function vcs._split_url(
    p_url text,
    out scheme text,
    out userinfo text,
    out host text,
    out port text,
    out path text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_url       text := p_url;
    v_rest      text;
    v_authority text;
    v_at        text;
begin
    if p_url ~ '^/' then
        v_url := 'file://' || p_url;
    elsif p_url ~ '^[^@/:]+@[^][@/:]+:' then
        v_url := 'ssh://' || regexp_replace(p_url, ':/*', '/');
    elsif p_url !~ '^[A-Za-z][A-Za-z0-9+.-]*://' then
        return;
    end if;
    -- Small patterns in place of one with groups: those cost thirty times as much.
    v_rest := substring(v_url from position('://' in v_url) + 3);
    v_authority := substring(v_rest from '^[^/?#]*');
    v_at := substring(v_authority from '^.*@');

    -- Lower case as in ASCII first: to a Turkish database "I" is no capital of "i".
    scheme := lower(left(v_url, position('://' in v_url) - 1) collate "C");
    userinfo := left(v_at, -1);
    host := substring(v_authority from coalesce(length(v_at), 0) + 1);
    port := substring(host from ':[^]:]*$');
    host := lower(left(host, length(host) - coalesce(length(port), 0)) collate "C");
    host := lower(host collate "default");
    port := substring(port from 2);
    path := substring(v_rest from length(v_authority) + 1);
end;
$$;

-- Two spellings of one url have one normal form. The user counts, and so does ".git".
create or replace function vcs._normal_url(p_url text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_part record := vcs._split_url(p_url);
begin
    return v_part.scheme || '://'
        || coalesce(nullif(v_part.userinfo, '') || '@', '')
        || v_part.host
        || coalesce(
            ':' || nullif(nullif(ltrim(v_part.port, '0'), ''), vcs._default_port(v_part.scheme)),
            ''
        )
        || rtrim(v_part.path, '/');
end;
$$;

-- The port of a scheme that needs not be named; empty when there is none.
create or replace function vcs._default_port(p_scheme text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case p_scheme
        when 'http' then '80'
        when 'https' then '443'
        when 'ftp' then '21'
        when 'git' then '9418'
        when 'ssh' then '22'
        when 'svn' then '3690'
        when 'svn+ssh' then '22'
        when 'bzr' then '4155'
        when 'bzr+ssh' then '22'
        when 'pserver' then '2401'
        else ''
    end;
end;
$$;

-- What a source's host is called in a credential, the narrowest first: with its port, and without
-- it if it is the scheme's own. Null for what takes no password. A CVS root counts as a url.
create or replace function vcs._source_places(
    p_url      text,
    p_cvs_root text,
    out places       text[],
    out is_encrypted boolean
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_part record := vcs._split_url(coalesce(
        p_url,
        'pserver://' || regexp_replace(substring(p_cvs_root from '^:pserver:(.*)$'), ':?/', '/')
    ));
    v_port text := coalesce(
        nullif(ltrim(v_part.port, '0'), ''), vcs._default_port(v_part.scheme)
    );
begin
    is_encrypted := v_part.scheme = 'https';
    if v_part.scheme in ('https', 'http', 'ftp', 'svn', 'pserver') then
        places := array[v_part.host || ':' || v_port];
        if v_port = vcs._default_port(v_part.scheme) then
            places := places || v_part.host;
        end if;
    end if;
end;
$$;

-- Why a url cannot be a source; null when it can.
create or replace function vcs._url_refusal(p_url text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_part record;
begin
    if length(p_url) > 2000 then
        return 'url has more than 2,000 characters';
    elsif p_url ~ '[[:cntrl:][:space:]]' then
        return 'url has a space or a control character in it';
    elsif p_url ~ '^-' then
        return 'url starts with a hyphen';
    end if;
    v_part := vcs._split_url(p_url);
    return case
        when v_part.scheme is null then 'url is not one: it needs a scheme, such as https://'
        when v_part.scheme not in (
            'http', 'https', 'ftp', 'git', 'ssh', 'svn', 'svn+ssh', 'bzr', 'bzr+ssh', 'file'
        ) then format('url has the scheme %s, from which nothing is imported', left(v_part.scheme, 40))
        when v_part.userinfo like '%:%' then 'url has a password in it'
        when v_part.userinfo like '-%' or v_part.host like '-%' then 'url has a host or user that starts with a hyphen'
        when v_part.scheme <> 'file' and v_part.host = '' then 'url has no host'
        when v_part.host !~ '^([[][0-9A-Fa-f:.]+]|[^]:[]*)$' then 'url has a host that is none'
        when v_part.scheme = 'file' and v_part.path !~ '^/.*[^/]' then 'url has no path'
        when v_part.port !~ '^[0-9]{0,6}$' or nullif(v_part.port, '')::integer not between 1 and 65535
            then 'url has a port that is none'
    end;
end;
$$;

-- Why a CVS root or module cannot be a source; null when it can.
create or replace function vcs._cvs_refusal(p_name text, p_value text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_value = '' then p_name || ' is empty'
        when length(p_value) > 2000 then p_name || ' has more than 2,000 characters'
        when p_value ~ '[[:cntrl:][:space:]]' then p_name || ' has a space or a control character in it'
        when p_value ~ '^-' then p_name || ' starts with a hyphen'
        -- What stands between the method and the first "@" is user[:password], unless it is host:/path.
        when p_name = 'cvs_root' and regexp_replace(p_value, '^:[^:]*:', '') ~ '^[^@:]*:([^@/][^@]*)?@'
            then 'cvs_root has a password in it'
        when p_name = 'cvs_root' and p_value ~* '^:[^:]*;password=' then 'cvs_root has a password in it'
    end;
end;
$$;

-- Why source details do not fit their type; null when they do.
create or replace function vcs._source_refusal(
    p_rcs_type   text,
    p_url        text,
    p_cvs_root   text,
    p_cvs_module text
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_rcs_type is null then
        return 'rcs_type is null, and a value is needed';
    elsif p_rcs_type not in ('git', 'svn', 'hg', 'cvs', 'bzr') then
        return format('rcs_type is %L, and has to be one of git, svn, hg, cvs, bzr', left(p_rcs_type, 40));
    elsif p_rcs_type = 'cvs' then
        if p_url is not null or num_nulls(p_cvs_root, p_cvs_module) > 0 then
            return 'a cvs import has a cvs_root and a cvs_module, and no url';
        end if;
        return coalesce(
            vcs._cvs_refusal('cvs_root', p_cvs_root),
            vcs._cvs_refusal('cvs_module', p_cvs_module)
        );
    elsif p_url is null or num_nonnulls(p_cvs_root, p_cvs_module) > 0 then
        return format('a %s import has a url, and neither cvs_root nor cvs_module', p_rcs_type);
    else
        return vcs._url_refusal(p_url);
    end if;
end;
$$;

-- Short, and of one length for every source, so that any of them can be unique.
create or replace function vcs._source_hash(p_url text, p_cvs_root text, p_cvs_module text)
returns bytea
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return sha256(convert_to(
        coalesce(vcs._normal_url(p_url), 'cvs ' || p_cvs_root || ' ' || p_cvs_module),
        'UTF8'
    ));
end;
$$;
