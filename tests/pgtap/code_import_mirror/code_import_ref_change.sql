begin;
select plan(5);

select columns_are('vcs', 'code_import_ref_change', array['id', 'date_created', 'code_import_id',
    'job_id', 'kind', 'ref', 'old_value', 'new_value'], 'a change has these columns');
select let('import', an_import());
select let('job', a_run(the('import')));
select vcs.code_import_mirror_report(the('job'), jsonb_build_array(
    jsonb_build_object('ref', 'refs/heads/main', 'kind', 'new', 'new', repeat('a', 40))));
select results_eq(
    $$ select date_created, code_import_id, job_id, kind, ref, old_value, new_value
       from vcs.code_import_ref_change $$,
    $$ values (now(), the('import'), the('job'), 'new', 'refs/heads/main', null::text,
       repeat('a', 40)) $$,
    'it says what became of a ref, when, and by which run'
);
select vcs.code_import_delete(the('import'));
select is((select count(*) from vcs.code_import_ref_change), 1::bigint,
    'it outlives its import, as all history does');
select isnt_empty(
    $$ select from vcs._partitions('_code_import_ref_change') where upper_bound > now() + '90 days' $$,
    'the journal has partitions ahead'
);
select rules_hold();
select * from finish();
rollback;
