"""Where a worker's runs come from."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .database import Prospect, prospect
from .timing import Backoff, now, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_import.models import Assignment, MachineState, RcsType

    from .database import Database

ASK_AT_LEAST = 60.0
"""An idle worker asks this often: as its machine's sign of life, and to reclaim."""
LOOK_WHILE_NOT_ONLINE = 2.0
"""Nothing wakes a worker whose machine is set online, so it looks."""

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


@dataclass(slots=True)
class Claims:
    """The work of a fleet: whatever is due and may run on this machine."""

    hostname: str
    limit: int
    rcs_types: Sequence[RcsType]
    _state: MachineState | None = None
    _claimed_at: float = 0.0
    _in_vain: Backoff = field(default_factory=lambda: Backoff(1, ASK_AT_LEAST / 2))

    def find(self, database: Database, room: int) -> Found:
        """Claim, and find out how long to sleep if that gave less than there is room for."""
        if not self._is_worth_a_claim(database):
            return Found([], LOOK_WHILE_NOT_ONLINE)
        self._claimed_at = now()
        claimed = database.call(
            lambda client: client.job_claim(self.hostname, self.limit, room, self.rcs_types)
        )
        if len(claimed) == room:
            self._heed("online")
            return Found(claimed, 0)
        ahead = self._look(database)
        return Found(claimed, self._sleep(ahead, bool(claimed)))

    def _is_worth_a_claim(self, database: Database) -> bool:
        if self._state in (None, "online") or now() >= self._claimed_at + ASK_AT_LEAST:
            return True
        return self._look(database).state in (None, "online")

    def _look(self, database: Database) -> Prospect:
        ahead = database.ask(lambda conn: prospect(conn, self.hostname, self.rcs_types))
        self._heed(ahead.state)
        return ahead

    def _sleep(self, ahead: Prospect, claimed: bool) -> float:
        if ahead.state in ("offline", "quiescing"):
            return LOOK_WHILE_NOT_ONLINE
        due_in = ahead.due_in
        if due_in is None or due_in > 0 or claimed:
            self._in_vain.reset()
        if due_in is None or due_in > ASK_AT_LEAST:
            return spread(ASK_AT_LEAST)
        if due_in <= 0:  # Due, and not for us: somebody has it locked, or our machine is full.
            return self._in_vain.next()
        return due_in + random.uniform(0.01, 0.25)

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
