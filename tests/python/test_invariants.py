"""The query that the other tests rely on does see what is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.calls import load_scenes, set_scene
from harness.invariants import broken_rules

if TYPE_CHECKING:
    import psycopg

JOB = "update vcs._code_import_schedule set "
RESULT = "update vcs._code_import_result set "
EVENT = "update vcs._code_import_event set "
BROKEN = [
    ("waiting", "delete from vcs._code_import_schedule", "an import that has events is there"),
    ("pinned", "delete from vcs._code_import_machine", "the machine of a job exists"),
    ("running", "insert into vcs._code_import_logtail values (0, '')", "has a logtail"),
    ("running", f"{JOB} heartbeat = date_started - interval '1 s'", "beats from then on"),
    ("running", f"{JOB} review_status = 'suspended'", "the events tell what an import is"),
    ("running", f"{JOB} date_last_successful = now()", "an import has published iff"),
    ("running", f"{JOB} consecutive_failure_count = 1", "failures are counted since"),
    ("later", f"{JOB} date_last_successful = now()", "the newest successful result"),
    ("later", f"{JOB} job_id = 0", "job ids grow within an import"),
    ("later", f"{RESULT} id = start_event_id - 1", "from the start of a run to its end"),
    ("later", f"{RESULT} status = 'reclaimed'", "its reclaim event before its finish"),
    ("later", "delete from vcs._code_import_result", "the newest successful result"),
    ("later", "delete from vcs._code_import_event", "the first event of an import is its creation"),
    (
        "later",
        f"{EVENT} id = (select id from vcs._code_import_result) where event_type = 'publish'",
        "event ids are unique",
    ),
    ("offline", "update vcs._code_import_machine set state = 'online'", "the state of a machine"),
]


@pytest.mark.parametrize(("state", "statement", "rule"), BROKEN, ids=[rule for *_, rule in BROKEN])
def test_a_broken_rule_is_named(
    conn: psycopg.Connection[Any], state: str, statement: str, rule: str
) -> None:
    """Each statement that only the owner could run breaks the rule that is named."""
    load_scenes(conn)
    set_scene(conn, state)
    assert broken_rules(conn) == []
    conn.execute("alter table vcs._code_import_schedule disable trigger all")
    conn.execute(statement.encode())
    assert any(rule in broken for broken in broken_rules(conn)), broken_rules(conn)
