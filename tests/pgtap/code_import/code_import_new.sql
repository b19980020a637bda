begin;
select plan(215);

-- --- What is made ------------------------------------------------------------------------------

select mark();
select let('import', id) from vcs.code_import_new('ada', 'project/repo', 'git',
    'https://example.org/repo');
select results_eq(
    $$ select date_created, registrant, owner, assignee, target, rcs_type, url, cvs_root,
       cvs_module,
              review_status, update_interval, effective_update_interval, date_last_successful,
              consecutive_failure_count
       from vcs.code_import where id = the('import') $$,
    $$ values (now(), 'ada'::text, 'ada'::text, null::text, 'project/repo'::text, 'git'::text,
               'https://example.org/repo'::text, null::text, null::text, 'reviewed'::text,
               null::interval, interval '6 h', null::timestamptz, 0) $$,
    'an import belongs to its registrant, is reviewed, and runs at the interval of its type'
);
select results_eq(
    $$ select state, date_due, requesting_user, ordering, machine_id from vcs.code_import_job
       where code_import_id = the('import') $$,
    $$ values ('pending'::text, now(), null::text, null::integer, null::bigint) $$,
    'it has a job that is due now'
);
select results_eq(
    'select event_type, code_import_id, machine_id, person from happened()',
    $$ values ('create'::text, the('import'), null::bigint, 'ada'::text) $$,
    'one event create names it and its registrant'
);
set local timezone = 'Asia/Kathmandu';
set local intervalstyle = 'sql_standard';
set local datestyle = 'German';
select let('rich', id) from vcs.code_import_new(
    'ada', 'project/rich', 'git', 'https://example.org/rich', p_review_status => 'new',
    p_owner => 'bob', p_update_interval => '1 day 2 h');
select mark();
select vcs.code_import_update(the('rich'), '{"assignee": "carol"}');
reset timezone;
reset intervalstyle;
reset datestyle;
select results_eq(
    $$ select data - 'date_created' from vcs.code_import_event
       where event_type = 'create' and code_import_id = the('rich') $$,
    $$ select jsonb_build_object(
           'id', the('rich'), 'registrant', 'ada', 'owner', 'bob', 'assignee', null,
           'target', 'project/rich', 'rcs_type', 'git', 'url', 'https://example.org/rich',
           'cvs_root', null, 'cvs_module', null, 'review_status', 'new', 'update_interval',
           'P1DT2H',
           'effective_update_interval', 'P1DT2H', 'date_last_successful', null,
           'consecutive_failure_count', 0) $$,
    'its data is the whole record, intervals as ISO 8601 whatever the caller''s settings'
);
select matches(
    data ->> 'date_created', '^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(\+00:00|Z)$',
    'and times in UTC'
)
from vcs.code_import_event where event_type = 'create' and code_import_id = the('rich');

-- --- Status, type, interval --------------------------------------------------------------------

select is(
    job_of(an_import(status)) is not null, status = 'reviewed',
    format('an import that is %s has %s job', status,
        case status when 'reviewed' then 'a' else 'no' end)
)
from unnest(array['new', 'invalid', 'reviewed', 'suspended', 'failing']) as given (status);
select let(type, an_import(p_rcs_type => type)) from unnest(array['git', 'svn', 'hg', 'bzr',
    'cvs']) as given (type);
select is(
    effective_update_interval, case type when 'cvs' then interval '12 h' else interval '6 h' end,
    format('the interval of %s is %s', type, effective_update_interval)
)
from unnest(array['git', 'svn', 'hg', 'bzr', 'cvs']) as given (type)
join vcs.code_import on id = the(type);
select lives_ok(
    format($$ select an_import(p_update_interval => %L) $$, good),
    format('an interval of %s is one', good)
)
from unnest(array['1 microsecond', '1 s', '10 years', '3653 days']) as given (good);

-- --- Sources -----------------------------------------------------------------------------------

-- Is this a url of a git import? "ok", or the SQLSTATE and the constraint.
create function pg_temp.told(p_url text,
    p_type text default 'git') returns text language plpgsql as $$
declare
    v_constraint text;
begin
    perform vcs.code_import_new('ada', 'told/x' || nextval('tap.serial'), p_type, p_url);
    return 'ok';
exception when others then
    get stacked diagnostics v_constraint = constraint_name;
    return trim(sqlstate || ' ' || v_constraint);
end;
$$;

