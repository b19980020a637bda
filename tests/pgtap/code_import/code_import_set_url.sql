begin;
select plan(13);

select let('import', an_import());
select run_to(the('import'), 'failure');
select mark();
select results_eq(
    $$ select event_type, code_import_id, person, data ->> 'url', data ? 'old_url',
       data ? 'old_owner'
       from vcs.code_import_set_url(the('import'), 'https://new.example.org/x', 'bob') $$,
    $$ values ('modify'::text, the('import'), 'bob'::text, 'https://new.example.org/x'::text, true,
       false) $$,
    'the url is changed, with an event modify'
);
select results_eq(
    $$ select url, consecutive_failure_count, due_of(id) from vcs.code_import
       where id = the('import') $$,
    $$ values ('https://new.example.org/x'::text, 0, now()) $$,
    'like any change of source: due now, the count afresh'
);
select is_empty(
    $$ select * from vcs.code_import_set_url(the('import'), 'https://new.example.org/x', 'bob') $$,
    'the same url again changes nothing'
);
select is(news(), 'modify', 'and records nothing');

select refused(
    format('select * from vcs.code_import_set_url(%s)', arguments), code, 'code_import',
        format('refused: %s', why)
)
from (values
    ('the(''import''), null, ''bob''', 'IJ400', 'no url'),
    ('the(''import''), ''nonsense'', ''bob''', 'IJ400', 'a url that is none'),
    ('the(''import''), ''https://x.example.org'', null', 'IJ400', 'no person'),
    ('null, ''https://x.example.org'', ''bob''', 'IJ400', 'no import'),
    ('-1, ''https://x.example.org'', ''bob''', 'IJ404', 'an unknown import'),
    ('an_import(p_rcs_type => ''cvs''), ''https://x.example.org'', ''bob''', 'IJ400',
        'a cvs import')
) as given (arguments, code, why);
select an_import();
select refused(
    format('select * from vcs.code_import_set_url(the(''import''), %L, ''bob'')', url), '23505',
        'code_import', 'the url of another import'
)
from vcs.code_import where id <> the('import') limit 1;

select callable_by(
    'vcs.code_import_set_url(bigint, text, text)', array['operator'], 'operators may change a url'
);
select rules_hold();
select * from finish();
rollback;
