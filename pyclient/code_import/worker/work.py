"""Where a worker's runs come from."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from .database import Prospect, prospect
from .timing import Backoff, now, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_import.models import Assignment, MachineState, RcsType

    from .database import Database

ASK_AT_LEAST = 60.0
"""An idle worker asks this often: to hear what no notification told it, and to reclaim."""
LOOK_WHILE_NOT_ONLINE = 2.0
"""Nothing wakes a worker whose machine is set online, so it looks."""
LOOKS = 8.0
"""So many times a second the idle workers of a fleet look together, at most, while all is quiet."""
SIGNS_OF_LIFE = 1.3
"""So many times a second the idle workers of a fleet claim together to show that they live."""
CLAIMS_A_SILENCE = 3
"""So many times a machine claims within the silence after which it is taken offline."""
DUE_LOOKS = 20.0
"""So many times a second the idle workers of a fleet look together when a job has fallen due."""
WOKEN = 25
"""So many of the idle workers ask because of one notification. There is work for one, mostly."""
STAGGER = 0.001
"""Seconds that each of those leaves another, so that most find the work taken by a mere look."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Runs to start, and in how many seconds to ask for more if there is room."""

    assignments: list[Assignment]
    again_in: float


class Work(Protocol):
    """Something to ask for runs."""

    def find(self, database: Database, room: int) -> Found:
        """Return at most ``room`` runs, which are this worker's from now on."""

    def heard(self, notifications: int) -> float | None:
        """Return in how many seconds to ask because of those, or None for not at all."""


@dataclass(slots=True)
class Claims:
    """The work of a fleet: whatever is due and may run on this machine.

    However large the fleet, what its idle workers ask is bounded: by a look, which writes nothing,
    seldom enough; and by a lottery among those who hear a notification. Whoever draws a blank looks
    when its time comes, so that no job is stranded that only this worker may take.
    """

    hostname: str
    limit: int
    rcs_types: Sequence[RcsType]
    _state: MachineState | None = None
    _claimed_at: float = 0.0
    _hopeful: bool = True
    """Whether the last claim gave something: then the next may, and no look comes first."""
    _idle: int = 1
    """How many workers have nothing to do, this one included."""
    _silent_after: float = inf
    _in_vain: Backoff = field(default_factory=lambda: Backoff(1, ASK_AT_LEAST / 2))

    def find(self, database: Database, room: int) -> Found:
        """Claim if that is worth it, and find out how long to sleep if there is room left."""
        if not (self._hopeful or self._must_show_that_it_lives()):
            ahead = self._look(database)
            if not _is_worth_a_claim(ahead):
                return Found([], self._sleep(ahead, claimed=False))
        self._claimed_at = now()
        claimed = database.call(
            lambda client: client.job_claim(self.hostname, self.limit, room, self.rcs_types)
        )
        self._hopeful = bool(claimed)
        if len(claimed) == room:
            self._heed("online")
            return Found(claimed, 0)
        return Found(claimed, self._sleep(self._look(database), bool(claimed)))

    def heard(self, notifications: int) -> float | None:
        """Draw lots: each notification wakes some of the idle, and is taken to employ one."""
        rivals = max(self._idle, 1)
        self._idle = max(self._idle - notifications, 1)
        if random.random() < (1 - min(1.0, WOKEN / rivals)) ** notifications:
            return None
        return random.uniform(0, STAGGER * min(rivals - 1, WOKEN))

    def _must_show_that_it_lives(self) -> bool:
        """Whether the claim that is its sign of life would come late if it waited any longer."""
        if self._state in ("offline", "quiescing"):
            return now() >= self._claimed_at + ASK_AT_LEAST
        return now() + self._longest_sleep() >= self._claimed_at + self._longest_silence()

    def _longest_silence(self) -> float:
        every = max(ASK_AT_LEAST, self._idle / SIGNS_OF_LIFE)
        return min(every, self._silent_after / CLAIMS_A_SILENCE)

    def _longest_sleep(self) -> float:
        return min(max(ASK_AT_LEAST, self._idle / LOOKS), self._longest_silence())

    def _look(self, database: Database) -> Prospect:
        ahead = database.look(lambda conn: prospect(conn, self.hostname, self.rcs_types, WOKEN))
        self._idle = max(ahead.idle, 1)
        self._silent_after = inf if ahead.silent_after is None else ahead.silent_after
        self._heed(ahead.state)
        return ahead

    def _sleep(self, ahead: Prospect, claimed: bool) -> float:
        if ahead.state in ("offline", "quiescing"):
            return LOOK_WHILE_NOT_ONLINE
        due_in = ahead.due_in
        if due_in is None or due_in > 0 or claimed:
            self._in_vain.reset()
        longest = self._longest_sleep()
        if due_in is None or due_in > longest:
            return spread(longest)
        if due_in <= 0:  # Due, and not for us: somebody has it locked, or our machine is full.
            return self._in_vain.next()
        return due_in + random.uniform(0.01, max(0.25, self._idle / DUE_LOOKS))

    def _heed(self, state: MachineState | None) -> None:
        if state == self._state:
            return
        if state in ("offline", "quiescing"):
            logger.warning(
                "machine %s is %s: nothing is taken until an operator sets it online"
                " (code-import machine online %s)",
                self.hostname,
                state,
                self.hostname,
            )
        else:
            logger.info("machine %s is %s", self.hostname, state or "not known yet")
        self._state = state


def _is_worth_a_claim(ahead: Prospect) -> bool:
    """Whether there may be something for the machine, or it has to be registered again."""
    if ahead.state is None:
        return True
    return ahead.state == "online" and ahead.due_in is not None and ahead.due_in <= 0
