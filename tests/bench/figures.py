"""What is made of measurements: medians, spread, ratios, and whether a bar is met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OURS = "code-import"
CLASSES = {"batched": "In batches", "single": "One job a call"}
LATENCY_PEER = "graphile-worker"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values do not exceed."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def spread(values: Sequence[float]) -> float:
    """How far the values reach to either side of their median, as a share of it."""
    middle = median(values)
    return max(max(values) - middle, middle - min(values)) / middle if middle else 0.0


def rate(answers: Iterable[dict[str, Any]]) -> float:
    """Jobs a second of all processes together; one that ran out of jobs stopped being timed."""
    return sum(float(one["jobs"]) / max(_timed(one), 1e-9) for one in answers if one["jobs"])


def ran_dry(answer: dict[str, Any]) -> bool:
    """Whether there were no more jobs for a good part of the time."""
    return bool(answer["idle"] > 0.15 * answer["seconds"] + 0.05)


def _timed(answer: dict[str, Any]) -> float:
    seconds: float = answer["seconds"] - (answer["idle"] if ran_dry(answer) else 0.0)
    return seconds


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Each as a multiple of the best that is not ours; empty when there is no other."""
    others = [value for name, value in medians.items() if name != OURS]
    if not others or max(others) <= 0:
        return {}
    return {name: value / max(others) for name, value in medians.items()}


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise, and what was measured."""

    words: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        if self.at_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


def bars(result: dict[str, Any]) -> list[Bar]:
    """Every promise that this result can speak of."""
    found = []
    for name, title in CLASSES.items():
        medians = {who: median(what["rounds"]) for who, what in result["rates"][name].items()}
        if ratio := ratios(medians).get(OURS):
            found.append(Bar(f"{title}: times the best peer", ratio, 1.2, at_least=True))
    latency = result["latency"]
    if LATENCY_PEER in latency:
        for share in ("p50", "p99"):
            ratio = median(latency[OURS][share]) / median(latency[LATENCY_PEER][share])
            found.append(Bar(f"Request to start, {share}: times {LATENCY_PEER}", ratio, 1.0))
    for name, title in CLASSES.items():
        cycle = result["cycle"][name]
        found.append(Bar(f"{title}: bytes of WAL a cycle", cycle["wal_bytes"], 1500))
        found.append(Bar(f"{title}: notifications in a steady cycle", cycle["notifications"], 0))
    found.extend(
        Bar(f"Heartbeat with {size}: percent HOT", 100 * beat["hot"], 99, at_least=True)
        for size, beat in result["heartbeats"].items()
    )
    return found
