"""How things are printed: tables that fit the terminal for people, JSON for programs.

Text from the database may hold anything, so control characters are shown, never sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from ..wire import dump_json, instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    from .base import Session

Row = TypeVar("Row")

STYLES = {
    "failing": "red",
    "invalid": "red",
    "suspended": "yellow",
    "new": "yellow",
    "running": "green",
    "online": "green",
    "quiescing": "yellow",
    "success": "green",
    "success_nochange": "green",
    "success_partial": "green",
    "reclaimed": "yellow",
    "killed": "yellow",
    "internal_failure": "red",
    "failure": "red",
    "failure_invalid": "red",
    "failure_unsupported_feature": "red",
    "failure_forbidden": "red",
    "failure_remote_broken": "red",
}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: its head, and what stands in it. One that is empty all over is left
    out; one that ``folds`` gives way when the terminal is narrow."""

    head: str
    cell: Callable[[Row], object]
    folds: bool = False
    right: bool = False


FOLDED = 12
"""How narrow a column may get by folding, in characters."""

# JSON


def print_json(value: object) -> None:
    """Print one JSON document: records as objects, times and intervals in ISO 8601."""
    click.echo(_without_controls(dump_json(_plain(value))))


def print_text(session: Session, text: str) -> None:
    """Print a whole file; a JSON string for programs."""
    if session.json:
        print_json(text)
    else:
        click.echo(text, nl=False)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _without_controls(document: str) -> str:
    """JSON escapes the C0 controls itself; DEL and the C1 controls remain."""
    return document.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def tell(session: Session, record: object, sentence: str) -> None:
    """Print how a call went: what the function returned as JSON, or a sentence."""
    if session.json:
        print_json(record)
    else:
        click.echo(sentence)


# Tables


def print_rows(
    session: Session, rows: Sequence[Row], columns: Sequence[Column[Row]], *, none: str
) -> None:
    """Print a listing: a JSON array, or a table; ``none`` is said when there is nothing."""
    if session.json:
        print_json(rows)
    elif rows:
        print_table(rows, columns)
    else:
        click.echo(none, err=True)


def print_table(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
    """Print a table for people."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    shown: list[list[Text]] = []
    for column in columns:
        cells = [_cell(column.cell(row)) for row in rows]
        if any(cells):
            shown.append(cells)
            table.add_column(
                column.head,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold",
                min_width=min(FOLDED, max(map(len, cells))) if column.folds else None,
            )
    for row in zip(*shown, strict=True):
        table.add_row(*row)
    _print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print what is known of one thing, a line each; what is not known is left out."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if text := _cell(value):
            table.add_row(name, text)
    _print(table)


def print_log_tail(log: str | None) -> None:
    """Print the last lines of a log, a line apart from what stands above."""
    if log and log.strip():
        lines = visible(log.rstrip(), keep="\n\t").split("\n")
        click.echo("\n".join(["", *lines[-20:]]))


def _cell(value: object) -> Text:
    from rich.text import Text

    if isinstance(value, Text):
        return value
    text = "" if value is None else visible(str(value))
    return Text(text, style=STYLES.get(text, ""))


def _print(renderable: object) -> None:
    console = _console()
    with console.capture() as captured:
        console.print(renderable)
    lines = (line.rstrip() for line in captured.get().splitlines())
    click.echo("\n".join(lines))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


# Words for values


def visible(text: str, *, keep: str = "") -> str:
    """A text with its control characters shown as ``\\x1b``, other than those to ``keep``."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def span(length: timedelta) -> str:
    """A length of time in two words: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``12 days``."""
    seconds = length.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{int(seconds)} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h"
    return f"{length.days} days"


def every(interval: timedelta) -> str:
    """An interval exactly: ``6 h``, ``1 h 30 min``, ``30 days``."""
    minutes, seconds = divmod(interval.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    exact = round(seconds + interval.microseconds / 1e6, 2)
    parts = ((interval.days, "days"), (hours, "h"), (minutes, "min"), (exact, "s"))
    days_word = {"days": "day"} if interval.days == 1 else {}
    return " ".join(f"{n:g} {days_word.get(unit, unit)}" for n, unit in parts if n) or "0 s"


def ago(time: datetime | None, now: datetime, *, never: str = "") -> str:
    """How far a time is from now: ``3 min ago``, ``in 5 h``, ``now``."""
    if time is None:
        return never
    distance = time - now
    if abs(distance) < timedelta(seconds=1):
        return "now"
    if distance > timedelta(0):
        return f"in {_whole(_rounded(distance))}"
    return f"{_whole(-distance)} ago"


def _rounded(length: timedelta) -> timedelta:
    """To the nearest unit that it is told in: what was 6 h a moment ago is still 6 h."""
    for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)):
        if length >= (2 * unit if unit.days else unit) - unit / 2:
            return round(length / unit) * unit
    return length


def _whole(length: timedelta) -> str:
    return f"{length.seconds} s" if length < timedelta(minutes=1) else span(length)


def due(date_due: datetime | None, now: datetime) -> str:
    """When a job may start: ``in 5 h``, ``due 3 min ago``."""
    if date_due is None:
        return ""
    return ago(date_due, now) if date_due > now else f"due {ago(date_due, now)}"


def exact(time: datetime | None, now: datetime) -> str:
    """A time in full and how far it is: ``2030-01-31 06:00:00 UTC, in 5 h``."""
    if time is None:
        return ""
    clock = instant(time.replace(microsecond=0)).replace("T", " ").replace("Z", " UTC")
    return f"{clock}, {ago(time, now)}"


def given(filters: dict[str, Any]) -> dict[str, Any]:
    """Filters as :mod:`code_import.reading` takes them: none of something is no filter."""
    return {key: None if value == () else value for key, value in filters.items()}


def brief(data: dict[str, Any] | None) -> str:
    """What an event carries, in a few words: changed values with the old ones, or all of it."""
    if not data:
        return ""
    changed = [key for key in data if f"old_{key}" in data]
    if changed:
        return "; ".join(
            f"{key} {_word(data[key])}, was {_word(data[f'old_{key}'])}" for key in changed
        )
    return ", ".join(f"{key} {_word(value)}" for key, value in data.items() if value is not None)


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
