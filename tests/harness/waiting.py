"""Ways to wait: for a condition, with a bound, and never for a length of time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """Ask until the answer is true and return it; after ``timeout`` AssertionError."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or predicate}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def wait_until_blocked(
    conn: psycopg.Connection[Any], pid: int, by: int | None = None, timeout: float = 20.0
) -> None:
    """Return when backend ``pid`` waits for a lock (that backend ``by`` holds, when given)."""

    def is_blocked() -> bool:
        row = conn.execute("select pg_blocking_pids(%s)", [pid]).fetchone()
        blockers: list[int] = row[0] if row else []
        return by in blockers if by is not None else bool(blockers)

    eventually(is_blocked, timeout, f"backend {pid} waits for {by or 'a lock'}")
