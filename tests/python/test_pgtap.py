"""The pgTAP files, each in one transaction that is rolled back, on every server.

Read alone, their output is the specification of the SQL.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from harness import servers

ROOT = Path(__file__).parents[2]
PGTAP = ROOT / "tests" / "pgtap"
SQL = ROOT / "sql"

# The settings of a caller from elsewhere, on all servers but the newest: nothing depends on them.
ELSEWHERE = """
    set timezone = 'America/St_Johns';
    set datestyle = 'SQL, DMY';
    set intervalstyle = 'sql_standard';
    set bytea_output = 'escape';
    set extra_float_digits = 0;
"""


def files(directory: Path) -> set[str]:
    """The SQL files below a directory, as paths without their ending."""
    found = (path.relative_to(directory).with_suffix("") for path in directory.rglob("*.sql"))
    return {path.as_posix() for path in found}


TESTS = files(PGTAP) - {"support"}


@pytest.mark.sql
@pytest.mark.parametrize("name", sorted(TESTS))
def test_pgtap(name: str, server: servers.Server, tap_dsn: str) -> None:
    """Every line of the file's output is an ``ok``, and there are as many as it planned."""
    text = (PGTAP / f"{name}.sql").read_bytes()
    with psycopg.connect(tap_dsn, autocommit=True) as conn:
        if server.major != max(servers.builds()):
            conn.execute(ELSEWHERE)
        conn.execute("set search_path = tap; set client_min_messages = warning")
        tap, error = run(conn, text)
        status = conn.info.transaction_status
    assert error is None, "\n".join([*tap, error or ""])
    assert status == pq.TransactionStatus.IDLE, "the file has to end with rollback"
    assert not complaints(tap), "\n".join(complaints(tap))


def run(conn: psycopg.Connection[tuple[object, ...]], text: bytes) -> tuple[list[str], str | None]:
    """All lines that a script's queries return, and the error that ended it, if one did.

    Below psycopg's own ``execute``, which would forget the lines before an error.
    """
    lines: list[str] = []
    conn.pgconn.send_query(text)
    error = None
    while result := conn.pgconn.get_result():
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error = result.error_message.decode()
        for row in range(result.ntuples):
            value = result.get_value(row, 0)
            lines += value.decode().splitlines() if value is not None else []
    return lines, error


def complaints(tap: list[str]) -> list[str]:
    """What is wrong with a TAP stream: failures with their diagnostics, and a wrong count."""
    counted = Counter(line.split()[0] for line in tap if re.match(r"(not )?ok\b", line))
    planned = [int(line[3:]) for line in tap if re.fullmatch(r"1\.\.\d+", line)]
    wrong = [line for line in tap if line.startswith(("#", "not ok"))]
    if planned != [counted.total()]:
        wrong.append(f"planned {planned}, ran {counted.total()}")
    return wrong


def test_a_failure_is_seen() -> None:
    """The reader of TAP knows a good stream, a failed line, and a test that did not run."""
    assert complaints(["1..2", "ok 1 - a", "ok 2 - b"]) == []
    assert complaints(["1..1", "not ok 1 - a", "# Failed test 1"]) == [
        "not ok 1 - a",
        "# Failed test 1",
    ]
    assert complaints(["1..2", "ok 1 - a"]) == ["planned [2], ran 1"]
    assert complaints([]) == ["planned [], ran 0"]


def test_no_public_file_of_sql_lacks_a_test() -> None:
    """A function or view is tested by the file at the same path; helpers by those who use them."""
    public = {
        name for name in files(SQL) if re.search(r"(^|/)code_import", name.rsplit("/", 1)[-1])
    }
    assert public, "no public object in sql/"
    assert sorted(public - TESTS) == []


def test_no_test_file_has_lost_its_subject() -> None:
    """Whatever is not a house rule mirrors a file of sql/."""
    subjects = {name for name in TESTS if not name.startswith(("catalog/", "rules/"))}
    assert sorted(subjects - files(SQL)) == []