select is(pg_temp.told(url), 'ok', format('%s is a source', url))
from unnest(array[
    'http://example.org/a', 'https://example.org/b', 'ftp://example.org/c', 'git://example.org/d',
    'ssh://git@example.org/e', 'svn://example.org/f', 'svn+ssh://example.org/g',
    'bzr://example.org/h', 'bzr+ssh://example.org/i', 'file:///srv/j', '/srv/k',
    'git@example.org:l/m', 'HTTPS://EXAMPLE.ORG/n', 'https://example.org:8443/o',
    'https://bob@example.org/p', 'https://[2001:db8::1]:8443/q', 'https://example.org/r?x=y:z@w',
    'https://example.org/%C3%A9', 'https://example.org/é', 'https://example.org',
    'https://example.org/' || repeat('x', 1980)
]) as given (url);

select is(pg_temp.told(url), 'IJ400', format('%s is no source', why))
from (values
    (null, 'null'), ('', 'nothing'), ('example.org/a', 'a url without a scheme'),
    ('repo', 'a word'), ('./repo', 'a relative path'), ('../repo', 'a path that climbs'),
    ('https://', 'a scheme'), ('https:///a', 'a url without a host'),
    ('file://', 'a file without a path'),
    ('file:///', 'the root of all files'), ('/', 'the root directory'),
    ('rsync://example.org/a', 'rsync'), ('javascript://example.org/a', 'a script'),
    ('ext::sh -c true', 'a remote helper'), ('ext::sh', 'a remote helper in one word'),
    ('fd::3', 'a file descriptor'), ('gopher://example.org/a', 'gopher'),
    ('data:text/plain,a', 'data'),
    ('https://bob:secret@example.org/a', 'a url with a password'),
    ('https://bob:@example.org/a', 'a url with an empty password'),
    ('https://:secret@example.org/a', 'a url with only a password'),
    ('ssh://bob:secret@example.org/a', 'an ssh url with a password'),
    ('bob:secret@example.org:a', 'an scp address with a password'),
    ('-oProxyCommand=true', 'an option'), ('--upload-pack=true', 'a long option'),
    ('ssh://-oProxyCommand=true/a', 'a host that is an option'),
    ('ssh://-oProxyCommand=true@example.org/a', 'a user that is an option'),
    ('-git@example.org:a', 'an scp address that is an option'),
    ('git@-oProxyCommand=true:a', 'an scp host that is an option'),
    ('https://example.org/a b', 'a space'), (' https://example.org/a', 'a space before'),
    ('https://example.org/a ', 'a space after'), (E'https://example.org/a\tb', 'a tab'),
    (E'https://example.org/a\nb', 'a new line'), (E'https://example.org/a\rb', 'a carriage return'),
    (E'https://example.org/a\u007fb', 'a delete character'),
    (E'https://example.org/\u0001', 'a control character'),
    ('https://example.org:port/a', 'a port that is no number'),
    ('https://example.org:0/a', 'port 0'),
    ('https://example.org:65536/a', 'port 65536'), ('https://example.org:99999999999/a',
        'a huge port'),
    ('https://example.org/' || repeat('x', 1981), 'a url of 2,001 characters')
) as given (url, why);

-- One source is imported once: what is the same
create temporary table same (a text, b text, why text);
insert into same values
    ('https://same.org/1', 'https://same.org/1', 'the same text'),
    ('https://same.org/2', 'HTTPS://SAME.ORG/2', 'scheme and host in any case'),
    ('https://same.org/3', 'https://same.org/3/', 'a trailing slash'),
    ('https://same.org/4', 'https://same.org/4///', 'trailing slashes'),
    ('https://same.org/5', 'https://same.org:443/5', 'the default port of https'),
    ('http://same.org/6', 'http://same.org:80/6', 'the default port of http'),
    ('ssh://same.org/7', 'ssh://same.org:22/7', 'the default port of ssh'),
    ('git://same.org/8', 'git://same.org:9418/8', 'the default port of git'),
    ('svn://same.org/9', 'svn://same.org:3690/9', 'the default port of svn'),
    ('ftp://same.org/10', 'ftp://same.org:21/10', 'the default port of ftp'),
    ('bzr://same.org/11', 'bzr://same.org:4155/11', 'the default port of bzr'),
    ('https://same.org/12', 'https://same.org:/12', 'an empty port'),
    ('git@same.org:13/a', 'ssh://git@same.org/13/a', 'the scp form'),
    ('git@same.org:/14/a', 'ssh://git@same.org/14/a', 'the scp form with a slash'),
    ('git@SAME.org:15/a/', 'git@same.org:15/a', 'the scp form in any case, with a slash'),
    ('/same/16', 'file:///same/16', 'a path'),
    ('/same/17/', '/same/17', 'a path with a trailing slash');
