"""What is said of a result: a table for 80 columns, and bars."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.figures import CLASSES, bars, ratios, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.figures import Bar

WIDTH = 80
HONESTY = """\
A job of code-import is its full cycle: claim, result row, audit trail, and the
next job in the table. A job of the peers is a no-op: it is claimed and is done.
Each is at the best of the settings tried; median of the rounds, and how far any
of them was from it. Our drivers are a process a connection, so that Python's
lock is not what is measured; a peer has as many as make it fastest.
"""


def report(result: dict[str, Any]) -> str:
    """The whole report."""
    parts = (_introduction, _tried, _rates, _latency, _cycle, _heartbeats, _bars)
    return "\n\n".join("\n".join(part(result)) for part in parts)


def _introduction(result: dict[str, Any]) -> Iterator[str]:
    yield from where(result)
    yield ""
    yield HONESTY.rstrip()


def where(result: dict[str, Any]) -> Iterator[str]:
    """What it was measured on, and what took part."""
    machine, server = result["machine"], dict(result["server"])
    yield f"PostgreSQL {server.pop('server_version')}, {machine['cpus']} processors for all of it"
    yield (
        f"load {machine['load_before']:.1f} before and {machine['load_after']:.1f} after; data on"
        f" {machine['filesystem']}, {machine['syncs_per_second']:,.0f} syncs/s"
    )
    yield from _wrapped([f"{name}={value.strip()}" for name, value in server.items()], ", ")
    yield ""
    for name, version in result["versions"].items():
        yield f"  {name:<16} {version}"
    for name, reason in result["missing"].items():
        yield f"  {name:<16} left out: {reason}"[:WIDTH]


def _tried(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'Settings tried, each for a moment':<70}{'jobs/s':>9}"
    for key, title in CLASSES.items():
        for name, one in result["rates"][key].items():
            for words, measured in one["tried"].items():
                said = f"{title:<15} {name:<16} {words}"
                yield f"  {said[:66]:<68}{measured:>9,.0f}"


def _rates(result: dict[str, Any]) -> Iterator[str]:
    for key, title in CLASSES.items():
        rates = result["rates"][key]
        medians = {name: median(one["rounds"]) for name, one in rates.items()}
        ratio = ratios(medians)
        most = max(medians.values(), default=0.0)
        yield f"{title:<46} {'jobs/s':>9} {'spread':>8} {'of best peer':>13}"
        for name in sorted(medians, key=lambda one: -medians[one]):
            times = f"{ratio[name]:.2f}" if name in ratio else ""
            off = f"± {100 * spread(rates[name]['rounds']):.0f} %"
            block = bar(medians[name], most, 27)
            yield f"  {name:<17}{block} {medians[name]:>9,.0f} {off:>8} {times:>13}"
            yield f"    {_setting(rates[name])}"
        yield ""
    yield f"Imports registered by code_import_new_many: {result['registered_per_second']:,.0f}/s"


def _setting(one: dict[str, Any]) -> str:
    processes = f"{one['processes']} processes, " if one["processes"] > 1 else ""
    return f"{processes}{one['setting']}"[: WIDTH - 4]


def _latency(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'Request to start, woken by NOTIFY':<46} {'p50':>9} {'p99':>9}"
    for name, one in result["latency"].items():
        yield f"  {name:<44} {median(one['p50']):>6.2f} ms {median(one['p99']):>6.2f} ms"


def _cycle(result: dict[str, Any]) -> Iterator[str]:
    yield "A cycle of ours, full-page images left out (full_page_writes off, no autovacuum)"
    for key, title in CLASSES.items():
        one = result["cycle"][key]
        yield (
            f"  {title:<15} {one['wal_bytes']:>7,.0f} B of WAL {one['inserted']:>6.2f} inserted"
            f" {one['dead']:>6.2f} dead, {100 * one['hot']:.0f} % HOT"
        )
        yield f"  {'':<15} {one['notifications']} notifications in {one['cycles']:,} cycles"


def _heartbeats(result: dict[str, Any]) -> Iterator[str]:
    yield "Heartbeats, each with another log tail, 100 runs a call, in the same way"
    for size, one in result["heartbeats"].items():
        yield (
            f"  {size:<15} {one['wal_bytes']:>7,.0f} B of WAL {one['dead']:>6.2f} dead,"
            f" {100 * one['hot']:.1f} % of updates HOT, {one['per_second']:,.0f}/s"
        )


def _bars(result: dict[str, Any]) -> Iterator[str]:
    yield from promises(bars(result))


def promises(all_bars: Iterable[Bar]) -> Iterator[str]:
    """A line for each promise, and whether it is kept."""
    yield "Promises"
    for one in all_bars:
        bound = f"{'≥' if one.at_least else '≤'} {one.bound:,g}"
        verdict = "met" if one.met else "MISSED"
        yield f"  {one.words:<48} {one.measured:>9,.2f} {bound:>10} {verdict:>8}"


def bar(value: float, most: float, width: int) -> str:
    """A bar that fills the width when the value is the most."""
    eighths = round(8 * width * value / most) if most > 0 else 0
    full, rest = divmod(max(eighths, 1 if value > 0 else 0), 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width)


def _wrapped(words: list[str], joint: str) -> Iterator[str]:
    line = ""
    for word in words:
        longer = f"{line}{joint}{word}" if line else word
        if len(longer) > WIDTH - 1:
            yield line + ","
            longer = word
        line = longer
    yield line
