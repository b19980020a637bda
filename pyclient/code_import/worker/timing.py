"""Time as a worker needs it: a clock that never jumps, waits that spread, delays that grow."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds that also pass while the machine sleeps: a lease runs out meanwhile."""
    return time.clock_gettime(_CLOCK)


def spread(seconds: float) -> float:
    """Up to a quarter less, at random, so that a fleet does not ask in step."""
    return seconds * random.uniform(0.75, 1.0)


@dataclass(slots=True)
class Backoff:
    """Delays that double from ``first`` to ``most`` seconds until a success resets them."""

    first: float
    most: float
    failures: int = 0

    def next(self) -> float:
        """The wait after one more failure."""
        delay = min(self.most, self.first * 2 ** min(self.failures, 30))
        self.failures += 1
        return spread(delay)

    def reset(self) -> None:
        """Start afresh after a success."""
        self.failures = 0
