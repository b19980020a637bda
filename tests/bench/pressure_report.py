"""What is said of code-import under pressure: tables and curves for 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.promises import NEVER, bars, ratio
from bench.report import WIDTH, promises, where

if TYPE_CHECKING:
    from collections.abc import Iterator

CURVE = 56
LEVELS = " ▁▂▃▄▅▆▇█"
HONESTY = """\
A cycle of code-import is claim, result row, audit trail, and the next job; a
job of the peers is a no-op. Rates are of the last third of the time under
pressure, when it is worst. Curves are jobs a second over time. What is read are
index entries for each job, before and under pressure, whatever else goes on.
"""


def report(result: dict[str, Any]) -> str:
    """The whole report."""
    parts = {
        "held": _held, "readers": _readers, "overload": _overload, "idle": _idle, "crowd": _crowd
    }  # fmt: skip
    said = ["\n".join([*where(result), *_settings(result), "", HONESTY.rstrip()])]
    said += ["\n".join(part(result)) for name, part in parts.items() if name in result]
    said.append("\n".join(promises(bars(result))))
    return "\n\n".join(said)


def _settings(result: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        f"autovacuum_naptime {result['naptime']} s; snapshots are held for"
        f" {60 * result['minutes']:,.0f} s;"
    )
    yield f"{result['imports']:,} imports are always due; {result['ordered']:,} wait, ordered"


def _held(result: dict[str, Any]) -> Iterator[str]:
    title = "A snapshot is held"
    yield f"{title:<27}{'jobs/s':>8}{'held':>8}{'times':>7}{'p99 ms':>9}{'times':>7}{'back in':>9}"
    for name, one in result["held"]["ours"].items():
        yield _row(name, one)
        yield _words(one)
        yield from _curve(one)
    for key, peers in result["held"]["peers"].items():
        for name, one in peers.items():
            yield _row(f"{name}, {key}", one)
            yield _words(one)
            yield from _curve(one)


def _words(one: dict[str, Any]) -> str:
    """What it is, and how many index entries a job had to read before and under pressure."""
    before, held = (one["walked"][name] for name in ("before", "held"))
    read = "" if before is None or held is None else f"{before:,.0f} -> {held:,.0f} read"
    return f"    {one['words'][: WIDTH - 30]:<{CURVE}} {read:>19}"[:WIDTH].rstrip()


def _row(name: str, one: dict[str, Any]) -> str:
    rate, p99 = one["rate"], one["p99"]
    back = "never" if one["recovery"] is None else f"{one['recovery']:.0f} s"
    times = _times(ratio(p99["held"], p99["before"]))
    return (
        f"  {name:<25}{rate['before']:>8,.0f}{rate['late']:>8,.0f}"
        f"{_times(ratio(rate['late'], rate['before'])):>7}{_ms(p99['before']):>9}{times:>7}"
        f"{back:>9}"
    )


def _curve(one: dict[str, Any]) -> Iterator[str]:
    """The rate over time, with marks where the pressure begins and ends, and what was dead."""
    drawn = curve(one["rates"], CURVE)
    scale = min(1.0, CURVE / max(len(one["rates"]), 1))
    width = max(len(drawn), 1)
    begin, end = (min(int(one[mark] * scale), width - 1) for mark in ("held_at", "released_at"))
    line = [" "] * width
    line[begin : end + 1] = ["─"] * (end + 1 - begin)
    line[begin], line[end] = "├", "┤"
    dead = max((row[1] or 0 for row in one["samples"]), default=0)
    grown = max((row[2] + row[3] for row in one["samples"]), default=0)
    yield f"    {drawn:<{CURVE}}"
    yield f"    {''.join(line):<{CURVE}} {_short(dead)} dead, {grown >> 20:,} MB"


def curve(values: list[int], width: int) -> str:
    """A line of blocks, each as high as the mean of its share of the values."""
    if not values:
        return ""
    columns = min(width, len(values))
    most = max(max(values), 1)
    means = []
    for place in range(columns):
        begin = place * len(values) // columns
        share = values[begin : max((place + 1) * len(values) // columns, begin + 1)]
        means.append(sum(share) / len(share))
    return "".join(LEVELS[max(1 if mean else 0, round(8 * mean / most))] for mean in means)


def _readers(result: dict[str, Any]) -> Iterator[str]:
    title = "Four readers scan"
    yield f"{title:<27}{'jobs/s':>8}{'with':>8}{'times':>7}{'p99 ms':>9}{'times':>7}{'back in':>9}"
    for name, one in result["readers"].items():
        words = f"{one['lasting']:.0f} s in one snapshot" if one["lasting"] else "a snapshot a scan"
        yield _row(f"{name} transactions", one)
        yield f"    {words}"
        yield from _curve(one)


def _overload(result: dict[str, Any]) -> Iterator[str]:
    one = result["overload"]
    yield f"Overload: 1.5 times what can be done falls due for {one['seconds']:.0f} s, then 0.5"
    yield f"  can be done {one['capacity']:>8,.0f}/s     done meanwhile {one['rate']:>8,.0f}/s"
    yield (
        f"  claims, p50 {_ms(one['p50_first'])} ms at first and {_ms(one['p50_last'])} at the"
        f" end; p99 {_ms(one['p99_first'])} and {_ms(one['p99_last'])}"
    )
    lags = [lag for lag in one["lag"] if lag is not None]
    back = "never" if one["caught_up"] is None else f"{one['caught_up']:.0f} s later"
    yield f"  starts were up to {max(lags, default=0):.1f} s late; caught up {back}"
    told = ", ".join(f"{count:,} {word}" for word, count in one["directives"].items())
    yield f"  heartbeats of {one['runs']} runs: {told}; p99 {_ms(one['beat_p99'])} ms"
    yield f"  reclaimed {one['reclaimed']}; of those {one['runs']} finished {one['finished']}"
    yield f"    {curve(one['rates'], CURVE)}"


def _idle(result: dict[str, Any]) -> Iterator[str]:
    one = result["idle"]
    yield f"{one['workers']:,} idle workers, on {one['connections']} connections to ask and to hear"
    yield (
        f"  nothing happens: {one['statements_per_second']:.1f} statements/s,"
        f" by {one['asks_per_second']:.1f} asks/s, for {one['seconds']:.0f} s"
    )
    milliseconds = sorted(one["milliseconds"])
    yield (
        f"  a request starts after {one['start_p50']:.1f} ms (p50), at most"
        f" {milliseconds[-1]:.1f}, of {len(milliseconds)}"
    )
    woken = sorted(one["woken"])
    yield (
        f"  it has {woken[0]} to {woken[-1]} workers ask, with"
        f" {max(one['statements_of_a_request'])} statements at most"
    )
    for name, words in (("many", "1,000 transactions"), ("many_in_one", "one transaction")):
        many = one[name]
        half = f"half run after {many['half']:.1f} s, " if many["half"] is not None else ""
        whole = f"{many['running']} run in the end"
        if many["all"] is not None:
            whole = f"all after {many['all']:.1f} s"
        yield f"  1,000 requests in {words}: {half}{whole}"


def _crowd(result: dict[str, Any]) -> Iterator[str]:
    one = result["crowd"]
    yield (
        f"A crowd: {one['connections']} connections of {one['machines']} machines for"
        f" {one['seconds']:.0f} s, {one['per_second']:,.0f} cycles/s"
    )
    for name, key in (("machine", "per_machine"), ("worker", "per_worker")):
        least, middle, most = one[key]
        yield f"  cycles of a {name:<8} least {least:>7,}  median {middle:>9,.1f}  most {most:>7,}"
    waits = one["waits"]
    yield (
        f"  {one['deadlocks']} deadlocks; waiting for a lock: {waits['mean']:.1f} on average,"
        f" {waits['most']} at most, {1000 * waits['longest']:.0f} ms"
    )
    yield f"  claim p99 {_ms(one['claim_p99'])} ms"
    for kind, count in sorted(waits["kinds"].items(), key=lambda item: -item[1])[:8]:
        yield f"    {kind:<40} {count:>6.1f} at a time"
    for words, count in one["errors"].items():
        yield f"    {count:,} times {words}"[:WIDTH]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _times(value: float) -> str:
    return "-" if value == NEVER else f"{value:.2f}"


def _short(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.0f}k" if count >= 10_000 else f"{count:,}"
