"""Calls of every public function that changes something, and the scenes in which they meet.

A scene is one import with its job, and one machine. Calls are named as people would tell a story
("suspend", "pin"), so that a pair of them that goes wrong reads as one.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from psycopg import Cursor
from psycopg.rows import class_row, scalar_row

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True)
class Scene:
    """What a call is about."""

    code_import_id: int
    job_id: int
    machine_id: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one public function."""

    function: str
    arguments: str

    def __call__(self, scene: Scene) -> bytes:
        """The statement that makes it in a scene."""
        return f"select * from vcs.{self.function}({self.arguments})".format(
            **asdict(scene)
        ).encode()


def _change(key: str, value: str) -> Call:
    return Call(
        "code_import_update", f"{{code_import_id}}, '{{{{\"{key}\": \"{value}\"}}}}', 'uma'"
    )


CALLS: dict[str, Call] = {
    # what workers do
    "claim": Call("code_import_job_claim", "'one.example.org', 3, 2"),
    "ask": Call("code_import_job_for_machine", "'one.example.org', 1"),
    "start": Call("code_import_job_start", "{job_id}, {machine_id}"),
    "beat": Call("code_import_job_update_heartbeat", "{job_id}, 'Beat.'"),
    "beat for many": Call(
        "code_import_job_update_heartbeats", "array[{job_id}, 0], array['Beats.', '']"
    ),
    "store a log": Call("code_import_log_file_new", "{job_id}, 'Log.'"),
    "finish": Call("code_import_job_finish", "{job_id}, 'success'"),
    "fail": Call("code_import_job_finish", "{job_id}, 'failure_invalid'"),
    "finish many": Call("code_import_job_finish_many", "array[{job_id}, 0], '{{success, killed}}'"),
    "release": Call("code_import_job_release", "{job_id}"),
    "reclaim": Call("code_import_job_reclaim", "{job_id}"),
    "reclaim stale": Call("code_import_job_reclaim_stale", ""),
    "next due": Call("code_import_job_next_due", "'one.example.org'"),
    "tidy up": Call("code_import_tidy_up", ""),
    # what people do with runs
    "kill": Call("code_import_job_kill", "{job_id}, 'kim'"),
    "request job": Call("code_import_job_request", "{job_id}, 'joe'"),
    "request": Call("code_import_request", "{code_import_id}, 'ray', true"),
    "request again": Call("code_import_request_again", "{code_import_id}, 'ann'"),
    "pin": Call("code_import_job_schedule", "{job_id}, {machine_id}, 1, 'pat'"),
    "unpin": Call("code_import_job_schedule", "{job_id}, null, 5, 'pat'"),
    # what people do with imports
    "suspend": _change("review_status", "suspended"),
    "review": _change("review_status", "reviewed"),
    "rename": _change("target", "team/other"),
    "shorten": _change("update_interval", "1 minute"),
    "set url": Call("code_import_set_url", "{code_import_id}, 'https://example.org/other', 'uri'"),
    "try again": Call("code_import_try_again", "{code_import_id}, 'tom'"),
    "delete": Call("code_import_delete", "{code_import_id}, 'dee'"),
    "register": Call("code_import_new", "'rex', 'team/other', 'git', 'https://example.org/other'"),
    "register many": Call(
        "code_import_new_many",
        '\'[{{"target": "team/third", "rcs_type": "git", "url": "https://example.org/other"}}]\','
        " 'rex'",
    ),
    "make job": Call("code_import_job_new", "{code_import_id}"),
    "delete job": Call("code_import_job_delete_pending", "{code_import_id}"),
    # what people do with credentials, and workers
    "store login": Call(
        "code_import_credential_new",
        "'example.org', 'robot', '\\x01', 'key', 'cy', {code_import_id}",
    ),
    "store login of host": Call(
        "code_import_credential_new", "'example.org', 'robot', '\\x01', 'key', 'cy'"
    ),
    "replace login": Call(
        "code_import_credential_replace",
        "(select min(id) from vcs.code_import_credential), 'droid', '\\x02', 'key', 'cy'",
    ),
    "delete login": Call(
        "code_import_credential_delete",
        "(select min(id) from vcs.code_import_credential), 'cy'",
    ),
    "fetch login": Call("code_import_credential_for_job", "{job_id}"),
    # what people do with machines and settings
    "online": Call("code_import_machine_set_online", "{machine_id}"),
    "quiesce": Call("code_import_machine_set_quiescing", "{machine_id}, 'mo'"),
    "offline": Call("code_import_machine_set_offline", "{machine_id}, 'stopped'"),
    "disown": Call("code_import_machine_disown", "{machine_id}, 'mo'"),
    "delete machine": Call("code_import_machine_delete", "{machine_id}, 'mo'"),
    "register machine": Call("code_import_machine_new", "'two.example.org'"),
    "configure": Call("code_import_configure", "'consecutive_failure_limit', '0', 'con'"),
}

SKIPPING = frozenset({"claim", "ask", "reclaim stale", "tidy up"})
"""Calls that take what is free and leave what is locked to whoever has it."""


def load_scenes(conn: psycopg.Connection[Any]) -> None:
    """Put the making of scenes into a test's database. Needs a superuser's connection."""
    conn.execute(Path(__file__).with_name("scenes.sql").read_bytes())


def set_scene(conn: psycopg.Connection[Any], state: str) -> Scene:
    """Empty the database and make one import and one machine, in a state of this name."""
    with Cursor(conn, row_factory=class_row(Scene)) as cur:
        return next(cur.execute("select * from scene.make(%s)", [state]))


def seen(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """All that can be seen, the same for two databases in which the same happened."""
    with Cursor(conn, row_factory=scalar_row) as cur:
        return cast("dict[str, Any]", next(cur.execute("select scene.seen()")))


def documented_errors(conn: psycopg.Connection[Any]) -> dict[str, frozenset[str]]:
    """The SQLSTATEs that the comment of each public function says it raises."""
    rows = conn.execute(
        "select proname, obj_description(oid, 'pg_proc') from pg_proc"
        " where pronamespace = 'vcs'::regnamespace and proname !~ '^_'"
    )
    return {
        name: frozenset(re.findall(r"^error\s+(\w{5})\b", cast("str", comment), re.M))
        for name, comment in rows
    }
