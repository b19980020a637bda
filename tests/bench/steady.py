"""One machine of a steady day: what ``python3 tests bench scale`` runs several of.

A machine looks for due jobs at its own steady beat and claims until no batch is full, so that
its pace is that of the due dates. A run goes on for a moment, beats once half-way with a log tail,
and is finished together with those that were claimed with it.

This module is the driver; it answers once for each slot of time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.ours import WORKER, connect, prepare, tail_of
from bench.peers.driving import say, wait_for_go
from code_import.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from code_import.models import Assignment

LIMIT = 100_000
"""Runs that a machine may have: more than it ever gets."""
TAILS = [tail_of(number, 2_000 if number % 10 == 0 else 200) for number in range(100)]
"""Log tails: a run that finds nothing new says little, and one in ten says more."""
STATUSES: list[Any] = ["success", *["success_nochange"] * 19]


@dataclass(slots=True)
class Slot:
    """What happened in one slot of time; times in milliseconds."""

    cycles: int = 0
    claim: list[float] = field(default_factory=list)
    """Claims that got something."""
    heartbeat: list[float] = field(default_factory=list)
    finish: list[float] = field(default_factory=list)
    lag: list[int] = field(default_factory=list)
    """Of each run: its start after it was due."""


class Machine:
    """The calls of one machine, timed."""

    def __init__(self, client: Client, name: str, batch: int) -> None:
        self.client = client
        self.name = name
        self.batch = batch
        self.slot = Slot()
        self._turn = 0

    def claim(self) -> list[Assignment]:
        """Claim a batch, and count how late its runs start."""
        start = time.perf_counter()
        runs = self.client.job_claim(self.name, LIMIT, self.batch)
        if runs:
            self.slot.claim.append(_since(start))
        for run in runs:
            assert run.date_started is not None
            self.slot.lag.append(round((run.date_started - run.date_due).total_seconds() * 1000))
        return runs

    def beat(self, runs: Sequence[Assignment]) -> None:
        """Say that these runs are alive."""
        self._turn += 1
        tails = [TAILS[(self._turn + place) % len(TAILS)] for place in range(len(runs))]
        start = time.perf_counter()
        self.client.job_update_heartbeats([run.id for run in runs], tails)
        self.slot.heartbeat.append(_since(start))

    def finish(self, runs: Sequence[Assignment]) -> None:
        """Finish these runs; a refusal ends everything."""
        statuses = [STATUSES[run.code_import_id % len(STATUSES)] for run in runs]
        start = time.perf_counter()
        finished = self.client.job_finish_many([run.id for run in runs], statuses)
        self.slot.finish.append(_since(start))
        if refused := [one for one in finished if one.error_code]:
            raise RuntimeError(f"a finish was refused: {refused[0]}")
        self.slot.cycles += len(runs)

    def take_slot(self) -> Slot:
        """What happened since this was last called."""
        slot, self.slot = self.slot, Slot()
        return slot


def day(options: dict[str, Any]) -> dict[str, Any]:
    """Do what is due for so many slots of so many seconds, and say after each what was done."""
    with connect(options, WORKER) as conn:
        machine = Machine(Client(conn), f"day{options['number']}.example.org", options["batch"])
        waiting: deque[tuple[float, list[Assignment]]] = deque()
        beating: deque[tuple[float, list[Assignment]]] = deque()
        wait_for_go()
        start = time.perf_counter() + options["offset"]
        end_of_slot = start + options["slot"]
        tick = start
        for _ in range(options["slots"]):
            while tick < end_of_slot:
                time.sleep(max(tick - time.perf_counter(), 0))
                now = time.perf_counter()
                while waiting and waiting[0][0] <= now - options["lasting"] / 2:
                    claimed, runs = waiting.popleft()
                    machine.beat(runs)
                    beating.append((claimed, runs))
                while beating and beating[0][0] <= now - options["lasting"]:
                    machine.finish(beating.popleft()[1])
                while runs := machine.claim():
                    waiting.append((time.perf_counter(), runs))
                    if len(runs) < options["batch"] or time.perf_counter() > end_of_slot:
                        break
                tick = max(tick + options["period"], time.perf_counter() - options["slot"])
            _tell(machine)
            end_of_slot += options["slot"]
        for _, runs in (*waiting, *beating):
            machine.finish(runs)
    return {}


def rush(options: dict[str, Any]) -> dict[str, Any]:
    """Do what is due as fast as it can be done, the same calls for each batch."""
    with connect(options, WORKER) as conn:
        machine = Machine(Client(conn), f"day{options['number']}.example.org", options["batch"])
        wait_for_go()
        start = last = time.perf_counter()
        while time.perf_counter() < start + options["seconds"] and (runs := machine.claim()):
            machine.beat(runs)
            machine.finish(runs)
            last = time.perf_counter()
    return {"jobs": machine.slot.cycles, "seconds": last - start, "idle": 0.0}


def _tell(machine: Machine) -> None:
    slot = machine.take_slot()
    say({name: getattr(slot, name) for name in Slot.__slots__})


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)


COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "prepare": prepare,
    "day": day,
    "rush": rush,
}


def main() -> None:
    """Run the command that the arguments name, and answer."""
    say(COMMANDS[sys.argv[1]](json.loads(sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
