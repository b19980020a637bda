"""Calls at other isolation levels than READ COMMITTED: right, or refused, and never wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import IsolationLevel

from harness.waiting import wait_until_blocked

if TYPE_CHECKING:
    from conftest import Connect

pytestmark = pytest.mark.sql

STRICTER = [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
CLAIMS = [
    "select * from vcs.code_import_job_for_machine('anvil', 1)",
    "select * from vcs.code_import_job_claim('anvil', 1, 1)",
]


@pytest.fixture
def job_id(conn: psycopg.Connection[Any]) -> int:
    """An import's job, due now."""
    conn.execute("select vcs.code_import_new('ada', 'a', 'git', 'https://example.org/a')")
    row = conn.execute("select id from vcs.code_import_job").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("level", STRICTER, ids=lambda level: level.name)
@pytest.mark.parametrize("claim", CLAIMS, ids=["for_machine", "claim"])
def test_claims_need_read_committed(
    claim: str, level: IsolationLevel, connect: Connect, job_id: int
) -> None:
    """A limit cannot be kept on an old snapshot: 0A000 with a hint, and nothing is changed."""
    conn = connect(autocommit=False)
    conn.isolation_level = level
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        conn.execute(claim.encode())
    assert refused.value.diag.message_hint
    conn.rollback()
    row = connect().execute("select state from vcs.code_import_job where id = %s", [job_id])
    assert row.fetchone() == ("pending",)
    assert connect().execute("select from vcs.code_import_machine").fetchone() is None


def test_read_uncommitted_is_read_committed(connect: Connect, job_id: int) -> None:
    """PostgreSQL has no lower level, so a claim that asks for one is not refused."""
    conn = connect(autocommit=False)
    conn.isolation_level = IsolationLevel.READ_UNCOMMITTED
    row = conn.execute("select id from vcs.code_import_job_for_machine('anvil', 1)").fetchone()
    assert row == (job_id,)


@pytest.mark.parametrize("level", STRICTER, ids=lambda level: level.name)
def test_of_two_finishes_on_old_snapshots_one_has_to_be_tried_again(
    level: IsolationLevel, connect: Connect, job_id: int
) -> None:
    """The second gets a retryable 40001, and tried again the first result."""
    first, second = connect(autocommit=False), connect(autocommit=False)
    watcher = connect()
    watcher.execute("select * from vcs.code_import_job_for_machine('anvil', 1)")
    first.isolation_level = second.isolation_level = level
    finish = "select id from vcs.code_import_job_finish(%s, 'success')"
    second.execute("select 1 from vcs.code_import_job")  # its snapshot is older than the finish
    result = first.execute(finish, [job_id]).fetchone()
    second.pgconn.send_query_params(
        b"select id from vcs.code_import_job_finish($1, 'success')", [str(job_id).encode()]
    )
    wait_until_blocked(watcher, second.info.backend_pid, by=first.info.backend_pid)
    first.commit()
    answer = second.pgconn.get_result()
    assert answer is not None
    assert answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"40001"
    while second.pgconn.get_result():
        pass
    second.rollback()
    assert second.execute(finish, [job_id]).fetchone() == result


@pytest.mark.parametrize("level", STRICTER, ids=lambda level: level.name)
@pytest.mark.parametrize(
    "call",
    [
        "select vcs.code_import_job_update_heartbeat(%(job)s, 'x')",
        "select vcs.code_import_job_update_heartbeats(array[%(job)s]::bigint[], array['x'])",
        "select vcs.code_import_job_finish(%(job)s, 'success')",
        "select vcs.code_import_job_finish_many(array[%(job)s]::bigint[], array['success'])",
        "select vcs.code_import_job_release(%(job)s)",
    ],
)
def test_a_run_that_began_after_the_snapshot_is_not_called_gone(
    call: str, level: IsolationLevel, connect: Connect, job_id: int
) -> None:
    """On a snapshot in which its job waits, a call for a run gets a retryable 40001."""
    conn = connect(autocommit=False)
    conn.isolation_level = level
    conn.execute("select 1 from vcs.code_import_job")
    connect().execute("select * from vcs.code_import_job_for_machine('anvil', 1)")
    with pytest.raises(psycopg.errors.SerializationFailure):
        conn.execute(call.encode(), {"job": job_id})
