"""What is said of queues of several sizes and of a steady day: tables and curves for 80 columns."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.figures import Bar, spread
from bench.report import promises, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOT = ("_code_import_schedule", "_code_import_logtail", "_code_import_machine")
"""What a cycle changes, and what should therefore stay as large as it is."""
HISTORY = ("_code_import_result", "_code_import_event", "_code_import_log_file")
"""What a cycle adds to, and retention takes from."""
CALLS = ("claim", "heartbeat", "finish", "request", "claim of it", "next_due")
RUNS_A_YEAR = 4 * 365
"""Of an import at the default interval of 6 hours."""
BULK_RATE = 20_000
MOST_TIMES = 1.5
MOST_LAG = 1.0
MOST_GROWTH = 1.25
SETTLED = 600
"""Seconds before which a steady day says nothing of how it lasts: autovacuum has hardly come by,
and a third of it has too few calls for a 99th percentile."""
CURVE = 50

HOW = """\
Each import has run once; a tenth is due, in an order that is not that of the
rows. Latencies are those of the Python client, one call at a time, each call at
all sizes in turn; median of the rounds' percentiles, and how far one was off.
"""


def report(result: dict[str, Any]) -> str:
    """The whole report."""
    parts = (_where, _registration, _latency, _readings, _reclaim, _disk, _day, _curves, _promises)
    return "\n\n".join("\n".join(part(result)) for part in parts)


def bars(result: dict[str, Any]) -> list[Bar]:
    """Every promise that this result can speak of."""
    sizes = [str(size) for size in result["sizes"]]
    least, most = sizes[0], sizes[-1]
    slowest = min(result["filled"][size]["registered_per_second"] for size in sizes)
    found = [Bar("Imports registered in bulk, a second", slowest, BULK_RATE, at_least=True)]
    if least != most:
        words = f"at {short(int(most))}: times that at {short(int(least))}"
        for call in CALLS:
            times = result["latency"][call]
            ratio = _times(times[most]["p99"], times[least]["p99"])
            found.append(Bar(f"{call}, p99 {words}", ratio, MOST_TIMES))
    return found + _day_bars(result["day"])


def _day_bars(day: dict[str, Any]) -> list[Bar]:
    slots = day["slots"]
    first, last = thirds(slots)
    late = median(slot["lag"]["p99"] for slot in last) / 1000
    done = sum(slot["cycles"] for slot in slots[1:]) / (len(slots[1:]) * day["slot"])
    found = [
        Bar("Steady day: percent of what fell due done", 100 * done / day["rate"], 99, True),
        Bar("Steady day: start after due at the end, p99, s", late, MOST_LAG),
    ]
    if len(slots) * day["slot"] < SETTLED:
        return found
    for call in ("claim", "finish"):
        ratio = _times([_middle(last, call, "p99")], [_middle(first, call, "p99")])
        found.append(Bar(f"Steady day: {call}, p99, last third / first", ratio, MOST_TIMES))
    for part in ("table", "indexes"):
        ratio = median(slot[part] for slot in last) / median(slot[part] for slot in first)
        found.append(Bar(f"Steady day: bytes of {part}, last third / first", ratio, MOST_GROWTH))
    return found


def thirds(slots: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The first and the last third of the day, its very beginning left out."""
    rest = list(slots[1:])
    third = max(len(rest) // 3, 1)
    return rest[:third], rest[-third:]


def short(size: int) -> str:
    """A size in few letters: 10k, 1M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return str(size)


def _times(these: Sequence[float], those: Sequence[float]) -> float:
    """How many times those, round by round: what disturbed a round disturbed both."""
    return median(this / max(that, 1e-9) for this, that in zip(these, those, strict=True))


def _middle(slots: Sequence[dict[str, Any]], call: str, share: str) -> float:
    return median(slot[call][share] for slot in slots)


# --- the parts ---------------------------------------------------------------------------------


def _where(result: dict[str, Any]) -> Iterator[str]:
    yield from where(result)
    yield ""
    yield HOW.rstrip()


def _registration(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'Registered by code_import_new_many':<50}{'imports/s':>12}"
    for size, one in result["filled"].items():
        words = f"{int(size):,} imports, {one['connections']} connections"
        yield f"  {words:<48}{one['registered_per_second']:>12,.0f}"


def _latency(result: dict[str, Any]) -> Iterator[str]:
    rounds = f"{result['rounds']} rounds of {result['samples']:,}"
    yield f"{'Latency, ms; ' + rounds:<36}{'p50':>10}{'p99':>10}{'spread':>9}{'p99.9':>11}"
    for call in CALLS:
        yield f"  {call}"
        for size, one in result["latency"][call].items():
            off = f"± {100 * spread(one['p99']):.0f} %"
            yield (
                f"    {int(size):>12,} imports{'':<12}{median(one['p50']):>10.2f}"
                f"{median(one['p99']):>10.2f}{off:>9}{median(one['p99.9']):>11.2f}"
            )


def _readings(result: dict[str, Any]) -> Iterator[str]:
    sizes = [str(size) for size in result["sizes"]]
    heads = "".join(f"{short(int(size)):>12}" for size in sizes)
    yield f"{'First pages of what people list, p50, ms':<44}{heads}"
    for name, row in result["latency"].items():
        if name not in CALLS:
            middles = "".join(f"{median(row[size]['p50']):>12.2f}" for size in sizes)
            yield f"  {name:<42}{middles}"


def _reclaim(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'Reclaim of 10,000 silent runs in one call':<44}{'s':>12}{'spread':>10}"
    for size, took in result["reclaim"].items():
        off = f"± {100 * spread(took):.0f} %"
        yield f"  {f'{int(size):,} imports':<42}{median(took):>12.2f}{off:>10}"


def _disk(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'On disk, bytes':<44}{'table':>10}{'indexes':>10}{'both':>12}"
    for size, one in result["filled"].items():
        yield f"  {int(size):,} imports, each with one run behind it; of each:"
        total = 0.0
        for relation, counts in sorted(one["relations"].items()):
            each = [counts[part] / int(size) for part in ("table", "indexes")]
            total += sum(each)
            if sum(each) >= 1:
                yield f"    {relation:<40}{each[0]:>10,.0f}{each[1]:>10,.0f}{sum(each):>12,.0f}"
        yield f"    {'an import in all':<60}{total:>12,.0f}"
        counts = one["relations"]["_code_import_result"]
        run = (counts["table"] + counts["indexes"]) / one["results"]
        yield f"    {'a year of its results, 4 a day, without log':<60}{run * RUNS_A_YEAR:>12,.0f}"
    slots = result["day"]["slots"]
    cycles = sum(slot["cycles"] for slot in slots[1:])
    run = (slots[-1]["history"] - slots[0]["history"]) / max(cycles, 1)
    yield f"  {'a result in the steady day, with its log excerpt':<62}{run:>12,.0f}"
    yield f"  {'a year of these, 4 a day':<62}{run * RUNS_A_YEAR:>12,.0f}"
    yield f"  {'a year of these for a million imports, GB':<62}{run * RUNS_A_YEAR / 1e3:>12,.0f}"


def _day(result: dict[str, Any]) -> Iterator[str]:
    day = result["day"]
    slots = day["slots"]
    yield f"A steady day, watched for {len(slots) * day['slot'] / 60:g} minutes"
    yield f"  {day['imports']:,} imports, an interval of {day['interval']:.1f} s, spread evenly: so"
    yield f"  {day['rate']:,.0f} fall due each second, for as long as each is done when it is due."
    yield f"  {day['machines']} machines claim up to {day['batch']} at a time; a run goes on for"
    yield f"  {day['lasting']:g} s and beats once: 200 bytes of log, 2,000 from one in ten."
    yield ""
    yield (
        f"  {'from s':>7}{'cycles/s':>9}{'lag p99':>9}{'claim':>7}{'p99':>7}{'finish':>7}{'p99':>7}"
        f"{'MB':>7}{'dead k':>7}{'WAL B':>7}"
    )
    step = max(-(-len(slots) // 12), 1)
    for number in range(0, len(slots), step):
        yield "  " + _line(slots[number : number + step], number, day["slot"])
    last = slots[-1]
    yield ""
    yield "  lag: start after due, ms; claim, finish: ms a batch; MB: tables and indexes"
    yield "  that a cycle changes, without history; dead: their dead rows; WAL B: a cycle."
    yield f"  {last['autovacuums']} autovacuums of these tables.{_tidied(slots)}"
    times = day["rush"] / day["rate"]
    yield f"  As fast as it can be: {day['rush']:,.0f} cycles/s, {times:.1f} times the rate."


def _line(slots: Sequence[dict[str, Any]], number: int, seconds: float) -> str:
    cycles = sum(slot["cycles"] for slot in slots)
    size = median(slot["table"] + slot["indexes"] for slot in slots) / 1e6
    return (
        f"{number * seconds:>7,.0f}{cycles / len(slots) / seconds:>9,.0f}"
        f"{_middle(slots, 'lag', 'p99'):>9,.0f}"
        f"{_middle(slots, 'claim', 'p50'):>7.1f}{_middle(slots, 'claim', 'p99'):>7.1f}"
        f"{_middle(slots, 'finish', 'p50'):>7.1f}{_middle(slots, 'finish', 'p99'):>7.1f}"
        f"{size:>7,.0f}{median(slot['dead'] for slot in slots) / 1e3:>7,.0f}"
        f"{sum(slot['wal'] for slot in slots) / max(cycles, 1):>7,.0f}"
    )


def _tidied(slots: Sequence[dict[str, Any]]) -> str:
    took = [slot["tidied"] for slot in slots if "tidied" in slot]
    if not took:
        return ""
    return f" tidy_up, {len(took)} times: {median(took):,.0f} ms, at most {max(took):,.0f}."


def _curves(result: dict[str, Any]) -> Iterator[str]:
    day = result["day"]
    slots, seconds = day["slots"], day["slot"]
    curves = {
        "cycles/s": [slot["cycles"] / seconds for slot in slots],
        "lag p99, ms": [slot["lag"]["p99"] for slot in slots],
        "claim p99, ms": [slot["claim"]["p99"] for slot in slots],
        "finish p99, ms": [slot["finish"]["p99"] for slot in slots],
        "tables, MB": [slot["table"] / 1e6 for slot in slots],
        "indexes, MB": [slot["indexes"] / 1e6 for slot in slots],
        "dead rows, k": [slot["dead"] / 1e3 for slot in slots],
        "history, MB": [slot["history"] / 1e6 for slot in slots],
    }
    yield f"{'The steady day from beginning to end':<66}{'most':>12}"
    for name, values in curves.items():
        yield f"  {name:<16}{curve(values, CURVE)}{max(values):>10,.1f}"


def curve(values: Sequence[float], width: int) -> str:
    """Values over time, from nothing to the most, in one line that is so wide."""
    most, count = max(values, default=0.0), min(width, len(values))
    parts = [
        median(values[len(values) * place // count : len(values) * (place + 1) // count])
        for place in range(count)
    ]
    levels = "▁▂▃▄▅▆▇█"
    line = "".join(
        levels[min(int(8 * part / most), 7)] if most > 0 else levels[0] for part in parts
    )
    return line.ljust(width)


def _promises(result: dict[str, Any]) -> Iterator[str]:
    return promises(bars(result))
