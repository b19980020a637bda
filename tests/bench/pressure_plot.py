"""Draw a result as a PNG: ``python pressure_plot.py RESULT.json PICTURE.png``.

Runs with the peers' interpreter, whose environment has matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("Agg")
from matplotlib import pyplot


def main() -> None:
    """Draw rates over time, each as a multiple of what it was before the pressure."""
    result = json.loads(Path(sys.argv[1]).read_text())
    panels: list[tuple[str, dict[str, Any]]] = []
    if "held" in result:
        panels.append(("code-import, a snapshot is held", result["held"]["ours"]))
        peers = {
            f"{name}, {key}": one
            for key, all_ in result["held"]["peers"].items()
            for name, one in all_.items()
        }
        if peers:
            panels.append(("Peers, a snapshot is held", peers))
    if "readers" in result:
        panels.append(("code-import, four readers scan", result["readers"]))
    if not panels:
        sys.exit("nothing was measured that goes over time")
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(6 * len(panels), 4.5), layout="constrained", squeeze=False
    )
    for axis, (title, runs) in zip(axes[0], panels, strict=True):
        _draw(axis, title, runs)
    figure.suptitle(
        f"PostgreSQL {result['server']['server_version']},"
        f" autovacuum_naptime {result['naptime']} s: jobs/s, times the rate before"
    )
    figure.savefig(sys.argv[2], dpi=110)


def _draw(axis: Any, title: str, runs: dict[str, dict[str, Any]]) -> None:
    for name, one in runs.items():
        before = one["rate"]["before"] or 1.0
        width = max(1, len(one["rates"]) // 150)
        shares = [one["rates"][at : at + width] for at in range(0, len(one["rates"]), width)]
        places = [place * width - one["held_at"] for place in range(len(shares))]
        axis.plot(places, [sum(s) / len(s) / before for s in shares], label=name, linewidth=1.3)
        axis.axvspan(0, one["released_at"] - one["held_at"], color="#f1d9a7", alpha=0.5 / len(runs))
    axis.axhline(0.9, color="#999999", linestyle=":", linewidth=1)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("seconds from the beginning of the pressure")
    axis.set_title(title)
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
