begin;
select plan(20);

create function hold(p_code_import_id bigint) returns void language sql as $$
    select vcs.code_import_mirror_report(a_run(p_code_import_id), p_held => jsonb_agg(
        jsonb_build_object('ref', 'refs/heads/' || name, 'kind', 'deleted', 'old', repeat('a', 40))))
    from unnest(array['a', 'b', 'c']) as name;
$$;

-- All of it
select let('import', an_import());
select hold(the('import'));
select vcs.code_import_job_finish(job_of(the('import')), 'failure_remote_broken');
select mark();
select results_eq(
    $$ select ref, decision, person, date_decided
       from vcs.code_import_mirror_keep(the('import'), 'bob') $$,
    $$ values ('refs/heads/a', 'keep', 'bob', now()), ('refs/heads/b', 'keep', 'bob', now()),
       ('refs/heads/c', 'keep', 'bob', now()) $$,
    'a person decides about all that is held'
);
select is(news(), 'modify request', 'with an event, and a run is asked for');
select is(
    (select data from happened() where event_type = 'modify'),
    '{"held": "keep", "ref_count": 3, "refs": ["refs/heads/a", "refs/heads/b", "refs/heads/c"]}',
    'that says what was decided'
);
select results_eq(
    $$ select requesting_user, date_due from vcs.code_import_job
       where code_import_id = the('import') $$,
    $$ values ('bob', now()) $$,
    'which is due now'
);

-- Some
select let('some', an_import());
select hold(the('some'));
select is(
    array(select ref from vcs.code_import_mirror_keep(the('some'), 'bob',
        array['refs/heads/c', 'refs/heads/a'])),
    array['refs/heads/a', 'refs/heads/c'], 'or about some of it'
);
select is(
    (select decision from vcs.code_import_held_ref
     where code_import_id = the('some') and ref = 'refs/heads/b'),
    null, 'and the rest waits'
);
select is(
    (select again_requested_by from vcs.code_import_job where code_import_id = the('some')), 'bob',
    'while it runs, one more run is asked for'
);

-- In whatever state its import is
select let('failing', an_import());
select hold(the('failing'));
select vcs.code_import_job_finish(job_of(the('failing')), 'failure_remote_broken');
select run_to(the('failing'), 'failure_remote_broken') from generate_series(1, 5);
select is((select review_status from vcs.code_import where id = the('failing')), 'failing',
    'an import that had failed too often');
select vcs.code_import_mirror_keep(the('failing'), 'bob');
select is((select review_status from vcs.code_import where id = the('failing')), 'reviewed',
    'is tried again');
select let('suspended', an_import());
select hold(the('suspended'));
select vcs.code_import_update(the('suspended'), '{"review_status": "suspended"}', 'me');
select mark();
select lives_ok($$ select vcs.code_import_mirror_keep(the('suspended'), 'bob') $$,
    'a suspended one is decided about');
select is(news(), 'modify', 'and does not run');

-- Refusals
select refused($$ select * from vcs.code_import_mirror_keep(an_import(), 'bob') $$, 'IJ409',
    'code_import_held_ref', 'something must be held');
select refused(
    $$ select * from vcs.code_import_mirror_keep(the('some'), 'bob',
       array['refs/heads/a', 'refs/heads/x']) $$,
    'IJ404', 'code_import_held_ref', 'and what is named, too');
select refused(
    $$ select * from vcs.code_import_mirror_keep(the('some'), 'bob', array[null]::text[]) $$,
    'IJ404', 'code_import_held_ref', 'nothing has no name');
select is_empty(
    $$ select from vcs.code_import_mirror_keep(the('some'), 'bob', '{}') $$, 'none is none');
select refused($$ select * from vcs.code_import_mirror_keep(-1, 'bob') $$, 'IJ404',
    'code_import', 'an import is needed');
select refused($$ select * from vcs.code_import_mirror_keep(null, 'bob') $$, 'IJ400',
    'code_import', 'a null is none');
select refused($$ select * from vcs.code_import_mirror_keep(the('some'), null) $$, 'IJ400',
    'code_import_held_ref', 'somebody must answer for it');

select callable_by('vcs.code_import_mirror_keep(bigint, text, text[])', array['operator'],
    'operators decide');
select rules_hold();
select * from finish();
rollback;
