"""Import lists: many imports from a file, and all of them into one.

A list is CSV with a head line, JSON lines, a JSON array, or plain urls, one a line; which it is
shows at its beginning. Where a list names no target, it is made from the url.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

import click

from .. import reading
from ..wire import duration
from .mirror_source import NotASource, Place, normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import psycopg

    from ..client import Client
    from ..models import NewImport
    from ..reading import ImportLine

    _Line = tuple[int, Mapping[str, Any]]

Form = Literal["csv", "jsonl", "urls"]
form_choice = click.Choice(get_args(Form))

AT_ONCE = 1_000
"""Imports that are registered in one transaction, and read in one page."""
FIELDS = (
    "target", "rcs_type", "url", "cvs_root", "cvs_module", "review_status", "owner",
    "update_interval",
)  # fmt: skip
"""What a list may say of an import: the parameters of the function that registers one."""
UNIQUE = "23505"

_SCP = re.compile(r"[^@/:,]+@[^@/:,]+:")


class NotAList(ValueError):
    """A file that is no list; the message says why, and in which line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One import that a list asks for."""

    line: int
    wanted: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """One that was not registered, and why."""

    line: int
    target: str | None
    error_code: str
    message: str


@dataclass(slots=True)
class Registered:
    """What has become of a list."""

    registered: int = 0
    already_there: int = 0
    """Imports that were there with this target and source."""
    refused: int = 0


# In


def read(file: TextIO) -> Iterator[Entry]:
    """Read a list, entry by entry. Raises NotAList."""
    lines = enumerate(file, 1)
    try:
        stripped = ((number, line.lstrip("\ufeff").strip()) for number, line in lines)
        head = next((pair for pair in stripped if pair[1]), None)
        if head is not None:
            for line, given in _read_from(*head, lines):
                yield Entry(line, _with_defaults(line, given))
    except UnicodeDecodeError as err:
        raise NotAList(f"it is not UTF-8: {err}") from None


def _read_from(number: int, first: str, lines: Iterator[tuple[int, str]]) -> Iterator[_Line]:
    if first.startswith("["):
        return _read_array(first + "".join(line for _, line in lines))
    rest = ((place, line.strip()) for place, line in lines)
    every = ((place, line) for place, line in chain([(number, first)], rest) if line)
    if first.startswith("{"):
        return _read_json_lines(every)
    if first.startswith(("/", "#")) or "://" in first or _SCP.match(first):
        return _read_urls(every)
    return _read_csv(number, first, lines)


def register_list(
    conn: psycopg.Connection[Any],
    client: Client,
    entries: Iterable[Entry],
    person: str,
    told: Registered,
) -> Iterator[Refused]:
    """Register the entries of a list, some at a time, each lot in a transaction of its own.

    Yields those that were refused, and counts in ``told``. What was registered stays, whatever
    comes later: a list may be given again.
    """
    entries = iter(entries)
    while lot := list(islice(entries, AT_ONCE)):
        made = client.new_many([entry.wanted for entry in lot], person)
        there = _already_there(conn, lot, made)
        refused = [
            Refused(entry.line, row.target, row.error_code, row.message or "")
            for entry, row in zip(lot, made, strict=True)
            if row.error_code and entry.line not in there
        ]
        told.registered += sum(row.error_code is None for row in made)
        told.already_there += len(there)
        told.refused += len(refused)
        yield from refused


def _already_there(
    conn: psycopg.Connection[Any], lot: list[Entry], made: list[NewImport]
) -> set[int]:
    """The lines of those that are there with this very target and source."""
    taken = {
        entry.wanted["target"]: entry
        for entry, row in zip(lot, made, strict=True)
        if row.error_code == UNIQUE and isinstance(entry.wanted.get("target"), str)
    }
    found = reading.sources(conn, list(taken)) if taken else []
    return {
        taken[line.target].line
        for line in found
        if _source(taken[line.target].wanted) == (
            line.rcs_type, normal(line.url), line.cvs_root, line.cvs_module
        )
    }  # fmt: skip


def _source(wanted: Mapping[str, Any]) -> tuple[Any, ...]:
    url = wanted.get("url")
    return (
        wanted.get("rcs_type"),
        normal(url if isinstance(url, str) else None),
        wanted.get("cvs_root"),
        wanted.get("cvs_module"),
    )


def _read_array(text: str) -> Iterator[_Line]:
    try:
        given = json.loads(text)
    except ValueError as err:
        raise NotAList(f"it begins as a JSON array and is none: {err}") from None
    for place, entry in enumerate(given, 1):
        if not isinstance(entry, dict):
            raise NotAList(f"entry {place} is no object")
        yield place, entry


def _read_json_lines(lines: Iterable[tuple[int, str]]) -> Iterator[_Line]:
    for number, line in lines:
        try:
            entry = json.loads(line)
        except ValueError as err:
            raise NotAList(f"line {number} is no JSON: {err}") from None
        if not isinstance(entry, dict):
            raise NotAList(f"line {number} is no object")
        yield number, entry


def _read_urls(lines: Iterable[tuple[int, str]]) -> Iterator[_Line]:
    for number, line in lines:
        if not line.startswith("#"):
            yield number, {"url": line}


def _read_csv(number: int, first: str, lines: Iterator[tuple[int, str]]) -> Iterator[_Line]:
    [head] = csv.reader([first])
    names = [name.strip() for name in head]
    if unknown := [name for name in names if name not in FIELDS]:
        raise NotAList(f"its head names {unknown[0]!r}, which is none of {', '.join(FIELDS)}")
    rows = csv.reader((line for _, line in lines), strict=True)
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                place = number + rows.line_num
                if len(row) != len(names):
                    raise NotAList(
                        f"line {place} has {len(row)} fields, and the head has {len(names)}"
                    )
                yield place, {name: cell for name, cell in zip(names, row, strict=True) if cell}
    except csv.Error as err:
        raise NotAList(f"line {number + rows.line_num} is no CSV: {err}") from None


def _with_defaults(line: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with a type, by its source, and a target, by its url."""
    entry = {key: value for key, value in given.items() if value is not None}
    url = entry.get("url")
    if "rcs_type" not in entry:
        entry["rcs_type"] = _type_of(url if isinstance(url, str) else None, entry)
    if "target" not in entry and isinstance(url, str):
        try:
            entry["target"] = Place.named(url).full_target()
        except NotASource as err:
            raise NotAList(f"line {line}: {url!r} is no source: {err}") from None
    return entry


