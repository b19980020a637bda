"""How values cross the connection: rows in, JSON out, whatever the caller has set on it.

Cursors are made here, not by the connection, so that its row factory and cursor factory do not
matter; results are binary, so that DateStyle and IntervalStyle do not either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

from psycopg import Connection, Cursor
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from .errors import typed_errors

if TYPE_CHECKING:
    from psycopg.rows import RowFactory, RowMaker

Row = TypeVar("Row")


def fetch_all(
    conn: Connection[Any], cls: type[Row], query: LiteralString, *args: Any, **named: Any
) -> list[Row]:
    """Run a query and return its rows, each as a ``cls``."""
    with typed_errors(), Cursor(conn, row_factory=rows_of(cls)) as cur:
        return cur.execute(query, named or args, binary=True).fetchall()


def fetch_listing(
    conn: Connection[Any], cls: type[Row], query: LiteralString, **named: Any
) -> list[Row]:
    """Run a query whose best plan depends on what is asked: one that is planned each time."""
    with typed_errors(), Cursor(conn, row_factory=rows_of(cls)) as cur:
        return cur.execute(query, named, prepare=False, binary=True).fetchall()


def fetch_maybe(
    conn: Connection[Any], cls: type[Row], query: LiteralString, *args: Any
) -> Row | None:
    """Run a query and return its only row, or None."""
    with typed_errors(), Cursor(conn, row_factory=rows_of(cls)) as cur:
        return cur.execute(query, args, binary=True).fetchone()


def fetch_one(conn: Connection[Any], cls: type[Row], query: LiteralString, *args: Any) -> Row:
    """Run a query that has exactly one row, and return it."""
    with typed_errors(), Cursor(conn, row_factory=rows_of(cls)) as cur:
        return next(cur.execute(query, args, binary=True))


def fetch_value(conn: Connection[Any], query: LiteralString, *args: Any) -> Any:
    """Run a query of one row and one column, and return what is in it."""
    with typed_errors(), Cursor(conn, row_factory=scalar_row) as cur:
        return next(cur.execute(query, args, binary=True))


def rows_of(cls: type[Row]) -> RowFactory[Row]:
    """Rows as a ``cls``, whose fields are the columns selected, in their order.

    psycopg's own ``class_row`` looks the names up for every result, which takes a worker longer
    than to read it.
    """

    def make(_: object) -> RowMaker[Row]:
        return lambda values: cls(*values)

    return make


def jsonb(value: object) -> Jsonb:
    """A value as a jsonb parameter, its times and spans in ISO 8601."""
    return Jsonb(value, dumps=dump_json)


def dump_json(value: object) -> str:
    """A value as JSON text: times in ISO 8601 and UTC, spans as ISO 8601 durations, bytes hex."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def duration(span: timedelta) -> str:
    """A span as an ISO 8601 duration that PostgreSQL reads: ``PT6H``, ``P30D``, ``P1DT2H3M4.5S``.

    In a negative one each part has the sign.
    """
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    minutes, seconds = divmod(span.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{span.microseconds:06}".rstrip("0") if span.microseconds else ""
    days = f"{sign}{span.days}D" if span.days else ""
    clock = "".join(f"{sign}{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M")) if n)
    if seconds or fraction or not (days or clock):
        clock += f"{sign}{seconds}{fraction}S"
    return f"P{days}T{clock}" if clock else f"P{days}"


def instant(time: datetime) -> str:
    """A time in ISO 8601 and UTC: ``2030-01-31T06:00:00Z``."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
