begin;
select plan(16);

select mark();
select results_eq(
    $$ select date_created, hostname, state, heartbeat, owner_role
       from vcs.code_import_machine_new('anvil') $$,
    $$ values (now(), 'anvil'::text, 'offline'::text, null::timestamptz, null::text) $$,
    'a new machine is offline and belongs to nobody'
);
select is(news(), '', 'without an event');
select let('online', id) from vcs.code_import_machine_new('bellows', 'online');
select is(
    (select state from vcs.code_import_machine where id = the('online')), 'online',
    'or online, if asked for'
);
select results_eq(
    'select event_type, code_import_id, machine_id from happened()',
    $$ values ('online'::text, null::bigint, the('online')) $$,
    'with an event online'
);

select refused(
    $$ select vcs.code_import_machine_new('anvil') $$, '23505', 'code_import_machine',
    'a hostname is registered once'
);
create function pg_temp.told(p_sql text) returns text language plpgsql as $$
declare
    v_constraint text;
    v_detail     text;
begin
    execute p_sql;
    return null;
exception when others then
    get stacked diagnostics v_constraint = constraint_name, v_detail = pg_exception_detail;
    return v_constraint || ': ' || v_detail;
end;
$$;
select matches(
    pg_temp.told($$ select vcs.code_import_machine_new('bellows') $$),
    '^code_import_machine_hostname_is_registered_once: .*\m' || the('online') || '\M',
    'the refusal names the constraint, and the other machine in DETAIL'
);
select refused(
    format('select vcs.code_import_machine_new(%s)', arguments), 'IJ400', 'code_import_machine',
        format('refused: %s', why)
)
from (values
    ('null', 'no hostname'), ('''''', 'an empty hostname'), ('''a b''', 'a space'),
    (quote_literal(E'a\nb'), 'two lines'),
    (quote_literal(repeat('x', 256)), '256 characters'),
    ('''tongs'', null', 'no state'), ('''tongs'', ''busy''', 'an unknown state'),
    ('''tongs'', ''quiescing''', 'a state in which no machine begins')
) as given (arguments, why);

select callable_by('vcs.code_import_machine_new(text, text)', array['operator'],
    'operators may register machines');
select rules_hold();
select * from finish();
rollback;
