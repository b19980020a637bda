"""Many idle workers in few processes, for ``python3 tests bench pressure``.

What a worker asks, and when, is the worker's own code: its Claims on its Database, woken as its
engine is. Only processes for runs are left out, and some workers share a connection to ask on and
one to listen on; so what it costs the server to wake a thousand connections is not in it.
"""

from __future__ import annotations

import heapq
import random
import selectors
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.ours import CHANNEL, STATUS, WORKER, connect
from bench.peers.driving import say, wait_for_go
from code_import.worker.database import Database
from code_import.worker.engine import TIDY_UP, WAKE_SPACING
from code_import.worker.timing import now, spread
from code_import.worker.work import Claims

if TYPE_CHECKING:
    import psycopg

    from code_import.client import Client

LIMIT = 3
TYPES: Any = ["git", "svn", "hg", "cvs", "bzr"]


@dataclass(slots=True)
class IdleWorker:
    """What is left of a worker when nothing runs."""

    place: int
    claims: Claims
    database: Database
    find_at: float = 0.0
    found_at: float = 0.0
    tidy_at: float = 0.0
    is_woken: bool = False
    room: int = LIMIT

    def wake(self, notifications: int) -> None:
        """As the engine does."""
        delay = self.claims.heard(notifications)
        if delay is not None:
            soon = max(now() + delay, self.found_at + WAKE_SPACING)
            if soon < self.find_at:
                self.find_at, self.is_woken = soon, True


class Idlers:
    """The workers of one process, and what they did."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._keeps = False
        self._queue: list[tuple[float, int]] = []
        self._workers: list[IdleWorker] = []
        self.asked: list[tuple[float, str, bool]] = []
        """When a worker asked, which, and whether because of a notification."""
        self.started: list[float] = []
        share = options["workers"] // options["connections"]
        for place in range(options["connections"]):
            database = Database(lambda: connect(options, WORKER))
            database.open()
            names = (f"idle{options['number']}-{place}-{n}.example.org" for n in range(share))
            group = [
                IdleWorker(len(self._workers) + n, Claims(name, LIMIT, TYPES), database)
                for n, name in enumerate(names)
            ]
            self._workers += group
            listener = connect(options, WORKER)
            listener.execute(f"listen {CHANNEL}".encode())
            self._selector.register(listener, selectors.EVENT_READ, (listener, group))

    def begin(self) -> None:
        """Let all ask for the first time, and then bring them to where an hour leaves them."""
        for again in (False, True):
            if again:
                say({"claimed": True})  # all processes have, before any looks who else is idle
                sys.stdin.readline()
            for worker in self._workers:
                self._find(worker)
        for worker in self._workers:
            sleep = worker.find_at - now()
            worker.find_at = now() + random.uniform(0, sleep)
            worker.tidy_at = now() + random.uniform(0, TIDY_UP)
            worker.claims._claimed_at -= random.uniform(0, worker.claims._longest_silence())
            self._plan(worker)
        self.asked.clear()

    def run(self) -> None:
        """Sleep and ask until told to stop; a line "keep" has runs not end any more."""
        while True:
            for key, _ in self._selector.select(max(0.0, self._next() - now())):
                if key.data is None:
                    line = sys.stdin.readline().strip()
                    if line != "keep":
                        return
                    self._keeps = True
                else:
                    self._hear(*key.data)
            while self._queue and self._queue[0][0] <= now():
                at, place = heapq.heappop(self._queue)
                worker = self._workers[place]
                if at == worker.find_at and worker.room:  # else it was planned anew
                    self._find(worker)
                    self._plan(worker)
                elif at == worker.tidy_at:
                    worker.tidy_at = now() + spread(TIDY_UP)
                    worker.database.call(lambda client: client.tidy_up())
                    self._plan(worker)

    def _hear(self, listener: psycopg.Connection[Any], group: list[IdleWorker]) -> None:
        if notifications := sum(1 for _ in listener.notifies(timeout=0)):
            for worker in group:
                if worker.room:
                    worker.wake(notifications)
                    if worker.is_woken:
                        self._plan(worker)

    def _next(self) -> float:
        return self._queue[0][0] if self._queue else now() + 1

    def _plan(self, worker: IdleWorker) -> None:
        heapq.heappush(self._queue, (worker.find_at, worker.place))
        heapq.heappush(self._queue, (worker.tidy_at, worker.place))

    def _find(self, worker: IdleWorker) -> None:
        self.asked.append((time.monotonic(), worker.claims.hostname, worker.is_woken))
        worker.is_woken = False
        worker.found_at = now()
        found = worker.claims.find(worker.database, worker.room)
        for run in found.assignments:
            self.started.append(time.monotonic())
            if not self._keeps:
                worker.database.call(partial(_finish, run.id))
        if self._keeps:
            worker.room -= len(found.assignments)
        worker.find_at = now() + (0.0 if found.assignments else found.again_in)


def _finish(job_id: int, client: Client) -> None:
    client.job_finish(job_id, STATUS)


def idle(options: dict[str, Any]) -> dict[str, Any]:
    """Be idle workers until told to stop; say what they asked, and when runs started."""
    idlers = Idlers(options)
    idlers.begin()
    wait_for_go()
    idlers.run()
    return {"asked": idlers.asked, "started": idlers.started}
