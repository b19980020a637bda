"""Statements that are sent without waiting for their end, so that they can wait for each other."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus

from .waiting import eventually

if TYPE_CHECKING:
    import psycopg

DONE = "done"
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


def send(conn: psycopg.Connection[Any], statements: bytes) -> None:
    """Send statements of the simple protocol; :func:`outcome` returns how they end."""
    conn.pgconn.send_query(statements)


def outcome(conn: psycopg.Connection[Any]) -> str:
    """Wait for what was sent: ``done``, or the SQLSTATE of the error that ended it.

    A transaction that an error has aborted is rolled back.
    """
    ended = DONE
    while (result := conn.pgconn.get_result()) is not None:
        if result.status in _FAILED:
            sqlstate = result.error_field(DiagnosticField.SQLSTATE)
            ended = sqlstate.decode() if sqlstate else result.get_error_message()
    if conn.pgconn.transaction_status == TransactionStatus.INERROR:
        ask(conn, b"rollback")
    return ended


def ask(conn: psycopg.Connection[Any], statements: bytes) -> str:
    """Send statements and wait for their end, as :func:`outcome` tells it."""
    send(conn, statements)
    return outcome(conn)


def ended_or_waiting(conn: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> bool:
    """Return when what was sent has ended or waits for a lock; whether it has ended."""
    pid = conn.info.backend_pid

    def answer() -> str | None:
        select.select([conn.pgconn.socket], [], [], 0.001)
        conn.pgconn.consume_input()
        if not conn.pgconn.is_busy():
            return "ended"
        row = watcher.execute("select pg_blocking_pids(%s) <> '{}'", [pid]).fetchone()
        return "waiting" if row == (True,) else None

    return eventually(answer, what=f"backend {pid} ends or waits for a lock") == "ended"
