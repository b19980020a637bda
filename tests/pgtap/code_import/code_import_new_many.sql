begin;
select plan(15);

select let('there', id) from vcs.code_import_new('ada', 'there', 'git',
    'https://example.org/there');
select mark();
create temporary table many as
select row_number() over () as place, made.* from vcs.code_import_new_many($$ [
    {"target": "z/first", "rcs_type": "git", "url": "https://example.org/1",
        "update_interval": "1 day"},
    {"target": "a/second", "rcs_type": "cvs", "cvs_root": "/srv/cvs", "cvs_module": "m"},
    {"target": "m/third", "rcs_type": "git", "url": "https://example.org/3", "review_status": "new",
        "owner": "bob"},
    {"target": "iso", "rcs_type": "git", "url": "https://example.org/iso",
        "update_interval": "PT90M"},
    {"target": "there", "rcs_type": "git", "url": "https://example.org/4"},
    {"target": "other", "rcs_type": "svn", "url": "https://EXAMPLE.org/there/"},
    {"target": "z/first", "rcs_type": "git", "url": "https://example.org/5"},
    {"target": "a/twice", "rcs_type": "git", "url": "https://example.org:443/1"},
    {"target": "../up", "rcs_type": "git", "url": "https://example.org/6"},
    {"target": "password", "rcs_type": "git", "url": "https://a:b@example.org/7"},
    {"target": "typo", "rcs_type": "git", "urll": "https://example.org/8"},
    {"target": "long", "rcs_type": "git", "url": "https://example.org/9",
        "update_interval": "often"},
    {"target": "number", "rcs_type": "git", "url": 7},
    17
] $$, 'ada') as made;

select results_eq(
    'select place, target, error_code, code_import_id is not null from many order by place',
    $$ values (1::bigint, 'z/first'::text, null::text, true), (2, 'a/second', null, true),
              (3, 'm/third', null, true), (4, 'iso', null, true),
              (5, 'there', '23505', false), (6, 'other', '23505', false),
              (7, 'z/first', '23505', false), (8, 'a/twice', '23505', false),
              (9, '../up', 'IJ400', false), (10, 'password', 'IJ400', false),
              (11, 'typo', 'IJ400', false), (12, 'long', 'IJ400', false),
              (13, 'number', 'IJ400', false),
              (14, null, 'IJ400', false) $$,
    'a row for each, in the order given; one that is refused does not undo the others'
);
select is_empty(
    $$ select * from many
       where (error_code is null) <> (message is null) or message !~ '^[^A-Z].*[^.]$' $$,
    'what is refused has a message, what is not has none'
);
select results_eq(
    $$ select target, registrant, owner, rcs_type, review_status, update_interval,
       job_of(id) is not null
       from vcs.code_import where id in (select code_import_id from many) order by target $$,
    $$ values ('a/second'::text, 'ada'::text, 'ada'::text, 'cvs'::text, 'reviewed'::text,
       null::interval, true),
              ('iso', 'ada', 'ada', 'git', 'reviewed', '90 minutes', true),
              ('m/third', 'ada', 'bob', 'git', 'new', null, false),
              ('z/first', 'ada', 'ada', 'git', 'reviewed', '1 day', true) $$,
    'each is what a single call would have made, with its job'
);
select results_eq(
    'select event_type, code_import_id, person from happened() order by code_import_id',
    $$ select 'create'::text, code_import_id, 'ada'::text from many
       where code_import_id is not null order by code_import_id $$,
    'with an event create each'
);
select results_eq(
    $$ select event.data from vcs.code_import_event as event
       join many on many.code_import_id = event.code_import_id order by many.place $$,
    $$ select vcs._import_json(import) from vcs.code_import as import
       join many on many.code_import_id = import.id order by many.place $$,
    'which carries the whole record'
);
select results_eq(
    $$ select error_code, message ~ '[[:cntrl:]]'
       from vcs.code_import_new_many('[{"target": "a\u001bb", "rcs_type": "git", "url": "https://e.org/c"}]', 'ada') $$,
    $$ values ('IJ400'::text, false) $$,
    'a message that quotes a control character shows none'
);
select is_empty($$ select * from vcs.code_import_new_many('[]', 'ada') $$, 'of nothing, nothing');

-- Refusals of the whole
select refused(
    format('select * from vcs.code_import_new_many(%s)', arguments), 'IJ400', 'code_import',
        format('refused: %s', why)
)
from (values
    ('null, ''ada''', 'no imports'), ('''{}'', ''ada''', 'an object'),
    ('''7'', ''ada''', 'a number'),
    ('''null'', ''ada''', 'a JSON null'), ('''[]'', null', 'no registrant'),
    ('''[]'', ''''', 'an empty registrant')
) as given (arguments, why);

select callable_by(
    'vcs.code_import_new_many(jsonb, text)', array['operator'], 'operators may register imports'
);
select rules_hold();
select * from finish();
rollback;
