"""Draw a result of the sizes and the steady day: ``python scale_plot.py RESULT.json PICTURE.png``.

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

CALLS = ("claim", "heartbeat", "finish", "request", "claim of it", "next_due")


def main() -> None:
    """Draw latency over size, and rate, latency and sizes over the steady day."""
    result = json.loads(Path(sys.argv[1]).read_text())
    figure, axes = pyplot.subplots(2, 2, figsize=(14, 8), layout="constrained")
    _sizes(axes[0][0], result)
    day = result["day"]
    minutes = [number * day["slot"] / 60 for number in range(len(day["slots"]))]
    _over_time(axes[0][1], minutes, "Steady day: cycles a second", {
        "done": [slot["cycles"] / day["slot"] for slot in day["slots"]],
        "due": [day["rate"] for _ in minutes],
        "as fast as it can be": [day["rush"] for _ in minutes],
    })  # fmt: skip
    _over_time(axes[1][0], minutes, "Steady day: p99, ms", {
        f"{name}{', a batch' if name != 'lag' else ' behind due'}": [
            slot[name]["p99"] for slot in day["slots"]
        ]
        for name in ("claim", "heartbeat", "finish", "lag")
    })  # fmt: skip
    _over_time(axes[1][1], minutes, "Steady day: MB on disk", {
        "changed tables": [slot["table"] / 1e6 for slot in day["slots"]],
        "their indexes": [slot["indexes"] / 1e6 for slot in day["slots"]],
        "history": [slot["history"] / 1e6 for slot in day["slots"]],
        "dead rows, thousands": [slot["dead"] / 1e3 for slot in day["slots"]],
    })  # fmt: skip
    figure.suptitle(
        f"code-import on PostgreSQL {result['server']['server_version']}: latency by size, and"
        f" {day['imports']:,} imports every {day['interval']:.0f} s"
    )
    figure.savefig(sys.argv[2], dpi=110)


def _sizes(axis: Any, result: dict[str, Any]) -> None:
    sizes = result["sizes"]
    for call in CALLS:
        rows = [result["latency"][call][str(size)]["p99"] for size in sizes]
        middles = [median(row) for row in rows]
        below = [middle - min(row) for middle, row in zip(middles, rows, strict=True)]
        above = [max(row) - middle for middle, row in zip(middles, rows, strict=True)]
        axis.errorbar(sizes, middles, yerr=[below, above], marker="o", capsize=3, label=call)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title("Latency at each number of imports: p99, ms")
    _dress(axis)


def _over_time(axis: Any, minutes: list[float], title: str, lines: dict[str, list[float]]) -> None:
    for name, values in lines.items():
        axis.plot(minutes, values, label=name)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("minutes")
    axis.set_title(title)
    _dress(axis)


def _dress(axis: Any) -> None:
    axis.legend(frameon=False, fontsize="small")
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
