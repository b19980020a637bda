"""History goes by partitions, whoever reads, writes or tidies up at the same time."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from code_import import schema
from code_import.client import Client
from harness.ageing import age
from harness.invariants import assert_rules_hold
from harness.waiting import eventually, wait_until_blocked

if TYPE_CHECKING:
    from conftest import Connect

pytestmark = pytest.mark.sql

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
PATIENCE = "set statement_timeout = '10s'"
"""Far more than anybody may be made to wait."""


def only(conn: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    """The only value that a query returns."""
    row = conn.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def ids(conn: psycopg.Connection[Any], code_import_id: int) -> list[int]:
    """The ids of the results of an import, oldest first."""
    query = "select id from vcs.code_import_result where code_import_id = %s order by id"
    return [id_ for (id_,) in conn.execute(query, [code_import_id])]


def register(conn: psycopg.Connection[Any], target: str = "project/repo") -> int:
    made = Client(conn).new("ada", target, "git", f"https://example.org/{target}")
    return made.id


def run(conn: psycopg.Connection[Any], code_import_id: int, times: int = 1) -> None:
    """Run an import to its end, so many times."""
    client = Client(conn)
    for _ in range(times):
        client.request(code_import_id, "ada")
        job = client.job_for_machine("anvil", 100)
        assert job is not None
        assert job.code_import_id == code_import_id
        client.job_finish(job.id, "success")


def write_result(conn: psycopg.Connection[Any], code_import_id: int, days_ago: int) -> int:
    """A result as one would come to be of a process that had slept for days."""
    made: int = only(
        conn,
        """
        with run as (
            update vcs._code_import_schedule set result_count = result_count + 1
            where code_import_id = %s
            returning code_import_id, result_count, now() - make_interval(hours => 24 * %s) as date
        )
        insert into vcs._code_import_result (
            id, date_filed, date_created, code_import_id, machine_id, job_id, start_event_id,
            date_job_started, result_number, status, log_excerpt
        )
        select
            nextval('vcs._code_import_event_id_seq'), date, date, code_import_id, 1,
            nextval('vcs._code_import_job_id_seq'), nextval('vcs._code_import_event_id_seq'),
            date, result_count, 'success', ''
        from run
        returning id
        """,
        code_import_id,
        days_ago,
    )
    return made


def fill_partition(conn: psycopg.Connection[Any]) -> None:
    """Two thousand results, numbered as their ids are, at the time of the newest that is there."""
    conn.execute(
        """
        create temporary table newest on commit drop as
        select * from vcs._code_import_result order by id desc limit 1;
        delete from vcs._code_import_result;
        insert into vcs._code_import_result
        select n, date_filed, date_created, code_import_id, machine_id, n, n, log_file_id,
            date_job_started, n, status, requesting_user, (
                select string_agg(sha256(convert_to(format('%s %s', n, m), 'UTF8'))::text, '')
                from generate_series(1, 25) as m
            )
        from newest, generate_series(1, 2000) as n;
        update vcs._code_import_schedule set result_count = 2000;
        """
    )


def tidy(conn: psycopg.Connection[Any]) -> dict[str, int]:
    cursor = conn.execute("select * from vcs.code_import_tidy_up()")
    row = cursor.fetchone()
    assert row is not None
    return {column.name: value for column, value in zip(cursor.description or (), row, strict=True)}


# --- upgrade -----------------------------------------------------------------------------------

# What read the tables before they were partitioned, as far as it matters here.
BEFORE = """
create or replace view vcs.code_import_log_file as
select file.id, file.date_created, file.job_id, octet_length(file.content)::bigint as size,
    file.content
from vcs._code_import_log_file as file;
create or replace view vcs.code_import_result as
select result.id, result.date_created, result.code_import_id, result.machine_id, result.job_id,
    result.requesting_user, result.log_excerpt,
    (select file.id from vcs._code_import_log_file as file where file.id = result.log_file_id)
        as log_file_id,
    result.status, result.date_job_started,
    result.date_created - result.date_job_started as job_duration
from vcs._code_import_result as result;
"""
# Two imports with a result every ten days, and a deleted one; each with its log and an event.
HISTORY = """
insert into vcs._code_import (id, date_created, registrant, owner, target, url, source_hash)
overriding system value
select n, now(), 'ada', 'ada', 't/' || n, 'https://example.org/' || n,
    sha256(convert_to(n::text, 'UTF8'))
