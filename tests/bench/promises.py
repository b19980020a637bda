"""What is promised of code-import under pressure, and whether it was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.figures import Bar

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = float("inf")


def bars(result: dict[str, Any]) -> list[Bar]:
    """Every promise that this result can speak of."""
    parts = {
        "held": _held, "readers": _readers, "overload": _overload, "idle": _idle, "crowd": _crowd
    }  # fmt: skip
    return [
        one
        for name, part in parts.items()
        if name in result
        for one in part(result[name], 2 * result["naptime"])
    ]


def ratio(now: float | None, before: float | None) -> float:
    """Now as a multiple of before."""
    return now / before if now is not None and before else NEVER


def _pressed(words: str, one: dict[str, Any], soon: float) -> Iterator[Bar]:
    kept = one["rate"]["late"] / one["rate"]["before"] if one["rate"]["before"] else 0.0
    yield Bar(f"{words}: rate, times before", kept, 0.9, at_least=True)
    times = ratio(one["p99"]["held"], one["p99"]["before"])
    yield Bar(f"{words}: claim p99, times before", times, 3)
    back = NEVER if one["recovery"] is None else one["recovery"]
    yield Bar(f"{words}: s to recover", back, soon)


def _held(part: dict[str, Any], soon: float) -> Iterator[Bar]:
    for name, one in part["ours"].items():
        yield from _pressed(f"Held, {name}", one, soon)


def _readers(part: dict[str, Any], soon: float) -> Iterator[Bar]:
    """Scans need processors, however old their snapshot; what the snapshot costs is weighed."""
    short, long = part["short"], part["long"]
    with_short = ratio(short["rate"]["late"], short["rate"]["before"])
    with_long = ratio(long["rate"]["late"], long["rate"]["before"])
    kept = with_long / with_short if with_short else 0.0
    yield Bar("Readers: rate, times that with short ones", kept, 0.9, at_least=True)
    times = ratio(long["p99"]["held"], long["p99"]["before"])
    yield Bar("Readers: claim p99, times before", times, 3)
    back = NEVER if long["recovery"] is None else long["recovery"]
    yield Bar("Readers: s to recover", back, soon)


def _overload(part: dict[str, Any], _: float) -> Iterator[Bar]:
    kept = ratio(part["rate"], part["capacity"])
    yield Bar("Overload: rate, times what can be done", kept, 0.9, at_least=True)
    times = ratio(part["p99_last"], part["p99_first"])
    yield Bar("Overload: claim p99 at the end, times at first", times, 3)
    beat = NEVER if part["beat_p99"] is None else part["beat_p99"]
    yield Bar("Overload: heartbeats of 100 runs, p99 in ms", beat, 1_000)
    told = part["directives"]
    yield Bar("Overload: heartbeats not answered continue",
              sum(told.values()) - told.get("continue", 0), 0)  # fmt: skip
    yield Bar("Overload: runs reclaimed", part["reclaimed"], 0)
    back = NEVER if part["caught_up"] is None else part["caught_up"]
    yield Bar("Overload: s to catch up at half the load", back, 1.2 * part["seconds"] + 1)


def _idle(part: dict[str, Any], _: float) -> Iterator[Bar]:
    yield Bar("Idle: statements/s of 1,000 workers", part["statements_per_second"], 20)
    yield Bar("Idle: ms from request to start, p50", part["start_p50"], 50)
    yield Bar("Idle: ms from request to start, the most", part["start_most"], 50)
    yield Bar("Idle: workers that ask for a request, the most", max(part["woken"]), 50)
    back = NEVER if part["many"]["all"] is None else part["many"]["all"]
    yield Bar("Idle: s until 1,000 requests run", back, 10)


def _crowd(part: dict[str, Any], _: float) -> Iterator[Bar]:
    yield Bar("Crowd: deadlocks", part["deadlocks"], 0)
    yield Bar("Crowd: calls refused or failed", sum(part["errors"].values()), 0)
    least, middle, _most = part["per_machine"]
    kept = least / middle if middle else 0.0
    yield Bar("Crowd: the slowest machine, times the median", kept, 0.5, at_least=True)
    least, middle, _most = part["per_worker"]
    kept = least / middle if middle else 0.0
    yield Bar("Crowd: the slowest worker, times the median", kept, 0.2, at_least=True)