def _type_of(url: str | None, entry: Mapping[str, Any]) -> str:
    if "cvs_root" in entry:
        return "cvs"
    scheme = (url or "").partition(":")[0].partition("+")[0].lower()
    return scheme if scheme in ("svn", "bzr") else "git"


# Out


def write(
    conn: psycopg.Connection[Any], form: Form, file: TextIO, filters: Mapping[str, Any]
) -> int:
    """Write all imports, by target, as a list that can be read again; returns how many."""
    count = 0
    if form == "csv":
        file.write(",".join(FIELDS) + "\n")
    for imp in _all(conn, filters):
        text = _written(imp, form)
        if text is not None:
            file.write(text + "\n")
            count += 1
    return count


def _all(conn: psycopg.Connection[Any], filters: Mapping[str, Any]) -> Iterator[ImportLine]:
    after = ""
    while page := reading.imports(conn, **filters, after=after, limit=AT_ONCE):
        yield from page
        after = page[-1].target


def _written(imp: ImportLine, form: Form) -> str | None:
    values = {name: _plain(getattr(imp, name)) for name in FIELDS}
    if form == "urls":
        return imp.url
    if form == "jsonl":
        return json.dumps({key: value for key, value in values.items() if value is not None})
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values.values())
    return out.getvalue()


def _plain(value: object) -> object:
    return duration(value) if isinstance(value, timedelta) else value
