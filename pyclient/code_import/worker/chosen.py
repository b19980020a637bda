"""Work for a worker that was started for the sake of a few imports, and leaves all others alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from code_import import reading
from code_import.client import Client
from code_import.errors import AlreadyRunning, CodeImportError, RunGone, WrongState
from code_import.models import Assignment
from code_import.wire import fetch_all

from .engine import Watcher
from .work import ASK_AT_LEAST, Found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg import Connection

    from code_import.importers import Outcome
    from code_import.models import Import, Machine, Result
    from code_import.reading import ResultInFull

    from .database import Database

LOOK_AGAIN = 0.5
"""Seconds between two looks at imports that somebody else runs."""


@dataclass(slots=True, eq=False)
class Wish:
    """One import that is to run now, and how it went."""

    imp: Import
    person: str
    asked: datetime | None = None
    """When a run was asked for, by a request or by registering: only one begun later will do."""
    is_requested: bool = False
    is_ours: bool = False
    """Whether we run it at this moment."""
    tail: str = ""
    """The newest lines of the run that somebody else has."""
    result: Result | ResultInFull | None = None
    outcome: Outcome | None = None
    refusal: CodeImportError | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is a result, or there never will be one."""
        return self.result is not None or self.refusal is not None

    def pursue(self, conn: Connection[Any]) -> None:
        """See what others have made of it, and request a run if that is yet to be done."""
        if self.asked is not None:
            self._look(conn)
        if not (self.is_over or self.is_requested):
            self._request(conn)

    def start(self, conn: Connection[Any], machine: Machine) -> list[Assignment]:
        """Start its job on a machine, unless somebody else was faster."""
        jobs = reading.jobs(conn, code_import_id=self.imp.id)
        if not jobs:
            self.is_requested = False  # The next request will be told why there is none.
        if not jobs or jobs[0].state == "running":
            return []
        try:
            with conn.transaction():
                started = Client(conn).job_start(jobs[0].id, machine.id)
        except (WrongState, RunGone):
            return []
        return fetch_all(
            conn,
            Assignment,
            f"select {Assignment.columns} from vcs.code_import_assignment where id = %s",
            started.id,
        )

    def _request(self, conn: Connection[Any]) -> None:
        """Ask for a run, or for one more while somebody else has one that began too early."""
        client = Client(conn)
        self.is_requested = True
        now = reading.now(conn)
        try:
            with conn.transaction():
                if self.imp.review_status == "failing":
                    client.try_again(self.imp.id, self.person)
                elif self.asked is None:
                    client.request_again(self.imp.id, self.person)
                else:
                    client.request(self.imp.id, self.person)
        except AlreadyRunning:
            self.is_requested = self.imp.review_status != "failing"
        except CodeImportError as err:
            self.refusal = err
        self.asked = self.asked or now

    def _look(self, conn: Connection[Any]) -> None:
        for line in reading.results(conn, code_import_id=self.imp.id, limit=3):
            is_answer = self.asked is not None and line.date_job_started >= self.asked
            if is_answer and line.status not in ("reclaimed", "success_partial"):
                self.result = reading.result(conn, line.id)
        jobs = reading.jobs(conn, code_import_id=self.imp.id, states=["running"])
        running = Client(conn).job_get(jobs[0].id) if jobs else None
        self.tail = (running.logtail if running else None) or ""


class Errand(Watcher):
    """The wishes as work, watched by whoever shows their progress."""

    def __init__(self, wishes: Sequence[Wish], hostname: str, watcher: Watcher) -> None:
        self._wishes = {wish.imp.id: wish for wish in wishes}
        self._hostname = hostname
        self._watcher = watcher

    @property
    def is_done(self) -> bool:
        """Whether no wish is open."""
        return all(wish.is_over for wish in self._wishes.values())

    def find(self, database: Database, room: int) -> Found:
        """Start what waits, up to ``room``. Raises WrongState when the machine is not online."""
        machine = database.ask(self._machine)
        started: list[Assignment] = []
        for wish in self._open():
            database.ask(wish.pursue)
            if len(started) < room and not wish.is_over:
                started += database.ask(partial(wish.start, machine=machine))
        return Found(started, LOOK_AGAIN if self._open() else ASK_AT_LEAST)

    def heard(self, notifications: int) -> float | None:
        """Ask at once: what was said may be about a wish."""
        return 0.0

    def started(self, assignment: Assignment) -> None:
        """Remember that it is ours."""
        self._wishes[assignment.code_import_id].is_ours = True
        self._watcher.started(assignment)

    def line(self, assignment: Assignment, text: str) -> None:
        """Show it."""
        self._watcher.line(assignment, text)

    def ended(self, assignment: Assignment, result: Result | None, outcome: Outcome | None) -> None:
        """Fulfil the wish, unless the run was given up or there is more to fetch."""
        wish = self._wishes[assignment.code_import_id]
        wish.is_ours = False
        if result is not None and result.status != "success_partial":
            wish.result, wish.outcome = result, outcome
        self._watcher.ended(assignment, result, outcome)

    def _open(self) -> list[Wish]:
        return [wish for wish in self._wishes.values() if not (wish.is_over or wish.is_ours)]

    def _machine(self, conn: Connection[Any]) -> Machine:
        machine = reading.machine(conn, self._hostname)
        if machine is None:
            machine = Client(conn).machine_new(self._hostname, "online")
        if machine.state != "online":
            raise WrongState(
                f"machine {self._hostname} is {machine.state}",
                hint=f"code-import machine online {self._hostname}",
            )
        return machine
