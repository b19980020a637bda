"""Two transactions on one import and machine: every pair of calls, at every isolation level.

Transaction A makes its call and stays open; B makes its own, and waits or not; then A ends. What is
seen afterwards must be what one of the two orders, one after the other, would have left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness import effort
from harness.asking import DONE, ask, ended_or_waiting, outcome, send
from harness.calls import CALLS, SKIPPING, documented_errors, load_scenes, seen, set_scene
from harness.invariants import broken_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from conftest import Connect

    from harness.calls import Scene

pytestmark = effort.marks()

SERIALIZATION_FAILURE = "40001"
NOT_SUPPORTED = "0A000"

FIRST: dict[str, str] = {
    "waiting": "claim, start, request job, pin, suspend, set url, rename, shorten, delete,"
    " quiesce, offline, configure, register, register many",
    "requested": "claim",
    "pinned": "claim, unpin, delete",
    "pinned offline": "delete machine, online, unpin, suspend, request, pin",
    "offline": "pin, online, delete machine",
    "quiescing": "ask, online, offline",
    "running": "beat, beat for many, store a log, finish, finish many, release, reclaim,"
    " reclaim stale, kill, request again, suspend, set url, delete, ask, offline, disown",
    "again": "finish, release, reclaim, suspend",
    "last run": "finish, release, review",
    "later": "request, shorten, set url",
    "failing": "try again, review, delete, delete machine",
}
"""In each scene, the calls that succeed there and are made first."""
SELDOM = frozenset({"make job", "delete job", "next due", "tidy up", "register machine", "fail"})
"""What meets nothing here that others do not meet: made second in long runs alone."""
PAIRS = [(state, first) for state, names in FIRST.items() for first in names.split(", ")]


@dataclass(frozen=True, slots=True)
class Way:
    """How the two transactions meet."""

    level: str
    a_ends: str = "commit"
    b_acts: Literal["meanwhile", "afterwards"] = "meanwhile"
    """Afterwards, its snapshot is older than what A has done."""


USUAL = Way("read committed")
OTHERS = (
    Way("read committed", a_ends="rollback"),
    Way("repeatable read"),
    Way("repeatable read", b_acts="afterwards"),
    Way("serializable"),
)


@dataclass
class Stage:
    """Two connections that meet in scenes, and one that watches them."""

    a: psycopg.Connection[Any]
    b: psycopg.Connection[Any]
    watcher: psycopg.Connection[Any]
    documented: dict[str, frozenset[str]]
    _alone: dict[tuple[str, ...], tuple[dict[str, Any], str]] = field(default_factory=dict)

    def one_after_the_other(self, state: str, *calls: str) -> tuple[dict[str, Any], str]:
        """What is seen, and how the last call ends, when each is a transaction of its own."""
        key = (state, *calls)
        if key not in self._alone:
            scene = set_scene(self.watcher, state)
            outcomes = [ask(self.a, CALLS[name](scene)) for name in calls if name]
            self._alone[key] = (seen(self.watcher), outcomes[-1] if outcomes else DONE)
        return self._alone[key]


@pytest.fixture
def stage(connect: Connect) -> Stage:
    """Connections as a superuser, who is an operator too."""
    a, b = (connect(options="-c lock_timeout=20s -c statement_timeout=30s") for _ in "ab")
    watcher = connect()
    load_scenes(watcher)
    return Stage(a, b, watcher, documented_errors(watcher))


def ways(state: str, first: str, second: str) -> tuple[Way, ...]:
    """All in a long run, else the usual one, and one of the others for every second pair."""
    if effort.is_long():
        return (USUAL, *OTHERS)
    if second in SELDOM:
        return ()
    turn = (PAIRS.index((state, first)) + list(CALLS).index(second)) % (2 * len(OTHERS))
    return (USUAL, *OTHERS[turn : turn + 1])


@pytest.mark.parametrize(("state", "first"), PAIRS, ids=[f"{s}: {f}" for s, f in PAIRS])
def test_every_call_beside_one_that_is_not_yet_committed(
    stage: Stage, state: str, first: str
) -> None:
    """B's call waits for A, or does not; A ends; no more can be seen than one of the two orders."""
    wrong = [
        f"{first}, then {second}, {way}: {what}"
        for second in CALLS
        for way in ways(state, first, second)
        for what in played(stage, state, first, second, way)
    ]
    assert not wrong, "\n".join(wrong)


