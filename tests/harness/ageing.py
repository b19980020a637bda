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
    "_code_import_result": ["date_filed", "date_created", "date_job_started"],
    "_code_import_event": ["date_created"],
    "_code_import_log_file": ["date_created"],
}
# The hours in which rows come to lie, and that no partition covers, nor can: the default one has
# what was written too late for its time.
_BARE_HOURS = SQL("""
    with hour as (
        select distinct vcs._aligned({key} - %(by)s, interval '1 h') as lower
        from vcs.{parent}
        where isfinite({key})
    )
    select lower
    from hour
    where not exists (
        select from vcs._partitions({name}) as part
        where part.lower_bound <= lower and lower < part.upper_bound
    )
    and not exists (
        select from vcs.{default} as late
        where vcs._aligned(late.{key}, interval '1 h') = lower
    )
""")


def age(conn: psycopg.Connection[Any], by: timedelta) -> None:
    """Make everything in the database older, as if so much time had gone by.

    Needs a connection of the owner of the private tables. The history comes to lie in partitions
    of its time, an hour wide: as wide as those of the shortest retention.
    """
    for parent, key in conn.execute("select parent, key from vcs._history()").fetchall():
        find = _BARE_HOURS.format(
            key=Identifier(key),
            parent=Identifier(parent),
            name=parent,
            default=Identifier(f"{parent}_default"),
        )
        for (lower,) in conn.execute(find, {"by": by}).fetchall():
            conn.execute("set role code_import_owner")
            conn.execute(
                "select vcs._add_partition(%s, %s, %s::timestamptz + interval '1 h')",
                [parent, lower, lower],
            )
            conn.execute("reset role")
    for table, columns in _TIMES.items():
        changes = SQL(", ").join(
            SQL("{0} = {0} - %(by)s").format(Identifier(column)) for column in columns
        )
        conn.execute(SQL("update vcs.{} set {}").format(Identifier(table), changes), {"by": by})
