begin;
select plan(15);

create function changes() returns jsonb language sql as $$
    select jsonb_build_array(jsonb_build_object('ref', 'refs/heads/main', 'kind', 'rewritten',
        'old', repeat('a', 40), 'new', repeat('b', 40)))
$$;
select let('import', an_import());
select mark();
select is(
    (vcs.code_import_mirror_restore(the('import'), changes(), 'bob')).review_status, 'suspended',
    'the import of a restored mirror is suspended: its next run would undo it'
);
select is(news(), 'modify modify', 'with events');
select is((select data from happened() where data ? 'refs_restored'), '{"refs_restored": 1}',
    'that say what was done');
select is(job_of(the('import')), null, 'no run waits');
select results_eq(
    'select kind, ref, job_id, old_value, new_value from vcs.code_import_ref_change',
    $$ values ('restored', 'refs/heads/main', null::bigint, repeat('a', 40), repeat('b', 40)) $$,
    'the journal has it'
);
select mark();
select is(
    (vcs.code_import_mirror_restore(the('import'), '[]', 'bob')).review_status, 'suspended',
    'a suspended one stays so'
);
select is(news(), 'modify', 'with one event');

-- Refusals
select let('running', an_import());
select a_run(the('running'));
select refused($$ select vcs.code_import_mirror_restore(the('running'), changes(), 'bob') $$,
    'IJ423', 'code_import', 'not while it runs');
select refused($$ select vcs.code_import_mirror_restore(the('import'), '[{}]', 'bob') $$, 'IJ400',
    'code_import_ref_change', 'changes are needed');
select refused($$ select vcs.code_import_mirror_restore(the('import'), null, 'bob') $$, 'IJ400',
    'code_import_ref_change', 'a null is none');
select refused($$ select vcs.code_import_mirror_restore(-1, changes(), 'bob') $$, 'IJ404',
    'code_import', 'an import is needed');
select refused($$ select vcs.code_import_mirror_restore(null, changes(), 'bob') $$, 'IJ400',
    'code_import', 'and named');
select refused($$ select vcs.code_import_mirror_restore(the('import'), changes(), null) $$, 'IJ400',
    'code_import_mirror', 'somebody must answer for it');
select callable_by('vcs.code_import_mirror_restore(bigint, jsonb, text)', array['operator'],
    'operators restore');
select rules_hold();
select * from finish();
rollback;