def played(stage: Stage, state: str, first: str, second: str, way: Way) -> Iterator[str]:
    """Play one pair of calls to its end; what is wrong with it."""
    scene = set_scene(stage.watcher, state)
    claims = NOT_SUPPORTED in stage.documented[CALLS[first].function]
    ask(stage.b, f"begin isolation level {way.level}; select 1 from vcs.code_import".encode())
    begin_a = f"begin isolation level {USUAL.level if claims else way.level}; ".encode()
    if (ended := ask(stage.a, begin_a + CALLS[first](scene))) != DONE:
        yield f"the first call is refused with {ended}"
    if way.b_acts == "meanwhile":
        send(stage.b, CALLS[second](scene) + b"; commit")
        ended_or_waiting(stage.b, stage.watcher)
    a_ended = ask(stage.a, way.a_ends.encode())
    if way.b_acts == "afterwards":
        send(stage.b, CALLS[second](scene) + b"; commit")
    if a_ended not in (DONE, SERIALIZATION_FAILURE):
        yield f"the first call cannot be committed: {a_ended}"
    stays = way.a_ends == "commit" and a_ended == DONE
    yield from judged(stage, state, first if stays else "", second)


def judged(stage: Stage, state: str, first: str, second: str) -> Iterator[str]:
    """What is wrong with how B ends and with what is seen then."""
    ended = outcome(stage.b)
    yield from broken_rules(stage.watcher)
    now = seen(stage.watcher)
    if ended not in stage.documented[CALLS[second].function] | {SERIALIZATION_FAILURE, DONE}:
        yield f"refused with {ended}"
    elif ended in (SERIALIZATION_FAILURE, NOT_SUPPORTED):
        yield from differences(now, stage.one_after_the_other(state, first)[0])
    elif second in SKIPPING and now == stage.one_after_the_other(state, first)[0]:
        pass
    elif now != stage.one_after_the_other(state, second, first)[0]:
        after, ended_after = stage.one_after_the_other(state, first, second)
        if ended != ended_after:
            yield f"{ended}, not {ended_after}"
        yield from differences(now, after)


def differences(now: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Where two things seen are not the same."""
    for name, value in now.items():
        if value != expected[name]:
            yield f"{name}: {value}, not {expected[name]}"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_every_call_on_a_snapshot_from_before_two_runs(stage: Stage, level: str) -> None:
    """It knows a job that waits, but another run of the import goes on, which is left alone."""
    wrong = []
    for name, call in CALLS.items():
        scene = set_scene(stage.watcher, "waiting")
        ask(stage.b, f"begin isolation level {level}; select 1 from vcs.code_import".encode())
        for earlier in ("start", "beat", "store a log", "finish", "request"):
            now = as_of_now(stage.watcher, scene)
            assert ask(stage.a, CALLS[earlier](now)) == DONE
        now = as_of_now(stage.watcher, scene)
        assert ask(stage.a, CALLS["start"](now)) == DONE
        before = stage.watcher.execute("select * from vcs.code_import_job").fetchall()
        ended = ask(stage.b, call(scene) + b"; commit")
        if ended not in stage.documented[call.function] | {SERIALIZATION_FAILURE, DONE}:
            wrong.append(f"{name} is refused with {ended}")
        after = stage.watcher.execute(
            "select * from vcs.code_import_job where code_import_id = %s", [scene.code_import_id]
        ).fetchall()
        wrong += [f"{name} changes the run"] * (after != before)
        wrong += [f"{name}: {rule}" for rule in broken_rules(stage.watcher)]
    assert not wrong, "\n".join(wrong)


def as_of_now(conn: psycopg.Connection[Any], scene: Scene) -> Scene:
    """The scene with the job that its import has by now."""
    row = conn.execute("select scene.job_of(%s)", [scene.code_import_id]).fetchone()
    assert row is not None
    return replace(scene, job_id=row[0])
