begin;
select plan(3);

select columns_are('vcs', 'code_import_held_ref', array['code_import_id', 'ref', 'kind',
    'old_value', 'new_value', 'date_held', 'job_id', 'decision', 'person', 'date_decided'],
    'a held ref has these columns');
select let('job', a_run(an_import()));
select vcs.code_import_mirror_report(the('job'), p_held => jsonb_build_array(
    jsonb_build_object('ref', 'refs/heads/main', 'kind', 'deleted', 'old', repeat('a', 40))));
select results_eq(
    $$ select job_id, date_held, decision, person from vcs.code_import_held_ref $$,
    $$ values (the('job'), now(), null::text, null::text) $$,
    'it says since when it is held, and what was decided'
);
select rules_hold();
select * from finish();
rollback;
