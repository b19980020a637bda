begin;
select plan(1);
select ok(true, 'x') from pg_class limit 1;
select * from finish();
rollback;
