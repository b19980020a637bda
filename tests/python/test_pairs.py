"""Two transactions on one import and machine: every pair of calls, at two isolation levels.

Transaction A makes its call and stays open; B makes its own, and waits or not; then A ends. What is
seen afterwards must be what one of the two orders, one after the other, would have left.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import IsolationLevel

from code_import.errors import CodeImportError
from harness.calls import CALLS, SKIPPING, documented_errors, load_scenes, seen, set_scene
from harness.invariants import broken_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from conftest import Connect

    from harness.calls import Call, Scene

DONE = "done"
SERIALIZATION_FAILURE = "40001"
NOT_SUPPORTED = "0A000"

FIRST: dict[str, str] = {
    "waiting": "claim, start, request job, pin, suspend, set url, rename, shorten, delete,"
    " quiesce, offline, configure, register, register many",
    "requested": "claim, pin",
    "pinned": "claim, unpin, suspend, delete",
    "pinned offline": "delete machine, online, unpin, suspend, request, pin",
    "quiescing": "ask, online, offline",
    "running": "beat, beat for many, store a log, finish, fail, finish many, release, reclaim,"
    " reclaim stale, next due, tidy up, kill, request again, suspend, set url, delete, ask,"
    " offline, disown",
    "again": "finish, release, reclaim, suspend",
    "last run": "finish, release, reclaim, review",
    "later": "request, shorten, set url",
    "failing": "try again, review, delete, delete machine",
}
"""In each scene, the calls that succeed there and are made first."""
PAIRS = [(state, first) for state, names in FIRST.items() for first in names.split(", ")]


@dataclass
class Stage:
    """Two transactions, somebody who watches them, and a thread for the one that may wait."""

    a: psycopg.Connection[Any]
    b: psycopg.Connection[Any]
    watcher: psycopg.Connection[Any]
    threads: ThreadPoolExecutor
    documented: dict[str, frozenset[str]]
    _alone: dict[tuple[str, ...], tuple[dict[str, Any], str]] = field(default_factory=dict)

    def one_after_the_other(self, state: str, *calls: str) -> tuple[dict[str, Any], str]:
        """What is seen, and how the last call ends, when each is a transaction of its own."""
        key = (state, *calls)
        if key not in self._alone:
            scene = set_scene(self.watcher, state)
            self.a.set_autocommit(True)
            outcomes = [outcome(CALLS[name], self.a, scene) for name in calls]
            self._alone[key] = (seen(self.watcher), outcomes[-1])
        return self._alone[key]

    def begin(self, conn: psycopg.Connection[Any], level: IsolationLevel) -> None:
        """Open a transaction, with its snapshot taken above READ COMMITTED."""
        conn.set_autocommit(False)
        conn.set_isolation_level(level)
        conn.execute("select 1 from vcs.code_import")

    def wait_for_b(self, b: Future[str]) -> None:
        """Return when B's call has ended or waits for A."""
        waiting = "select %s = any (pg_blocking_pids(%s))"
        pids = [self.a.info.backend_pid, self.b.info.backend_pid]
        while not wait([b], timeout=0.002).done:
            if self.watcher.execute(waiting, pids).fetchone() == (True,):
                break


@pytest.fixture
def stage(connect: Connect) -> Iterator[Stage]:
    """Three connections as a superuser, who is an operator too."""
    options = "-c lock_timeout=20s -c statement_timeout=30s"
    watcher = connect()
    load_scenes(watcher)
    with ThreadPoolExecutor(1) as threads:
        yield Stage(
            connect(options=options),
            connect(options=options),
            watcher,
            threads,
            documented_errors(watcher),
        )


def outcome(call: Call, conn: psycopg.Connection[Any], scene: Scene) -> str:
    """Make a call: ``done``, or the SQLSTATE of its refusal."""
    try:
        call(conn, scene)
    except (CodeImportError, psycopg.Error) as error:
        if not conn.autocommit:
            conn.rollback()
        return error.sqlstate or str(error)
    return DONE


def committed(call: Call, conn: psycopg.Connection[Any], scene: Scene) -> str:
    """Make a call and commit it: ``done``, or the SQLSTATE of its refusal."""
    ended = outcome(call, conn, scene)
    if ended == DONE and not conn.autocommit:
        try:
            conn.commit()
        except psycopg.Error as error:
            conn.rollback()
            return error.sqlstate or str(error)
    return ended


@pytest.mark.parametrize(("state", "first"), PAIRS, ids=[f"{s}: {f}" for s, f in PAIRS])
def test_every_call_beside_one_that_is_not_yet_committed(
    stage: Stage, state: str, first: str
) -> None:
    """B's call waits for A, or does not; A commits; both orders are all that can be seen."""
    wrong = []
    for second in CALLS:
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ):
            wrong += [
                f"{first}, then {second} at {level.name}: {what}"
                for what in played(stage, state, first, second, level)
            ]
    assert not wrong, "\n".join(wrong)


def played(
    stage: Stage, state: str, first: str, second: str, level: IsolationLevel
) -> Iterator[str]:
    """Play one pair of calls to its end; what is wrong with it."""
    scene = set_scene(stage.watcher, state)
    claims = NOT_SUPPORTED in stage.documented[CALLS[first].function]
    stage.begin(stage.a, IsolationLevel.READ_COMMITTED if claims else level)
    stage.begin(stage.b, level)
    if (ended := outcome(CALLS[first], stage.a, scene)) != DONE:
        yield f"the first call is refused with {ended}"
    b = stage.threads.submit(committed, CALLS[second], stage.b, scene)
    stage.wait_for_b(b)
    stage.a.commit()
    yield from judged(stage, state, first, second, b.result(30))


def judged(stage: Stage, state: str, first: str, second: str, ended: str) -> Iterator[str]:
    """What is wrong with how B ended and with what is seen then."""
    yield from broken_rules(stage.watcher)
    now = seen(stage.watcher)
    if ended not in stage.documented[CALLS[second].function] | {SERIALIZATION_FAILURE, DONE}:
        yield f"refused with {ended}"
    elif ended in (SERIALIZATION_FAILURE, NOT_SUPPORTED):
        yield from differences(now, stage.one_after_the_other(state, first)[0])
    elif not {first, second} & SKIPPING:
        before, _ = stage.one_after_the_other(state, second, first)
        after, ended_after = stage.one_after_the_other(state, first, second)
        if now != before and (now, ended) != (after, ended_after):
            yield f"{ended}, not {ended_after}"
            yield from differences(now, after)


def differences(now: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Where two things seen are not the same."""
    for name, value in now.items():
        if value != expected[name]:
            yield f"{name}: {value}, not {expected[name]}"
