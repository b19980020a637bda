"""Claims while an old snapshot is held: they skip dead entries, and no job that is due.

What a claim reads is counted in index entries, so that the clock has no say in these tests.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import IsolationLevel

from code_import.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from conftest import Connect

pytestmark = pytest.mark.sql

ENDED = 1000
"""Runs that ended under the held snapshot."""
FLOOR = "code_import.claim_floor"


@pytest.fixture
def reader(connect: Connect) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who holds a snapshot that is older than all that follows."""
    conn = connect(autocommit=False)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.execute("select pg_current_xact_id()")
    yield conn
    conn.rollback()


@pytest.fixture
def claimer(
    conn: psycopg.Connection[Any], connect: Connect, reader: psycopg.Connection[Any]
) -> psycopg.Connection[Any]:
    """A session that has learned where to start, with many due jobs left."""
    other = Client(connect())
    other.new_many(
        [
            {"target": f"a{n}", "rcs_type": "git", "url": f"https://example.org/{n}"}
            for n in range(ENDED + 500)
        ],
        "ada",
    )
    _move(conn, "state = 'pending'", "-1 hour")
    for _ in range(ENDED // 100):
        runs = other.job_claim("busy", 100, 100)
        other.job_finish_many([run.id for run in runs], ["success"] * len(runs))
    session = connect()
    first = _entries_of_a_claim(session)
    assert first > ENDED, "the dead entries of the ended runs are in the way"
    time.sleep(1.1)  # for a second it keeps no floor
    _entries_of_a_claim(session)
    assert _entries_of_a_claim(session) < 50
    return session


def test_a_claim_starts_after_what_was_claimed(claimer: psycopg.Connection[Any]) -> None:
    for _ in range(300):
        assert _entries_of_a_claim(claimer) < 50 + 300


def test_counting_runs_starts_at_the_living(
    conn: psycopg.Connection[Any], reader: psycopg.Connection[Any]
) -> None:
    """A machine's ended runs are not walked over each time its limit is checked."""
    client = Client(conn)
    client.new_many(
        [
            {"target": f"a{n}", "rcs_type": "git", "url": f"https://example.org/{n}"}
            for n in range(700)
        ],
        "ada",
    )
    living = client.job_claim("anvil", 1, 1)
    for _ in range(6):
        runs = client.job_claim("anvil", 101, 100)
        client.job_finish_many([run.id for run in runs], ["success"] * len(runs))
    time.sleep(0.6)
    _entries_counting(conn)  # notices that it walks far, and where the living begin
    client.job_finish(living[0].id, "success")
    client.job_claim("anvil", 1, 1)
    time.sleep(0.6)
    _entries_counting(conn)
    assert _entries_counting(conn) < 20


def test_a_released_job_is_seen_at_once(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    """It waits with its old date, which lies before all that the session looks at."""
    [run] = Client(conn).job_claim("slow", 1, 1)
    _claim(claimer)
    _move(conn, f"job_id = {run.id}", "-1 day")
    job = Client(conn).job_release(run.id)
    assert job is not None
    assert _claim(claimer) == job.id


def test_an_unpinned_job_is_seen_at_once(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    client = Client(conn)
    elsewhere = client.machine_new("elsewhere")
    job_id = _waiting(conn)
    client.job_schedule(job_id, elsewhere.id)
    _move(conn, f"job_id = {job_id}", "-1 day")
    _claim(claimer)
    client.job_schedule(job_id, None)
    assert _claim(claimer) == job_id


def test_a_requested_job_is_seen_at_once(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    """Also one that was overdue, which keeps its old date."""
    client = Client(conn)
    for days in (-1, 1):
        job_id = _waiting(conn)
        _move(conn, f"job_id = {job_id}", f"{days} day")
        client.job_request(job_id, "ada")
        assert _claim(claimer) == job_id


def test_an_ordered_job_is_seen_at_once(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    job_id = _waiting(conn)
    _move(conn, f"job_id = {job_id}", "-1 day")
    Client(conn).job_schedule(job_id, None, 1)
    assert _claim(claimer) == job_id


def test_a_new_import_is_seen_at_once(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    _move(conn, "state = 'pending'", "1 day")
    assert _claim(claimer) is None
    made = Client(conn).new("ada", "new", "git", "https://example.org/new")
    [(job_id,)] = conn.execute(
        "select id from vcs.code_import_job where code_import_id = %s", [made.id]
    )
    assert _claim(claimer) == job_id


def test_jobs_of_a_claim_that_was_rolled_back_are_seen_at_once(
    connect: Connect, claimer: psycopg.Connection[Any]
) -> None:
    """Others skip them while they are locked, and yet do not look past them for good."""
    undone = connect(autocommit=False)
    first = [run.id for run in Client(undone).job_claim("doomed", 5, 5)]
    for _ in range(250):
        assert _claim(claimer) not in first
    undone.rollback()
    assert [_claim(claimer) for _ in range(5)] == first


def test_what_nobody_told_of_is_seen_after_a_while(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    job_id = _waiting(conn)
    _move(conn, f"job_id = {job_id}", "-1 day")
    assert _claim(claimer) != job_id
    [(kept,)] = claimer.execute("select current_setting(%s)", [FLOOR])
    key, since, until, *floors = kept.split()
    assert time.time() < float(until) < time.time() + 11
    over = " ".join([key, since, str(time.time()), *floors])
    claimer.execute("select set_config(%s, %s, false)", [FLOOR, over])
    assert _claim(claimer) == job_id


def test_a_floor_is_forgotten_when_the_clock_goes_back(claimer: psycopg.Connection[Any]) -> None:
    """What it hides would be due, and stay hidden until the clock is there again."""
    [(kept,)] = claimer.execute("select current_setting(%s)", [FLOOR])
    key, *rest = kept.split()
    times = [str(float(time_) + 7200) for time_ in rest[:5]]
    claimer.execute("select set_config(%s, %s, false)", [FLOOR, " ".join([key, *times, *rest[5:]])])
    assert _claim(claimer) is not None


def test_a_floor_found_while_something_is_recalled_does_not_hide_it(
    claimer: psycopg.Connection[Any],
) -> None:
    """The walk began before the recall, so it may have missed what was recalled."""
    machine, types = (
        "(select id from vcs.code_import_machine where hostname = 'claiming')",
        ("array['git', 'svn', 'hg', 'cvs', 'bzr']"),
    )
    is_kept = f"select dates[1] > '-infinity' from vcs._claim_floor({machine}, {types})".encode()
    assert claimer.execute(is_kept).fetchone() == (True,)
    claimer.execute("select vcs._recall_claims()")
    claimer.execute(
        f"select vcs._keep_claim_floor({machine}, {types}, true,"
        " array[now(), now(), now()], array[0, 0, 0], 1000)".encode()
    )
    assert claimer.execute(is_kept).fetchone() == (False,)


def test_how_long_a_floor_is_kept_is_no_matter_of_the_callers_digits(
    claimer: psycopg.Connection[Any],
) -> None:
    claimer.execute("set extra_float_digits = -15")
    claimer.execute("select vcs._recall_claims()")
    _claim(claimer)  # notices the recall
    time.sleep(1.1)
    _claim(claimer)
    [(kept,)] = claimer.execute("select current_setting(%s)", [FLOOR])
    since, until = map(float, kept.split()[1:3])
    assert time.time() - 10 < since < time.time() < until < time.time() + 11


def test_the_floor_is_for_the_types_and_the_machine_that_it_was_found_for(
    conn: psycopg.Connection[Any], claimer: psycopg.Connection[Any]
) -> None:
    job_id = _waiting(conn)
    _move(conn, f"job_id = {job_id}", "-1 day")
    query = "select id from vcs.code_import_job_for_machine(%s, 1000, %s)"
    assert claimer.execute(query, ["claiming", ["git"]]).fetchone() == (job_id,)


def test_without_dead_entries_there_is_no_floor(conn: psycopg.Connection[Any]) -> None:
    client = Client(conn)
    for n in range(3):
        client.new("ada", f"a{n}", "git", f"https://example.org/{n}")
        run = client.job_for_machine("anvil", 1)
        assert run is not None
        client.job_finish(run.id, "success")
    assert conn.execute("select current_setting(%s, true)", [FLOOR]).fetchone() in {(None,), ("",)}


def _claim(conn: psycopg.Connection[Any]) -> int | None:
    run = Client(conn).job_for_machine("claiming", 1000)
    return run and run.id


def _entries_of_a_claim(conn: psycopg.Connection[Any]) -> int:
    with conn.transaction():
        [(before,)] = conn.execute("select vcs._entries_read()")
        assert _claim(conn) is not None
        [(after,)] = conn.execute("select vcs._entries_read()")
    return int(after - before)


def _entries_counting(conn: psycopg.Connection[Any]) -> int:
    read = (
        "select pg_stat_get_xact_tuples_returned('vcs._code_import_schedule_running_idx'::regclass)"
    )
    with conn.transaction():
        [(before,)] = conn.execute(read)
        Client(conn).job_claim("anvil", 1, 1)
        [(after,)] = conn.execute(read)
    return int(after - before)


def _waiting(conn: psycopg.Connection[Any]) -> int:
    """The last of the waiting jobs."""
    [(job_id,)] = conn.execute(
        "select id from vcs.code_import_job where state = 'pending' order by date_due desc, id desc"
        " limit 1"
    )
    return int(job_id)


def _move(conn: psycopg.Connection[Any], where: str, by: str) -> None:
    """Make jobs due so long from now; nobody is told."""
    change = f"update vcs._code_import_schedule set date_due = now() + interval '{by}'"
    conn.execute(f"{change} where {where}".encode())
