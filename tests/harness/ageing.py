"""Moving time in tests: rows are moved back, since the clock cannot be moved on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL, Identifier

if TYPE_CHECKING:
    from datetime import timedelta

    import psycopg

_TIMES = {
    "_code_import": ["date_created"],
    "_code_import_machine": [
        *("date_created", "heartbeat"),
        *("date_look_again", "oldest_start"),
    ],
    "_code_import_schedule": [
        *("date_created", "date_due", "date_started", "heartbeat"),
        *("date_last_started", "date_last_successful"),
    ],
    "_code_import_result": ["date_created", "date_job_started"],
    "_code_import_event": ["date_created"],
    "_code_import_log_file": ["date_created"],
}


def age(conn: psycopg.Connection[Any], by: timedelta) -> None:
    """Make everything in the database older, as if so much time had gone by.

    Needs a connection of the owner of the private tables.
    """
    for table, columns in _TIMES.items():
        changes = SQL(", ").join(
            SQL("{0} = {0} - %(by)s").format(Identifier(column)) for column in columns
        )
        conn.execute(SQL("update vcs.{} set {}").format(Identifier(table), changes), {"by": by})
