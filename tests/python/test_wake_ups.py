"""Workers are woken when a job becomes due now, once a transaction, and at no other time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from conftest import Connect

pytestmark = pytest.mark.sql

CHANNEL = "code_import_job_due"


@pytest.fixture
def woken_by(connect: Connect) -> Callable[..., list[str]]:
    """Run statements in one transaction; the payloads of the notifications that it sent."""
    listener, caller = connect(), connect()
    listener.execute(f"listen {CHANNEL}")

    def payloads(*statements: str) -> list[str]:
        # Notifications come in the order of commits: what is between these two is what was sent.
        caller.execute(f"notify {CHANNEL}, 'begin'")
        with caller.transaction():
            for statement in statements:
                caller.execute(statement.encode())
        caller.execute(f"notify {CHANNEL}, 'end'")
        heard: list[str] = []
        for notice in listener.notifies(timeout=20):
            heard.append(notice.payload)
            if notice.payload == "end":
                break
        assert heard[-1:] == ["end"], "the listener has to hear the end"
        return heard[heard.index("begin") + 1 : -1]

    return payloads


def new(conn: psycopg.Connection[Any], name: str, status: str = "reviewed") -> int:
    row = conn.execute(
        "select id from vcs.code_import_new('ada', %s, 'git', %s, p_review_status => %s)",
        [name, f"https://example.org/{name}", status],
    ).fetchone()
    assert row is not None
    return int(row[0])


def job_of(conn: psycopg.Connection[Any], import_id: int) -> int:
    row = conn.execute(
        "select id from vcs.code_import_job where code_import_id = %s", [import_id]
    ).fetchone()
    assert row is not None
    return int(row[0])


def run_of(conn: psycopg.Connection[Any], import_id: int) -> int:
    """Claim whatever is due until this import runs."""
    conn.execute("select * from vcs.code_import_job_claim('anvil', 1000, 1000)")
    return job_of(conn, import_id)


def due_later(conn: psycopg.Connection[Any], import_id: int) -> None:
    conn.execute(
        "update vcs._code_import_schedule set date_due = now() + interval '1 h'"
        " where code_import_id = %s",
        [import_id],
    )


def test_a_new_import_wakes(woken_by: Callable[..., list[str]]) -> None:
    """A reviewed one, alone or among many, with an empty payload; one that waits for review not."""
    call = "select vcs.code_import_new('ada', '{0}', 'git', 'https://example.org/{0}')"
    assert woken_by(call.format("a")) == [""]
    assert woken_by(call.format("b"), call.format("c")) == [""]
    assert woken_by(call.format("d").replace("')", "', p_review_status => 'new')")) == []
    many = '[{"target": "e", "rcs_type": "git", "url": "https://example.org/e"}]'
    assert woken_by(f"select * from vcs.code_import_new_many('{many}', 'ada')") == [""]


def test_a_refused_call_wakes_nobody(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """What is rolled back is not heard of."""
    new(conn, "a")
    many = '[{"target": "a", "rcs_type": "git", "url": "https://example.org/b"}]'
    assert woken_by(f"select * from vcs.code_import_new_many('{many}', 'ada')") == []


def test_requests_wake(conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]) -> None:
    """The first request does, however made; one that is kept for later does not."""
    a, b, c = (new(conn, name) for name in "abc")
    run = run_of(conn, c)
    for import_id in (a, b):
        conn.execute("select * from vcs.code_import_job_release(%s)", [job_of(conn, import_id)])
        due_later(conn, import_id)
    assert woken_by(f"select vcs.code_import_job_request({job_of(conn, a)}, 'bob')") == [""]
    assert woken_by(f"select vcs.code_import_request({a}, 'eve')") == []
    assert woken_by(f"select vcs.code_import_request({b}, 'bob')") == [""]
    assert woken_by(f"select vcs.code_import_request_again({c}, 'bob')") == []
    assert woken_by(f"select vcs.code_import_job_finish({run}, 'success')") == [""]


def test_the_end_of_a_run_wakes_if_the_next_is_due(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """Partial, reclaimed and released runs do; one whose next job is due later does not."""
    partial, plain, failed, reclaimed, released, later, many = (
        new(conn, name) for name in "abcdefg"
    )
    run_of(conn, partial)
    due_later(conn, later)

    def finish(import_id: int, status: str) -> str:
        return f"select vcs.code_import_job_finish({job_of(conn, import_id)}, '{status}')"

    assert woken_by(finish(plain, "success")) == []
    assert woken_by(finish(failed, "failure")) == []
    assert woken_by(finish(partial, "success_partial")) == [""]
    assert woken_by(f"select vcs.code_import_job_reclaim({job_of(conn, reclaimed)})") == [""]
    assert woken_by(f"select * from vcs.code_import_job_release({job_of(conn, released)})") == [""]
    assert woken_by(f"select * from vcs.code_import_job_release({job_of(conn, later)})") == []
    ids = f"array[{job_of(conn, many)}]"
    call = f"select * from vcs.code_import_job_finish_many({ids}, array['{{}}'])"
    assert woken_by(call.format("success_partial")) == [""]
    run_of(conn, many)
    ids = f"array[{job_of(conn, many)}]"
    call = f"select * from vcs.code_import_job_finish_many({ids}, array['{{}}'])"
    assert woken_by(call.format("success")) == []


def test_reclaiming_what_is_stale_wakes(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """Once, however many; and not when there is nothing to reclaim."""
    assert woken_by("select vcs.code_import_job_reclaim_stale()") == []
    run_of(conn, new(conn, "a"))
    run_of(conn, new(conn, "b"))
    conn.execute(
        "update vcs._code_import_schedule"
        " set heartbeat = now() - interval '1 h', date_started = now() - interval '1 h'"
    )
    conn.execute("update vcs._code_import_machine set oldest_start = now() - interval '2 h'")
    assert woken_by("select vcs.code_import_job_reclaim_stale()") == [""]


def test_scheduling_wakes_if_it_is_due(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """Pinned or unpinned; not a job that is due later."""
    a, b = new(conn, "a"), new(conn, "b")
    due_later(conn, b)
    conn.execute("select vcs.code_import_machine_new('anvil', 'online')")
    pin = "select vcs.code_import_job_schedule({}, (select id from vcs.code_import_machine))"
    assert woken_by(pin.format(job_of(conn, a))) == [""]
    assert woken_by(f"select vcs.code_import_job_schedule({job_of(conn, a)}, null)") == [""]
    assert woken_by(pin.format(job_of(conn, b))) == []


def test_changes_wake_if_they_pull_a_job_in(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """A new source, a shorter interval, a review; not a new owner, nor a longer interval."""
    import_id, unreviewed = new(conn, "a"), new(conn, "b", "new")
    conn.execute("select vcs.code_import_job_finish(%s, 'success')", [run_of(conn, import_id)])

    def change(changes: str, of: int = import_id) -> str:
        return f"select * from vcs.code_import_update({of}, '{changes}')"

    assert woken_by(change('{"owner": "bob"}')) == []
    assert woken_by(change('{"update_interval": "1 day"}')) == []
    assert woken_by(change('{"update_interval": "5 h"}')) == []
    assert woken_by(change('{"url": "https://example.org/new"}')) == [""]
    assert woken_by(change('{"review_status": "reviewed"}', unreviewed)) == [""]
    conn.execute("select vcs.code_import_job_finish(%s, 'success')", [run_of(conn, import_id)])
    conn.execute("update vcs._code_import_schedule set date_last_started = now() - interval '2 h'")
    assert woken_by(change('{"update_interval": "1 h"}')) == [""]


def test_heartbeats_and_starts_wake_nobody(
    conn: psycopg.Connection[Any], woken_by: Callable[..., list[str]]
) -> None:
    """Nor does anything else that makes no job due."""
    job_id = run_of(conn, new(conn, "a"))
    assert woken_by(f"select vcs.code_import_job_update_heartbeat({job_id}, 'x')") == []
    call = f"select * from vcs.code_import_job_update_heartbeats(array[{job_id}], array['x'])"
    assert woken_by(call) == []
    assert woken_by(f"select vcs.code_import_job_kill({job_id}, 'bob')") == []
    assert woken_by("select * from vcs.code_import_job_claim('bellows', 1, 1)") == []
    assert woken_by("select * from vcs.code_import_tidy_up()") == []
    assert woken_by(f"select vcs.code_import_job_finish({job_id}, 'killed')") == []
