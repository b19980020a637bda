"""The rules that hold after every transaction, asked of a database in one query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import Cursor
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    import psycopg

_QUERY = Path(__file__).with_name("invariants.sql").read_bytes()


def broken_rules(conn: psycopg.Connection[Any], *, whole_history: bool = True) -> list[str]:
    """The rules that do not hold, each with the ids that break it.

    Needs a connection that may read the private tables. Where retention has removed events or
    results, ``whole_history=False`` leaves out the rules that compare records with them.
    """
    with Cursor(conn, row_factory=tuple_row) as cur:
        broken = cur.execute(_QUERY).fetchall()
    return [f"{rule}: {ids}" for rule, ids, kind in broken if whole_history or kind == "record"]


def assert_rules_hold(conn: psycopg.Connection[Any], *, whole_history: bool = True) -> None:
    """AssertionError with the rules that do not hold."""
    broken = broken_rules(conn, whole_history=whole_history)
    assert not broken, "\n".join(broken)
