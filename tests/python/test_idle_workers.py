"""What idle workers ask of the database: little, however many they are, and enough for each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from code_import.client import Client
from code_import.worker import work
from code_import.worker.database import Database, Prospect, prospect
from code_import.worker.work import ASK_AT_LEAST, WOKEN, Claims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from conftest import Connect, Roles

QUIET = Prospect("online", None, 1, None)
FLEET = 1_000


@dataclass
class FakeDatabase:
    """Answers with what lies ahead, and counts what it is asked."""

    ahead: Prospect = QUIET
    claimed: list[Any] = field(default_factory=list)
    claims: int = 0
    looks: int = 0

    def call(self, _: Callable[[Client], Any]) -> Any:
        """A claim."""
        self.claims += 1
        return self.claimed

    def look(self, _: Callable[[Any], Any]) -> Prospect:
        """A look at what lies ahead."""
        self.looks += 1
        return self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Lets time pass."""
    at = [1_000_000.0]
    monkeypatch.setattr(work, "now", lambda: at[0])
    state = random.getstate()
    random.seed(5)

    def pass_by(seconds: float) -> None:
        at[0] += seconds

    yield pass_by
    random.setstate(state)


def worker(idle: int = 1) -> Claims:
    return Claims("idle.example.org", 3, ["git"], _idle=idle)


# --- notifications -----------------------------------------------------------------------------


def test_one_notification_wakes_a_few_of_many(clock: Callable[[float], None]) -> None:
    for _ in range(20):
        delays = [worker(FLEET).heard(1) for _ in range(FLEET)]
        woken = [delay for delay in delays if delay is not None]
        assert WOKEN / 4 < len(woken) <= 2 * WOKEN
        assert min(woken) < 0.01
        assert max(woken) < 0.05


def test_in_a_small_fleet_it_wakes_all(clock: Callable[[float], None]) -> None:
    delays = [worker(WOKEN).heard(1) for _ in range(FLEET)]
    assert None not in delays
    assert worker(1).heard(1) == 0


def test_as_many_notifications_as_workers_wake_all(clock: Callable[[float], None]) -> None:
    assert None not in [worker(FLEET).heard(FLEET) for _ in range(FLEET)]
    one_by_one = [worker(FLEET) for _ in range(FLEET)]
    woken = {
        place
        for _ in range(FLEET)
        for place, one in enumerate(one_by_one)
        if one.heard(1) is not None
    }
    assert len(woken) == FLEET


# --- sleeping ----------------------------------------------------------------------------------


def pass_time(
    database: FakeDatabase, one: Claims, clock: Callable[[float], None], seconds: float
) -> None:
    """Let a worker ask for that long, with nothing to wake it."""
    while seconds > 0:
        sleep = one.find(database, 3).again_in  # type: ignore[arg-type]
        clock(sleep)
        seconds -= sleep


@pytest.mark.parametrize("idle", [1, 30, 100, 480, FLEET, 5_000])
def test_a_fleet_asks_little_however_large_it_is(idle: int, clock: Callable[[float], None]) -> None:
    database = FakeDatabase(replace(QUIET, idle=idle))
    one, hour = worker(), 3_600.0 * 3
    pass_time(database, one, clock, hour)
    statements = database.looks + 4 * database.claims  # begin, set_config, claim, commit
    assert statements / hour * idle < 18
    assert database.looks >= hour / max(ASK_AT_LEAST, idle / 8)
    assert database.claims >= hour / max(ASK_AT_LEAST, idle)


def test_a_machine_claims_before_it_counts_as_silent(clock: Callable[[float], None]) -> None:
    database = FakeDatabase(replace(QUIET, idle=FLEET, silent_after=90.0))
    one = worker()
    pass_time(database, one, clock, 3_600)
    assert database.claims >= 3_600 / 30


def test_what_falls_due_is_not_asked_for_by_all_at_once(clock: Callable[[float], None]) -> None:
    database = FakeDatabase(replace(QUIET, idle=FLEET, due_in=10.0))
    sleeps = []
    for _ in range(FLEET):
        one = worker()
        one.find(database, 3)  # type: ignore[arg-type]
        sleeps.append(one.find(database, 3).again_in)  # type: ignore[arg-type]
    assert min(sleeps) < 10.3
    assert sum(sleep < 11 for sleep in sleeps) < 50
    alone = FakeDatabase(replace(QUIET, due_in=10.0))
    assert worker().find(alone, 3).again_in <= 10.25  # type: ignore[arg-type]


def test_it_claims_when_a_look_shows_something_due(clock: Callable[[float], None]) -> None:
    database = FakeDatabase(replace(QUIET, idle=FLEET))
    one = worker()
    one.find(database, 3)  # type: ignore[arg-type]
    one.find(database, 3)  # type: ignore[arg-type]
    assert database.claims == 1
    database.ahead = replace(database.ahead, due_in=0.0)
    database.claimed = ["a run"]
    found: list[Any] = one.find(database, 3).assignments  # type: ignore[arg-type]
    assert found == ["a run"]
    database.ahead = QUIET
    one.find(database, 2)  # type: ignore[arg-type]
    assert database.claims == 3, "where one run was, there may be more"


def test_a_machine_that_is_unknown_registers_itself(clock: Callable[[float], None]) -> None:
    database = FakeDatabase(replace(QUIET, state=None, idle=FLEET))
    one = worker()
    for claims in (1, 2):
        one.find(database, 3)  # type: ignore[arg-type]
        assert database.claims == claims


@pytest.mark.parametrize("state", ["offline", "quiescing"])
def test_a_machine_that_is_not_online_still_claims_now_and_then(
    state: Any, clock: Callable[[float], None]
) -> None:
    database = FakeDatabase(replace(QUIET, state=state, idle=FLEET))
    pass_time(database, worker(), clock, 600)
    assert 10 <= database.claims <= 12


# --- the question ------------------------------------------------------------------------------


@pytest.mark.sql
def test_it_counts_who_has_nothing_to_do(connect: Connect, roles: Roles) -> None:
    operator, claimer = Client(connect(roles.operator)), Client(connect(roles.worker))
    for number in range(5):
        operator.machine_new(f"m{number}.example.org", "online")
    operator.machine_new("away.example.org", "offline")
    operator.new("ada", "a/b", "git", "https://example.org/a/b")
    assert claimer.job_for_machine("m1.example.org", 3) is not None
    conn = connect(roles.worker)

    def idle(few: int) -> int:
        return prospect(conn, "m1.example.org", ["git"], few).idle

    assert idle(3) == 4
    assert idle(5) == 5, "all that are online, if they are few"
    operator.configure("machine_silent_after", "90 s", "ada")
    assert prospect(conn, "m1.example.org", ["git"], 1).silent_after == 90
    assert prospect(conn, "none.example.org", ["git"], 1).state is None


def test_a_look_is_one_statement(dsn: str, roles: Roles, connect: Connect) -> None:
    spy = connect()
    watched: list[psycopg.Connection[Any]] = []

    def open_() -> psycopg.Connection[Any]:
        watched.append(connect(roles.worker, dsn=make_conninfo(dsn)))
        return watched[-1]

    database = Database(open_)
    database.open()
    answer = database.look(lambda conn: prospect(conn, "a.example.org", ["git"], 25))
    assert answer == Prospect(None, None, 0, None)
    last = spy.execute(
        "select query, xact_start is null from pg_stat_activity where pid = %s",
        [watched[-1].info.backend_pid],
    ).fetchone()
    assert last is not None
    assert "code_import_job_next_due" in last[0], "no commit came after it"
    assert last[1]
    database.close()
