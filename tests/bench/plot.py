"""Draw a result as a PNG: ``python plot.py RESULT.json PICTURE.png``.

Runs with the peers' interpreter, whose environment has matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("Agg")
from matplotlib import pyplot

OURS = "code-import"
TITLES = {"batched": "In batches, jobs/s", "single": "One job a call, jobs/s"}
COLOURS = {True: "#1a6fb0", False: "#b8c0c8"}


def main() -> None:
    """Draw what was measured, with the least and the most of the rounds as whiskers."""
    result = json.loads(Path(sys.argv[1]).read_text())
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
    for axis, (key, title) in zip(axes, TITLES.items(), strict=False):
        rates = {name: one["rounds"] for name, one in result["rates"][key].items()}
        _bars(axis, title, rates, "{:,.0f}")
    latency = {
        f"{name}, {share}": one[share]
        for share in ("p50", "p99")
        for name, one in result["latency"].items()
    }
    _bars(axes[2], "Request to start, ms", latency, "{:.2f}", best_first=False)
    figure.suptitle(
        f"PostgreSQL {result['server']['server_version']}, one run on one server. A job of"
        f" {OURS} is a full cycle with result, audit and next job; a peer's is a no-op."
    )
    figure.savefig(sys.argv[2], dpi=110)


def _bars(
    axis: Any, title: str, rounds: dict[str, list[float]], shape: str, best_first: bool = True
) -> None:
    names = list(rounds)
    if best_first:
        names.sort(key=lambda name: -median(rounds[name]))
    middles = [median(rounds[name]) for name in names]
    below = [middle - min(rounds[name]) for name, middle in zip(names, middles, strict=True)]
    above = [max(rounds[name]) - middle for name, middle in zip(names, middles, strict=True)]
    axis.barh(
        names, middles, xerr=[below, above], capsize=3, ecolor="#555555",
        color=[COLOURS[name.startswith(OURS)] for name in names],
    )  # fmt: skip
    most = max((max(values) for values in rounds.values()), default=1.0)
    for place, (name, middle) in enumerate(zip(names, middles, strict=True)):
        axis.text(max(rounds[name]) + most * 0.03, place, shape.format(middle), va="center")
    axis.set_xlim(0, most * 1.25)
    axis.invert_yaxis()
    axis.set_title(title)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
