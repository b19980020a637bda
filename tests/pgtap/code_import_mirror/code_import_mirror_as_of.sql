begin;
select plan(12);

-- main: a (30 h ago), b (20 h ago), c (10 h ago). gone: d until 20 h ago. new: since 10 h ago.
select let('import', an_import());
select let('job', a_run(the('import')));
create function tell(p_hours integer, variadic p_changes text[]) returns void language sql as $$
    select vcs.code_import_mirror_report(the('job'), jsonb_agg(jsonb_build_object(
        'ref', words[1], 'kind', 'updated', 'old', repeat(nullif(words[2], '-'), 40),
        'new', repeat(nullif(words[3], '-'), 40)) order by place))
    from unnest(p_changes) with ordinality as given (line, place),
        string_to_array(line, ' ') as words;
    update vcs._code_import_ref_change set date_created = now() - make_interval(hours => p_hours)
    where date_created = now();
$$;
select tell(30, 'main - a', 'gone - d', 'back - e');
select tell(20, 'main a b', 'gone d -', 'back e f');
select tell(10, 'main b c', 'new - a', 'back f e');
create function as_of(p_hours integer) returns setof text language sql as $$
    select concat_ws(' ', ref, coalesce(left(value_then, 1), '-'), coalesce(left(value_now, 1), '-'))
    from vcs.code_import_mirror_as_of(the('import'), now() - make_interval(hours => p_hours))
$$;
select bag_eq('select as_of(5)', 'select null::text where false', 'since then nothing has changed');
select bag_eq('select as_of(15)', $$ values ('back f e'), ('main b c'), ('new - a') $$,
    'a ref that has changed, one that was not there, one that was elsewhere');
select bag_eq('select as_of(25)', $$ values ('gone d -'), ('main a c'), ('new - a') $$,
    'one that has gone; and one that is where it was again has not changed');
select bag_eq('select as_of(35)', $$ values ('back - e'), ('main - c'), ('new - a') $$,
    'before the first there was none');

-- Refusals
select refused($$ select * from vcs.code_import_mirror_as_of(the('import'), now() + '1 s') $$,
    'IJ400', 'code_import_ref_change', 'nobody knows the future');
select refused($$ select * from vcs.code_import_mirror_as_of(the('import'), now() - interval '91 days') $$,
    'IJ400', 'code_import_ref_change', 'nor what is kept no longer');
select refused($$ select * from vcs.code_import_mirror_as_of(the('import'), '-infinity') $$,
    'IJ400', 'code_import_ref_change', 'nor the beginning of time');
select refused($$ select * from vcs.code_import_mirror_as_of(the('import'), null) $$,
    'IJ400', 'code_import_ref_change', 'a date is needed');
select refused($$ select * from vcs.code_import_mirror_as_of(-1, now()) $$, 'IJ404', 'code_import',
    'and an import');
select refused($$ select * from vcs.code_import_mirror_as_of(null, now()) $$, 'IJ400', 'code_import',
    'a null is none');
select callable_by('vcs.code_import_mirror_as_of(bigint, timestamptz)',
    array['reader', 'operator', 'worker'], 'whoever may read');
select rules_hold();
select * from finish();
rollback;
