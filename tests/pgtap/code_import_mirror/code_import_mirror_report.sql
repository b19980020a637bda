begin;
select plan(32);

create function change(p_ref text, p_kind text, p_old text, p_new text) returns jsonb
language sql as $$
    select jsonb_build_object('ref', 'refs/heads/' || p_ref, 'kind', p_kind,
        'old', repeat(p_old, 40), 'new', repeat(p_new, 40))
$$;

-- The journal
select let('import', an_import());
select let('job', a_run(the('import')));
select mark();
select is(
    (vcs.code_import_mirror_report(the('job'), jsonb_build_array(
        change('main', 'new', null, 'a'), change('old', 'deleted', 'b', null),
        '{"ref": "HEAD", "kind": "updated", "old": "ref: refs/heads/old", "new": "ref: refs/heads/main"}'::jsonb
    ))).code_import_id, the('import'), 'a run tells what it has published'
);
select is(news(), '', 'without an event');
select results_eq(
    'select job_id, kind, ref from vcs.code_import_ref_change order by id',
    $$ values (the('job'), 'new', 'refs/heads/main'), (the('job'), 'deleted', 'refs/heads/old'),
       (the('job'), 'updated', 'HEAD') $$,
    'in the order in which it tells'
);
select vcs.code_import_mirror_report(the('job'), jsonb_build_array(change('main', 'new', null, 'a')));
select is((select count(*) from vcs.code_import_ref_change), 3::bigint,
    'what is told again is written once');
select vcs.code_import_job_finish(the('job'), 'success');
select let('next', a_run(the('import')));
select vcs.code_import_mirror_report(the('next'), jsonb_build_array(
    change('main', 'new', null, 'a') || jsonb_build_object('job_id', the('job')),
    change('dev', 'new', null, 'c') || jsonb_build_object('job_id', the('job')),
    change('main', 'updated', 'a', 'b')));
select results_eq(
    'select job_id, kind, ref from vcs.code_import_ref_change order by id offset 3',
    $$ values (the('job'), 'new', 'refs/heads/dev'), (the('next'), 'updated', 'refs/heads/main') $$,
    'a later run tells what an earlier one could not, in its name'
);

select is((select job_id from vcs.code_import_mirror where code_import_id = the('import')),
    the('next'), 'and is known as the newest that has told');

-- What is held
select vcs.code_import_mirror_report(the('next'), p_held => jsonb_build_array(
    change('a', 'deleted', 'a', null), change('b', 'rewritten', 'a', 'b')));
select vcs.code_import_mirror_report(the('next'));
select results_eq(
    'select ref, decision from vcs.code_import_held_ref order by ref',
    $$ values ('refs/heads/a', null::text), ('refs/heads/b', null) $$,
    'what is held stays so until a run says otherwise'
);
select is((select refs_held from vcs.code_import_mirror where code_import_id = the('import')),
    2::bigint, 'and is counted');
select vcs.code_import_mirror_accept(the('import'), 'bob');
select vcs.code_import_mirror_report(the('next'), p_held => jsonb_build_array(
    change('a', 'deleted', 'a', null), change('b', 'rewritten', 'a', 'c')));
select results_eq(
    'select ref, decision, person from vcs.code_import_held_ref order by ref',
    $$ values ('refs/heads/a', 'accept', 'bob'), ('refs/heads/b', null, null) $$,
    'who accepts a change accepts no other one'
);
select vcs.code_import_mirror_keep(the('import'), 'eve');
select vcs.code_import_mirror_report(the('next'), p_held => jsonb_build_array(
    change('a', 'rewritten', 'a', 'd'), change('b', 'rewritten', 'b', 'c')));
select results_eq(
    'select ref, decision, person from vcs.code_import_held_ref order by ref',
    $$ values ('refs/heads/a', 'keep', 'eve'), ('refs/heads/b', null, null) $$,
    'who keeps what the mirror has keeps nothing else'
);
select vcs.code_import_mirror_report(the('next'), p_held => jsonb_build_array(
    change('b', 'rewritten', 'b', 'c')));
select is((select array_agg(ref) from vcs.code_import_held_ref), array['refs/heads/b'],
    'what is held no more is forgotten');
select vcs.code_import_mirror_report(the('next'), p_held => '[]');
select is_empty('select from vcs.code_import_held_ref', 'all of it too');

-- Verified
select results_eq(
    $$ select date_verified, damage from vcs.code_import_mirror_report(the('next'),
       p_is_verified => true, p_damage => 'missing blob') $$,
    $$ values (now(), 'missing blob') $$,
    'a run that has read the whole mirror says what it found'
);
select results_eq(
    $$ select date_verified, damage from vcs.code_import_mirror_report(the('next')) $$,
    $$ values (now(), 'missing blob') $$,
    'and the others leave it at that'
);
select is(
    (vcs.code_import_mirror_report(the('next'), p_is_verified => true)).damage, null,
    'until it is found to be whole'
);

-- Refusals
select refused(
    format('select vcs.code_import_mirror_report(the(''next''), %L)', wrong), 'IJ400',
    'code_import_ref_change', why
)
from (values
    ('{}', 'changes are an array'),
    ('[1]', 'of objects'),
    ('[{}]', 'a change has a ref'),
    ('[{"ref": "refs/heads/a b", "kind": "new"}]', 'that is a name'),
    ('[{"ref": "refs/heads/a", "kind": "held", "new": null}]', 'of a known kind'),
    ('[{"ref": "refs/heads/a", "kind": "new", "new": "abc"}]', 'with values that are objects'),
    ('[{"ref": "refs/heads/a", "kind": "new"}]', 'that differ'),
    (format('[{"ref": "refs/heads/a", "kind": "new", "new": "%s", "job_id": %s}]',
        repeat('a', 40), 1000000), 'of this run or an earlier one')
) as given (wrong, why);
select is((select count(*) from vcs.code_import_ref_change), 5::bigint, 'a refusal writes nothing');
select refused($$ select vcs.code_import_mirror_report(the('next'), p_held => '{}') $$, 'IJ400',
    'code_import_held_ref', 'what is held is an array too');
select refused($$ select vcs.code_import_mirror_report(the('next'), p_is_verified => null) $$,
    'IJ400', 'code_import_mirror', 'verified or not');
select refused($$ select vcs.code_import_mirror_report(null) $$, 'IJ400', 'code_import_job',
    'a job is needed');
select refused($$ select vcs.code_import_mirror_report(the('job')) $$, 'IJ410', 'code_import_job',
    'that has not ended');
select refused($$ select vcs.code_import_mirror_report(job_of(an_import())) $$, 'IJ409',
    'code_import_job', 'and has begun');

-- Whose
select let('machine', a_machine());
select let('owned', job_of(an_import()));
set local session authorization tester_worker;
select vcs.code_import_job_start(the('owned'), the('machine'));
set local session authorization tester_other_worker;
select refused($$ select vcs.code_import_mirror_report(the('owned')) $$, 'IJ403',
    'code_import_job', 'no worker tells of another''s runs');
reset session authorization;
select callable_by('vcs.code_import_mirror_report(bigint, jsonb, jsonb, boolean, text)',
    array['operator', 'worker'], 'operators and workers may tell');
select rules_hold();
select * from finish();
rollback;
