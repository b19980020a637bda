"""Every call that changes something, the scenes in which they meet, and what they leave behind.

A scene is one import with its job and one machine. Calls are named as people would tell a story
("suspend", "pin"), so that a failing pair reads as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from psycopg import Cursor
from psycopg.rows import class_row, scalar_row

from code_import.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

HOSTNAME = "one.example.org"
OTHER_URL = "https://example.org/other"
OTHER_TARGET = "team/other"


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
    make: Callable[[Client, Scene], object]

    def __call__(self, conn: psycopg.Connection[Any], scene: Scene) -> object:
        return self.make(Client(conn), scene)


def _update(**changes: str) -> Call:
    return Call("code_import_update", lambda c, s: c.update(s.code_import_id, changes, "uma"))


CALLS: dict[str, Call] = {
    # what workers do
    "claim": Call("code_import_job_claim", lambda c, _: c.job_claim(HOSTNAME, 3, 2)),
    "ask": Call("code_import_job_for_machine", lambda c, _: c.job_for_machine(HOSTNAME, 1)),
    "start": Call("code_import_job_start", lambda c, s: c.job_start(s.job_id, s.machine_id)),
    "beat": Call(
        "code_import_job_update_heartbeat", lambda c, s: c.job_update_heartbeat(s.job_id, "Beat.")
    ),
    "beat for many": Call(
        "code_import_job_update_heartbeats",
        lambda c, s: c.job_update_heartbeats([s.job_id, 0], ["Beats.", ""]),
    ),
    "store a log": Call("code_import_log_file_new", lambda c, s: c.log_file_new(s.job_id, b"Log.")),
    "finish": Call("code_import_job_finish", lambda c, s: c.job_finish(s.job_id, "success")),
    "fail": Call("code_import_job_finish", lambda c, s: c.job_finish(s.job_id, "failure_invalid")),
    "finish many": Call(
        "code_import_job_finish_many",
        lambda c, s: c.job_finish_many([s.job_id, 0], ["success", "killed"]),
    ),
    "release": Call("code_import_job_release", lambda c, s: c.job_release(s.job_id)),
    "reclaim": Call("code_import_job_reclaim", lambda c, s: c.job_reclaim(s.job_id)),
    "reclaim stale": Call("code_import_job_reclaim_stale", lambda c, _: c.job_reclaim_stale()),
    "next due": Call("code_import_job_next_due", lambda c, _: c.job_next_due(HOSTNAME)),
    "tidy up": Call("code_import_tidy_up", lambda c, _: c.tidy_up()),
    # what people do with runs
    "kill": Call("code_import_job_kill", lambda c, s: c.job_kill(s.job_id, "kim")),
    "request job": Call("code_import_job_request", lambda c, s: c.job_request(s.job_id, "joe")),
    "request": Call("code_import_request", lambda c, s: c.request(s.code_import_id, "ray", True)),
    "request again": Call(
        "code_import_request_again", lambda c, s: c.request_again(s.code_import_id, "ann")
    ),
    "pin": Call(
        "code_import_job_schedule", lambda c, s: c.job_schedule(s.job_id, s.machine_id, 1, "pat")
    ),
    "unpin": Call(
        "code_import_job_schedule", lambda c, s: c.job_schedule(s.job_id, None, 5, "pat")
    ),
    # what people do with imports
    "suspend": _update(review_status="suspended"),
    "review": _update(review_status="reviewed"),
    "rename": _update(target=OTHER_TARGET),
    "shorten": _update(update_interval="1 minute"),
    "set url": Call(
        "code_import_set_url", lambda c, s: c.set_url(s.code_import_id, OTHER_URL, "uri")
    ),
    "try again": Call("code_import_try_again", lambda c, s: c.try_again(s.code_import_id, "tom")),
    "delete": Call("code_import_delete", lambda c, s: c.delete(s.code_import_id, "dee")),
    "register": Call("code_import_new", lambda c, _: c.new("rex", OTHER_TARGET, "git", OTHER_URL)),
    "register many": Call(
        "code_import_new_many",
        lambda c, _: c.new_many(
            [{"target": "team/third", "rcs_type": "git", "url": OTHER_URL}], "rex"
        ),
    ),
    "make job": Call("code_import_job_new", lambda c, s: c.job_new(s.code_import_id)),
    "delete job": Call(
        "code_import_job_delete_pending", lambda c, s: c.job_delete_pending(s.code_import_id)
    ),
    # what people do with machines and settings
    "online": Call(
        "code_import_machine_set_online", lambda c, s: c.machine_set_online(s.machine_id)
    ),
    "quiesce": Call(
        "code_import_machine_set_quiescing",
        lambda c, s: c.machine_set_quiescing(s.machine_id, "mo"),
    ),
    "offline": Call(
        "code_import_machine_set_offline",
        lambda c, s: c.machine_set_offline(s.machine_id, "stopped"),
    ),
    "disown": Call("code_import_machine_disown", lambda c, s: c.machine_disown(s.machine_id, "mo")),
    "delete machine": Call(
        "code_import_machine_delete", lambda c, s: c.machine_delete(s.machine_id, "mo")
    ),
    "configure": Call(
        "code_import_configure", lambda c, _: c.configure("consecutive_failure_limit", "0", "con")
    ),
}

SKIPPING = frozenset({"claim", "ask", "reclaim stale", "tidy up"})
"""Calls that take what is free and leave what is locked to whoever has it."""


# --- scenes ------------------------------------------------------------------------------------


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