select is(pg_temp.told(a), 'ok', format('%s is new', a)) from same;
select is(
    pg_temp.told(b), '23505 code_import_source_is_imported_once', format('%s is not: %s', b, why)
)
from same;
select is(
    pg_temp.told('https://same.org/1', type), '23505 code_import_source_is_imported_once',
    format('a url is imported once across all types: not as %s', type)
)
from unnest(array['svn', 'hg', 'bzr']) as given (type);

-- and what is not
select is(pg_temp.told(b), 'ok', format('%s is another source than %s: %s', b, a, why))
from (values
    ('https://same.org/1', 'http://same.org/1', 'the scheme counts'),
    ('https://same.org/1', 'https://bob@same.org/1', 'the user counts'),
    ('https://bob@same.org/1', 'https://Bob@same.org/1', 'the user counts, in its case'),
    ('https://same.org/1', 'https://same.org/1.git', 'a .git ending counts'),
    ('https://same.org/a', 'https://same.org/A', 'the case of a path counts'),
    ('https://same.org/1', 'https://same.org:444/1', 'a port counts'),
    ('https://same.org/1', 'https://same.org:80/1', 'a default port of another scheme counts'),
    ('https://same.org/1', 'https://same.org/1?x', 'a query counts')
) as given (a, b, why);
select is(
    (select url from vcs.code_import where url ilike 'ssh://git@same.org/13/a%'
        or url = 'git@same.org:13/a'),
    'git@same.org:13/a',
    'a url is stored as given'
);

-- cvs
create function pg_temp.told_cvs(p_root text, p_module text, p_url text default null)
returns text language plpgsql as $$
declare
    v_constraint text;
begin
    perform vcs.code_import_new('ada', 'told/x' || nextval('tap.serial'), 'cvs', p_url, p_root,
        p_module);
    return 'ok';
exception when others then
    get stacked diagnostics v_constraint = constraint_name;
    return trim(sqlstate || ' ' || v_constraint);
end;
$$;
select is(pg_temp.told_cvs(root, module), 'ok', format('%s %s is a source', root, module))
from (values
    (':pserver:anonymous@example.org:/cvs', 'a'), (':pserver:anonymous@example.org:/cvs', 'b'),
    (':pserver:bob@example.org:2401/cvs', 'a'), (':ext:bob@example.org:/cvs', 'a'),
    ('bob@example.org:/cvs', 'a'), ('example.org:/cvs', 'a/b'), ('/srv/cvs', 'a'),
    (':local:/srv/cvs', 'a')
) as given (root, module);
select is(pg_temp.told_cvs(root, module, url), 'IJ400', format('no source: %s', why))
from (values
    (':pserver:bob:secret@example.org:/cvs', 'a', null, 'a root with a password'),
    (':pserver:bob:@example.org:/cvs', 'a', null, 'a root with an empty password'),
    ('bob:secret@example.org:/cvs', 'a', null, 'a root with a password and no method'),
    (':pserver;username=bob;Password=secret:example.org:/cvs', 'a', null,
        'a root with a password among the options of its method'),
    (null, 'a', null, 'no root'), ('/srv/cvs', null, null, 'no module'),
    (null, null, null, 'neither'),
    ('', 'a', null, 'an empty root'), ('/srv/cvs', '', null, 'an empty module'),
    ('/srv/cvs', 'a', 'https://example.org/z', 'a url besides'),
    (null, null, 'https://example.org/z', 'a url instead'),
    ('-d', 'a', null, 'a root that is an option'), ('/srv/cvs', '-d', null,
        'a module that is an option'),
    ('/srv/c vs', 'a', null, 'a root with a space'), ('/srv/cvs', E'a\nb', null,
        'a module of two lines'),
    ('/' || repeat('x', 2000), 'a', null, 'a root of 2,001 characters'),
    ('/srv/cvs', repeat('x', 2001), null, 'a module of 2,001 characters')
) as given (root, module, url, why);
select is(
    pg_temp.told_cvs(':pserver:anonymous@example.org:/cvs', 'a'),
    '23505 code_import_source_is_imported_once', 'a root and module are imported once'
);
select refused(
    $$ select vcs.code_import_new('ada', 'x/y', 'git', 'https://example.org/y', '/srv/cvs', 'y') $$,
    'IJ400', 'code_import', 'a git import has no cvs_root and cvs_module'
);