from generate_series(1, 2) as n;
insert into vcs._code_import_schedule (code_import_id, rcs_type, review_status)
values (1, 'git', 'suspended'), (2, 'git', 'suspended');
insert into vcs._code_import_log_file (date_created, job_id, content)
select now() - make_interval(hours => 240 * (12 - n)), n, '\\x00'
from generate_series(1, 12) as n;
insert into vcs._code_import_result (
    id, date_created, code_import_id, machine_id, job_id, start_event_id, log_file_id,
    date_job_started, status, requesting_user, log_excerpt
)
select 2 * n, date, 1 + n % 3, 7, n, 2 * n - 1, n, date, 'success', 'ada', 'tail ' || n
from generate_series(1, 12) as n
cross join lateral (select now() - make_interval(hours => 240 * (12 - n))) as run (date);
insert into vcs._code_import_event
    (id, date_created, event_type, code_import_id, machine_id, person, data)
select 100 + n, now() - make_interval(hours => 240 * (12 - n)), 'request', 1 + n % 3, null, 'ada',
    jsonb_build_object('n', n)
from generate_series(1, 12) as n;
"""


@pytest.fixture
def before(tmp_path: Path) -> schema.Sources:
    """The migrations before history was partitioned, and views as they were."""
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    for path in (tmp_path / "migrations").iterdir():
        if path.name >= "0007":
            path.unlink()
    shutil.copytree(ROOT / "sql", tmp_path / "sql")
    (tmp_path / "sql" / "before.sql").write_text(BEFORE)
    files = ["errors.sql", "time.sql", "settings/code_import_settings.sql", "before.sql"]
    (tmp_path / "sql" / "install.sql").write_text("".join(f"\\ir {name}\n" for name in files))
    return schema.Sources(tmp_path)


def read(conn: psycopg.Connection[Any]) -> list[list[tuple[Any, ...]]]:
    queries = (
        "select * from vcs.code_import_result order by id",
        "select * from vcs.code_import_log_file order by id",
        "select * from vcs.report order by 1",
    )
    with psycopg.connect(conn.info.dsn, autocommit=True) as fresh:
        return [fresh.execute(query.encode()).fetchall() for query in queries]


def test_an_upgrade_keeps_the_history_and_what_was_built_on_it(
    empty_dsn: str, before: schema.Sources, connect: Connect
) -> None:
    schema.install(empty_dsn, using=before)
    conn = connect(dsn=empty_dsn)
    conn.execute(HISTORY.encode())
    conn.execute("set role code_import_owner")
    conn.execute("create view vcs.report as select id, log_file_id from vcs.code_import_result")
    conn.execute("reset role")
    old = read(conn)
    conn.execute("alter view vcs.report set schema public")
    old_events = conn.execute("select * from vcs._code_import_event order by id").fetchall()

    schema.install(empty_dsn)
    conn.execute("alter view public.report set schema vcs")
    assert read(conn) == old
    assert conn.execute("select * from vcs._code_import_event order by id").fetchall() == old_events
    assert conn.execute(
        "select code_import_id, array_agg(result_number order by id) from vcs._code_import_result"
        " group by 1 order by 1"
    ).fetchall() == [(n, [1, 2, 3, 4]) for n in (1, 2, 3)]
    assert conn.execute("select result_count from vcs._code_import_schedule").fetchall() == [
        (4,), (4,),
    ]  # fmt: skip
    assert only(conn, "select nextval('vcs._code_import_log_file_id_seq')") == 13
    assert only(conn, "select count(*) from vcs._code_import_event_default") == 0

    Client(conn).configure("results_kept", "2", "ada")
    assert tidy(conn)["partitions_dropped"] > 0
    assert tidy(conn)["partitions_due"] == 0
    assert conn.execute(
        "select code_import_id, array_agg(result_number order by id) from vcs._code_import_result"
        " group by 1 order by 1"
    ).fetchall() == [(1, [3, 4]), (2, [3, 4]), (3, [4])]


def test_an_upgrade_has_room_for_the_start_of_a_run_that_goes_on(
    empty_dsn: str, before: schema.Sources, connect: Connect
) -> None:
    """Days ago, and nothing else then: it is written when the run is released."""
    schema.install(empty_dsn, using=before)
    conn = connect(dsn=empty_dsn)
    conn.execute(HISTORY.encode())
    conn.execute(
        """
        insert into vcs._code_import_machine (date_created, hostname, state)
        values (now(), 'anvil', 'online');
        update vcs._code_import_schedule
        set review_status = 'reviewed', job_id = 13, state = 'running', machine_id = machine.id,
            requesting_user = 'ada', start_event_id = 113, date_created = date, date_due = date,
            date_started = date, heartbeat = now()
        from vcs._code_import_machine as machine, (select now() - interval '100 h') as run (date)
        where code_import_id = 1
        """
    )
    schema.install(empty_dsn)
    assert Client(conn).job_release(13) is not None
    assert tidy(conn)["rows_astray"] == 0
    assert only(conn, "select event_type from vcs.code_import_event where id = 113") == "start"


# A job in each state, none, and all that a run can have, with nothing said twice.
SCHEDULE = """
insert into vcs._code_import (id, date_created, registrant, owner, target, url, source_hash)
overriding system value
select n, now(), 'ada', 'ada', 't/' || n, 'https://example.org/' || n,
    sha256(convert_to(n::text, 'UTF8'))
