begin;
select plan(14);

select let('import', an_import());
select mark();
select is(
    (vcs.code_import_mirror_set_maximum_loss(the('import'), 10, 'bob')).maximum_loss_percent, 10,
    'a mirror has a guard of its own'
);
select is(news(), 'modify', 'with an event');
select is(
    (select data from happened()),
    '{"maximum_loss_percent": 10, "old_maximum_loss_percent": null}', 'that says what it was'
);
select mark();
select is(
    (vcs.code_import_mirror_set_maximum_loss(the('import'), 10, 'bob')).maximum_loss_percent, 10,
    'the same again'
);
select is(news(), '', 'is no event');
select is(
    (vcs.code_import_mirror_set_maximum_loss(the('import'), null, 'bob')).maximum_loss_percent, 50,
    'null goes back to the setting'
);
select is(
    (vcs.code_import_mirror_set_maximum_loss(the('import'), 0, 'bob')).maximum_loss_percent, 0,
    'nothing at all may be lost'
);
select refused(
    format($$ select vcs.code_import_mirror_set_maximum_loss(the('import'), %s, 'bob') $$, wrong),
    'IJ400', 'code_import_mirror', 'not ' || wrong
)
from unnest(array[-1, 101]) as wrong;
select refused($$ select vcs.code_import_mirror_set_maximum_loss(-1, 10, 'bob') $$, 'IJ404',
    'code_import', 'an import is needed');
select refused($$ select vcs.code_import_mirror_set_maximum_loss(null, 10, 'bob') $$, 'IJ400',
    'code_import', 'a null is none');
select refused($$ select vcs.code_import_mirror_set_maximum_loss(the('import'), 10, null) $$,
    'IJ400', 'code_import_mirror', 'somebody must answer for it');
select callable_by('vcs.code_import_mirror_set_maximum_loss(bigint, integer, text)',
    array['operator'], 'operators set it');
select rules_hold();
select * from finish();
rollback;