-- --- Targets -----------------------------------------------------------------------------------

create function pg_temp.target(p_target text) returns text language plpgsql as $$
declare
    v_constraint text;
begin
    perform vcs.code_import_new(
        'ada', p_target, 'git', 'https://target.org/' || nextval('tap.serial'));
    return 'ok';
exception when others then
    get stacked diagnostics v_constraint = constraint_name;
    return trim(sqlstate || ' ' || v_constraint);
end;
$$;
select is(pg_temp.target(target), 'ok', format('%s is a target', left(target, 20)))
from unnest(array[
    'a', 'A', '0', '_a', '+a', 'a.b', 'a..b', 'a-b', 'a/b', 'a/b/c/d/e', 'gtk+/gtk+3.0', 'a.',
    'a.gitx', 'git', 'lock',
    repeat('x', 200)
]) as given (target);
select is(pg_temp.target(target), 'IJ400', format('no target: %s', why))
from (values
    (null, 'null'), ('', 'nothing'), ('/a', 'an absolute path'), ('a/', 'a trailing slash'),
    ('a//b', 'an empty part'),
    ('.', 'a dot'), ('..', 'two dots'), ('../a', 'a path that climbs'),
    ('a/../b', 'a path that climbs within'),
    ('.a', 'a hidden part'), ('a/.b', 'a hidden part within'), ('-a', 'an option'),
    ('a/-b', 'an option within'),
    ('a.git', 'a .git ending'), ('a.git/b', 'a .git ending within'), ('a.lock', 'a .lock ending'),
    ('a/b.lock/c', 'a .lock ending within'),
    ('a b', 'a space'), ('a\b', 'a backslash'), ('a:b', 'a colon'), ('a@b', 'an at sign'),
    ('a~b', 'a tilde'), ('ä', 'an umlaut'),
    (E'a\n', 'a new line at the end'), (E'a\nb', 'two lines'), (repeat('x', 201), '201 characters')
) as given (target, why);
select is(
    pg_temp.target('a/b'), '23505 code_import_target_is_mirrored_once', 'a target is mirrored once'
);

-- --- Refusals ----------------------------------------------------------------------------------

create function pg_temp.detail_of(p_sql text) returns text language plpgsql as $$
declare
    v_detail text;
begin
    execute p_sql;
    return null;
exception when others then
    get stacked diagnostics v_detail = pg_exception_detail;
    return v_detail;
end;
$$;
select refused(sql, '23505', 'code_import', format('the %s is there already', what))
    || E'\n' || matches(pg_temp.detail_of(sql), '\m' || the('import') || '\M',
        format('DETAIL names the import that has the %s', what))
from (values
    ('target', $$ select vcs.code_import_new('eve', 'project/repo', 'git',
        'https://example.org/eve') $$),
    ('source', $$ select vcs.code_import_new('eve', 'project/eve', 'git',
        'https://example.org/repo') $$)
) as given (what, sql);
select refused(
    format($$ select vcs.code_import_new(%s) $$, arguments), 'IJ400', 'code_import',
        format('refused: %s', why)
)
from (values
    ($a$ null, 'x/y', 'git', 'https://example.org/y' $a$, 'no registrant'),
    ($a$ '', 'x/y', 'git', 'https://example.org/y' $a$, 'an empty registrant'),
    ($a$ 'ada', 'x/y', 'tla', 'https://example.org/y' $a$, 'an unknown type'),
    ($a$ 'ada', 'x/y', null, 'https://example.org/y' $a$, 'no type'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_review_status => 'done' $a$,
        'an unknown status'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_review_status => null $a$, 'no status'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_owner => '' $a$, 'an empty owner'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_update_interval => '0' $a$,
        'an interval of nothing'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_update_interval => '-1 s' $a$,
        'a negative interval'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_update_interval => '10 years 1 s' $a$,
        'an interval of more than 10 years'),
    ($a$ 'ada', 'x/y', 'git', 'https://example.org/y', p_update_interval => '178000000 years' $a$,
        'an interval longer than any date')
) as given (arguments, why);

select callable_by(
    'vcs.code_import_new(text, text, text, text, text, text, text, text, interval)',
    array['operator'],
    'operators may register imports'
);
select rules_hold();
select * from finish();
rollback;
