"""What happened in each second: how much was done, and how long calls took.

Drivers are processes of their own that read one clock, so their seconds can be put together. Times
are kept as counts of steps of five percent; ``peers/driving.mjs`` counts in the same steps.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP = 1.05
LEAST = 1e-5
"""Seconds below which times are not told apart."""


def step(seconds: float) -> int:
    """The step that a time is on."""
    return max(0, math.ceil(math.log(max(seconds, LEAST) / LEAST) / math.log(STEP)))


def seconds(place: int) -> float:
    """The longest time on a step."""
    return float(LEAST * STEP**place)


class Recorder:
    """What a driver writes down as it goes."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Any]] = {}

    def count(self, jobs: int = 1) -> None:
        """Count jobs that have just been done."""
        self._row()[0] += jobs

    def took(self, duration: float) -> None:
        """Count a call that has just been answered, after so many seconds."""
        steps = self._row()[1]
        place = str(step(duration))
        steps[place] = steps.get(place, 0) + 1

    def answer(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        rows = list(self._rows.items())
        return {str(second): [jobs, dict(steps)] for second, (jobs, steps) in rows}

    def _row(self) -> list[Any]:
        second = int(time.monotonic())
        row = self._rows.get(second)
        if row is None:
            row = self._rows[second] = [0, {}]
        return row


@dataclass(slots=True)
class Timeline:
    """The seconds of all drivers together."""

    jobs: dict[int, int] = field(default_factory=dict)
    steps: dict[int, Counter[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Iterable[dict[str, Any]]) -> Timeline:
        """Put together what recorders answered."""
        line = cls()
        for answer in answers:
            for second, (jobs, steps) in answer.items():
                at = int(second)
                line.jobs[at] = line.jobs.get(at, 0) + jobs
                known = line.steps.setdefault(at, Counter())
                known.update({int(place): count for place, count in steps.items()})
        return line

    def rate(self, begin: float, end: float) -> float:
        """Jobs a second in the whole seconds between two moments."""
        within = _whole(begin, end)
        return sum(self.jobs.get(at, 0) for at in within) / len(within) if within else 0.0

    def percentile(self, begin: float, end: float, percent: float) -> float | None:
        """Seconds that so many percent of the calls did not exceed; None without a call."""
        counted: Counter[int] = Counter()
        for at in _whole(begin, end):
            counted.update(self.steps.get(at, Counter()))
        left = math.ceil(counted.total() * percent / 100)
        for place in sorted(counted):
            left -= counted[place]
            if left <= 0:
                return seconds(place)
        return None

    def rates(self, begin: float, end: float) -> list[int]:
        """The jobs of each whole second between two moments."""
        return [self.jobs.get(at, 0) for at in _whole(begin, end)]


def _whole(begin: float, end: float) -> range:
    return range(math.ceil(begin), math.floor(end))


@dataclass(frozen=True, slots=True)
class Marks:
    """When the phases of a run began and ended, by the one clock."""

    begin: float
    held: float
    released: float
    end: float


WINDOW = 3
"""Seconds that are looked at together, to say that things are as they were."""
BACK_RATE, BACK_TIME = 0.95, 1.5


def is_back(line: Timeline, marks: Marks, at: int) -> bool:
    """Whether the seconds from ``at`` are as good as those before the pressure."""
    before, window = (marks.begin, marks.held), (at, at + WINDOW)
    if line.rate(*window) < BACK_RATE * line.rate(*before):
        return False
    was, now = line.percentile(*before, 99), line.percentile(*window, 99)
    return was is None or (now is not None and now <= BACK_TIME * was)


def recovery(line: Timeline, marks: Marks) -> float | None:
    """Seconds from the end of the pressure until things are as they were; None if never seen."""
    for at in range(math.ceil(marks.released), math.floor(marks.end) - WINDOW + 1):
        if is_back(line, marks, at):
            return max(0.0, at - marks.released)
    return None


def summary(line: Timeline, marks: Marks) -> dict[str, Any]:
    """What a run under pressure is judged by. Rates a second, times in milliseconds."""
    late = marks.released - max((marks.released - marks.held) / 3, 2)
    spans = {
        "before": (marks.begin, marks.held),
        "held": (marks.held, marks.released),
        "late": (max(marks.held, late), marks.released),
        "after": (max(marks.released, marks.end - WINDOW - 1), marks.end),
    }
    return {
        "rate": {name: line.rate(*span) for name, span in spans.items()},
        "p50": {name: _ms(line.percentile(*span, 50)) for name, span in spans.items()},
        "p99": {name: _ms(line.percentile(*span, 99)) for name, span in spans.items()},
        "recovery": recovery(line, marks),
        "watched_after": marks.end - marks.released,
        "rates": line.rates(marks.begin, marks.end),
        "held_at": math.ceil(marks.held) - math.ceil(marks.begin),
        "released_at": math.ceil(marks.released) - math.ceil(marks.begin),
    }


def _ms(value: float | None) -> float | None:
    return None if value is None else value * 1000


def walked(line: Timeline, marks: Marks, samples: list[Any]) -> dict[str, float | None]:
    """Index entries, dead ones too, that were read for each job: no other load changes them.

    A sample begins with its moment and ends with how many had been read by then.
    """
    spans = {"before": (marks.begin, marks.held), "held": (marks.held, marks.released)}
    found: dict[str, float | None] = {}
    for name, (begin, end) in spans.items():
        within = [(row[0], row[-1]) for row in samples if begin <= row[0] <= end]
        found[name] = None
        if len(within) > 1:
            (first, read_first), (last, read_last) = within[0], within[-1]
            jobs = line.rate(math.floor(first), math.floor(last)) * (last - first)
            found[name] = (read_last - read_first) / jobs if jobs else None
    return found