from generate_series(1, 4) as n;
insert into vcs._code_import_machine (date_created, hostname, state)
values (now(), 'one.example.org', 'online');
insert into vcs._code_import_schedule (
    code_import_id, rcs_type, review_status, state, job_id, date_created, date_due,
    date_last_started, date_last_successful, machine_id, is_pinned, date_started, heartbeat,
    start_event_id, ordering, requesting_user, update_interval
)
values
    (1, 'git', 'suspended', null, null, null, null, now() - interval '9 h', null, null, false,
        null, null, null, null, null, '1 mon'),
    (2, 'svn', 'reviewed', 'pending', 11, now() - interval '3 h', now() + interval '1 h',
        now() - interval '5 h', now() - interval '4 h', null, false, null, null, null, null, null,
        null),
    (3, 'hg', 'reviewed', 'scheduled', 12, now() - interval '2 h', now(), null, null, 1, true, null,
        null, null, 4, 'bob', null),
    (4, 'cvs', 'reviewed', 'running', 13, now() - interval '8 h', now() - interval '7 h', null,
        null, 1, false, now() - interval '6 h', now() - interval '1 s', 21, null, 'eve', null);
select setval('vcs._code_import_job_id_seq', 13), setval('vcs._code_import_event_id_seq', 21);
"""


def test_an_upgrade_keeps_the_jobs_and_what_was_built_on_them(
    empty_dsn: str, before: schema.Sources, connect: Connect
) -> None:
    queries = (
        (
            "select code_import_id, job_id, date_created, date_due, date_last_started,"
            " date_last_successful, state, date_started, heartbeat, machine_id, start_event_id,"
            " is_pinned, ordering, rcs_type, requesting_user, update_interval"
            " from vcs._code_import_schedule order by 1"
        ),
        "select * from public.report order by 1",
    )
    with before.table_of_contents.open("a") as listed:
        listed.write("\\ir code_import_job/code_import_job.sql\n")
    schema.install(empty_dsn, using=before)
    conn = connect(dsn=empty_dsn)
    for statement in SCHEDULE.split(";"):
        conn.execute(statement.encode())
    conn.execute("create view public.report as select * from vcs.code_import_job")
    old = [conn.execute(query.encode()).fetchall() for query in queries]
    assert [len(rows) for rows in old] == [4, 3]

    schema.install(empty_dsn)
    with connect(dsn=empty_dsn) as fresh:
        assert [fresh.execute(query.encode()).fetchall() for query in queries] == old
    client = Client(conn)
    assert client.job_finish(13, "success").requesting_user == "eve"
    claimed = client.job_claim("one.example.org", 9, 9)
    assert [(run.id, run.ordering, run.requesting_user) for run in claimed] == [(12, 4, "bob")]


def test_an_upgraded_database_is_as_a_fresh_one(
    empty_dsn: str, dsn: str, before: schema.Sources
) -> None:
    schema.install(empty_dsn, using=before)
    schema.install(empty_dsn)
    queries = (
        (
            "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull"
            " from pg_attribute where attnum > 0 and attrelid in (select oid from pg_class"
            " where relkind in ('r', 'p', 'v') and relnamespace = 'vcs'::regnamespace)"
            " order by 1, 2"
        ),
        (
            "select conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " from pg_constraint where connamespace = 'vcs'::regnamespace order by 1, 2"
        ),
        "select indexdef from pg_indexes where schemaname = 'vcs' order by 1",
        (
            "select relname, relkind, obj_description(oid, 'pg_class'), pg_get_userbyid(relowner)"
            " from pg_class where relnamespace = 'vcs'::regnamespace order by 1"
        ),
    )
    with psycopg.connect(empty_dsn) as upgraded, psycopg.connect(dsn) as fresh:
        for query in queries:
            found = upgraded.execute(query.encode()).fetchall()
            assert found == fresh.execute(query.encode()).fetchall()


def test_an_install_reads_no_date_as_the_database_would(empty_dsn: str, connect: Connect) -> None:
    """Where dates are written with IST, which is read as that of another country."""
    conn = connect(dsn=empty_dsn)
    name = sql.Identifier(conn.info.dbname)
    conn.execute(sql.SQL("alter database {} set timezone = 'Asia/Kolkata'").format(name))
    conn.execute(sql.SQL("alter database {} set datestyle = 'SQL, DMY'").format(name))
    schema.install(empty_dsn)
    late = (
        "select count(*) from vcs._history(), vcs._partitions(parent)"
        " where isfinite(lower_bound)"
        " and lower_bound <> vcs._aligned(lower_bound, vcs._partition_width(retention))"
    )
    assert only(conn, late) == 0


# --- what stays --------------------------------------------------------------------------------


def test_the_newest_results_of_every_import_that_is_there_stay(
    conn: psycopg.Connection[Any],
) -> None:
    client = Client(conn)
    client.configure("results_kept", "2", "ada")
    imports = {name: register(conn, name) for name in ("runs", "rests", "goes", "comes-back")}
    for code_import_id in imports.values():
        run(conn, code_import_id, 3)
    client.update(imports["rests"], {"review_status": "suspended"}, "ada")
    client.update(imports["comes-back"], {"review_status": "suspended"}, "ada")
    client.delete(imports["goes"], "ada")
    before = {name: ids(conn, code_import_id) for name, code_import_id in imports.items()}
    age(conn, 40 * DAY)
    assert tidy(conn)["results_kept"] == 6
    after = {name: ids(conn, code_import_id) for name, code_import_id in imports.items()}
    assert after == {name: [] if name == "goes" else before[name][1:] for name in imports}

    client.update(imports["comes-back"], {"review_status": "reviewed"}, "ada")
    run(conn, imports["comes-back"])
    assert tidy(conn)["rows_deleted"] == 1, "an old one is among the newest no longer"
    assert len(ids(conn, imports["comes-back"])) == 2
    assert tidy(conn)["partitions_due"] == 0


def test_a_big_partition_is_looked_through_in_steps(conn: psycopg.Connection[Any]) -> None:
    code_import_id = register(conn)
    run(conn, code_import_id)
    age(conn, 40 * DAY)
    fill_partition(conn)
    Client(conn).configure("results_kept", "1900", "ada")
    oldest, over = "now() - interval '30 days'", "'-infinity'"
    moved = []
    while not moved or moved[-1]:
        moved.append(only(conn, f"select vcs._keep_results({oldest}, {over})"))
        assert len(ids(conn, code_import_id)) == 2000, "all can be read at any time"
    assert len(moved) > 3
    assert sum(moved) == 1900
    assert tidy(conn)["partitions_due"] == 0
    assert ids(conn, code_import_id) == list(range(101, 2001))


# --- who is there at the same time ---------------------------------------------------------------


@pytest.fixture
def old(conn: psycopg.Connection[Any]) -> int:
    """An import with seven results that are past their retention."""
    code_import_id = register(conn)
    run(conn, code_import_id, 7)
    age(conn, 40 * DAY)
    return code_import_id


def test_of_two_at_once_one_does_the_partitions(
    conn: psycopg.Connection[Any], connect: Connect
) -> None:
    first, second, client = connect(autocommit=False), connect(), Client(conn)
    code_import_id = register(conn)
    run(conn, code_import_id)
    age(conn, 40 * DAY)
    client.configure("event_retention", "60 days", "ada")
    tidy(conn)
    assert tidy(first)["partitions_due"] == 0
    client.configure("event_retention", None, "ada")
    client.configure("machine_silent_after", "1 day", "ada")
    second.execute(PATIENCE)
    done = tidy(second)
    assert (done["partitions_dropped"], done["machines"]) == (0, 1), "the other does the rest"
    first.commit()
    assert tidy(second)["partitions_dropped"] > 0
    assert len(ids(conn, code_import_id)) == 1


@pytest.mark.usefixtures("old")
def test_a_reader_that_stays_holds_nobody_up(
    conn: psycopg.Connection[Any], connect: Connect
) -> None:
    reader, tidier = connect(autocommit=False), connect()
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    seen = reader.execute("select * from vcs.code_import_event order by id").fetchall()
    other = register(conn, "other")
    conn.execute(PATIENCE)
    tidier.execute(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        tidied = [pool.submit(tidy, tidier) for _ in range(3)]
        run(conn, other, 5)
        for done in tidied:
            result = done.result()
            assert result["partitions_dropped"] == 0
            assert result["partitions_due"] == 2, "the events and the results"
    assert reader.execute("select * from vcs.code_import_event order by id").fetchall() == seen
    reader.rollback()
    assert tidy(tidier)["partitions_dropped"] == 2
    assert only(conn, "select count(*) from vcs.code_import_result") == 10
    assert only(tidier, "select current_setting('lock_timeout')") == "0"


@pytest.mark.usefixtures("old")
def test_a_worker_in_a_transaction_is_waited_for_another_time(
    conn: psycopg.Connection[Any], connect: Connect
) -> None:
    worker, other = connect(autocommit=False), register(conn, "other")
    run(worker, other)
    conn.execute(PATIENCE)
    assert tidy(conn)["partitions_due"] == 2
    worker.commit()
    assert tidy(conn)["partitions_due"] == 0
    assert len(ids(conn, other)) == 1


def test_many_at_once(conn: psycopg.Connection[Any], connect: Connect) -> None:
    """Four tidy up beside two that run jobs: nothing is lost, and nobody waits in a circle."""
    imports = [register(conn, f"import/{n}") for n in range(4)]
    for code_import_id in imports:
        run(conn, code_import_id, 7)
    for _ in range(8):
        age(conn, 5 * DAY)
        for code_import_id in imports:
            run(conn, code_import_id)
    newest = {code_import_id: ids(conn, code_import_id)[-5:] for code_import_id in imports}
    stop = threading.Event()

    def work(number: int) -> int:
        with psycopg.connect(conn.info.dsn, autocommit=True) as mine:
            client, ended = Client(mine), 0
            while not stop.is_set() or ended < 10:
                client.request_again(imports[number], "ada")
                job = client.job_for_machine(f"worker{number}", 10)
                if job is not None:
                    client.job_finish(job.id, "success")
                    ended += 1
            return ended

    def clean(_: int) -> int:
        with psycopg.connect(conn.info.dsn, autocommit=True) as mine:
            return sum(tidy(mine)["partitions_dropped"] for _ in range(15))

    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(work, number) for number in (0, 1)]
        dropped = sum(pool.map(clean, range(4)))
        stop.set()
        ended = sum(future.result() for future in working)
    assert ended >= 20
    dropped += tidy(conn)["partitions_dropped"]
    assert dropped > 0
    assert tidy(conn)["partitions_due"] == 0
    for code_import_id, kept in newest.items():
        found = ids(conn, code_import_id)
        assert len(found) >= 5
        if code_import_id in imports[2:]:
            assert found[-5:] == kept
    assert_rules_hold(conn, whole_history=False)
    alone = "select count(*) = 1 from pg_stat_activity where datname = current_database()"
    eventually(lambda: only(conn, alone), what="the others have left")
    query = "select deadlocks from pg_stat_database where datname = current_database()"
    assert only(conn, query) == 0


# --- what comes late ---------------------------------------------------------------------------


def test_a_run_is_filed_by_the_clock_however_old_its_transaction_is(
    conn: psycopg.Connection[Any],
) -> None:
    code_import_id = register(conn)
    with conn.transaction():
        run(conn, code_import_id)
        assert conn.execute(
            "select date_created = now(), date_filed > now(), result_number"
            " from vcs._code_import_result"
        ).fetchone() == (True, True, 1)


def test_who_still_writes_into_an_old_partition_is_waited_for(
    conn: psycopg.Connection[Any], connect: Connect, old: int
) -> None:
    late, other = connect(autocommit=False), register(conn, "other")
    made = write_result(late, old, 40)
    newest = write_result(conn, other, 40)
    assert newest > made
    conn.execute(PATIENCE)
    assert tidy(conn)["partitions_due"] == 1, "that of the events may go"
    late.commit()
    done = tidy(conn)
    assert (done["partitions_due"], done["results_kept"]) == (0, 6)
    assert ids(conn, old)[-1] == made
    assert ids(conn, other) == [newest]


def test_what_came_after_a_partition_was_looked_through_is_found(
    conn: psycopg.Connection[Any], connect: Connect, old: int
) -> None:
    reader = connect(autocommit=False)
    reader.execute("select count(*) from vcs.code_import_result")
    assert tidy(conn)["results_kept"] == 5
    made = write_result(conn, old, 40)
    reader.rollback()
    done = tidy(conn)
    assert (done["partitions_due"], done["results_kept"]) == (0, 1)
    assert done["rows_deleted"] == 1, "of the five, the oldest is not among them any more"
    assert len(ids(conn, old)) == 5
    assert ids(conn, old)[-1] == made


def test_when_more_are_to_stay_it_is_looked_through_again(
    conn: psycopg.Connection[Any], connect: Connect, old: int
) -> None:
    reader = connect(autocommit=False)
    reader.execute("select count(*) from vcs.code_import_result")
    assert tidy(conn)["results_kept"] == 5
    Client(conn).configure("results_kept", "6", "ada")
    reader.rollback()
    assert tidy(conn)["results_kept"] == 1
    assert len(ids(conn, old)) == 6


def test_a_partition_that_is_written_anew_is_looked_through_again(
    conn: psycopg.Connection[Any], old: int
) -> None:
    """As by VACUUM FULL or by a restore: its rows lie in other blocks then."""
    fill_partition(conn)
    Client(conn).configure("results_kept", "1900", "ada")
    newest = ids(conn, old)[-1900:]
    for _ in range(2):
        assert only(conn, "select vcs._keep_results(now() - interval '30 days', '-infinity')") > 0
    conn.execute(
        """
        create temporary table rows on commit drop as select * from vcs._code_import_result;
        truncate vcs._code_import_result;
        insert into vcs._code_import_result select * from rows order by id;
        """
    )
    assert tidy(conn)["partitions_due"] == 0
    assert ids(conn, old) == newest


def test_on_an_old_snapshot_results_are_left(
    conn: psycopg.Connection[Any], connect: Connect, old: int
) -> None:
    for level in (psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE):
        snapshot = connect(autocommit=False)
        snapshot.isolation_level = level
        snapshot.execute("select count(*) from vcs._code_import_machine")
        made = write_result(conn, old, 40)
        done = tidy(snapshot)
        snapshot.commit()
        assert (done["results_kept"], done["partitions_due"]) == (0, 1)
    done = tidy(conn)
    assert (done["results_kept"], done["partitions_due"]) == (5, 0)
    assert ids(conn, old)[-1] == made


# --- what is wrong is told -----------------------------------------------------------------------


def test_rows_without_a_partition_are_told_of(conn: psycopg.Connection[Any]) -> None:
    heard: list[str] = []
    conn.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
    code_import_id = register(conn)
    run(conn, code_import_id)
    write_result(conn, code_import_id, 20)
    assert tidy(conn)["rows_astray"] == 1
    assert heard == ["1 rows of vcs._code_import_result lie in vcs._code_import_result_default"]
    assert len(ids(conn, code_import_id)) == 2


def test_a_wait_for_the_history_is_short(
    conn: psycopg.Connection[Any], connect: Connect, old: int
) -> None:
    """Who comes while tidy-up waits for a reader waits no longer than tidy-up does."""
    reader, tidier, worker = connect(autocommit=False), connect(), connect()
    reader.execute("select count(*) from vcs.code_import_result")
    conn.execute("alter function vcs._drop_partitions(text, timestamptz) set lock_timeout = '3s'")
    other = register(worker, "other")
    with ThreadPoolExecutor(2) as pool:
        tidied = pool.submit(tidy, tidier)
        wait_until_blocked(conn, tidier.info.backend_pid, by=reader.info.backend_pid)
        ended = pool.submit(run, worker, other)
        wait_until_blocked(conn, worker.info.backend_pid, by=tidier.info.backend_pid)
        assert tidied.result()["partitions_due"] == 1, "the reader's: that of the results"
        ended.result()
    assert len(ids(conn, other)) == 1
    assert len(ids(conn, old)) == 7
    reader.rollback()
