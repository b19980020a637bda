"""``code-import event``: the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from .. import reading
from ..models import EventType
from .base import ID, Group, Session, limit_option, pass_session
from .names import find_import, find_machine
from .output import Column, ago, brief, print_rows

if TYPE_CHECKING:
    from datetime import datetime

    from ..reading import EventLine


@click.group("event", cls=Group)
def event() -> None:
    """See who did what, and when: every change of an import, job, machine or setting."""


@event.command(
    "list",
    examples=[
        "event list --import project/repo",
        "event list --type request --person alice",
        "event list --machine build1 --json",
    ],
)
@click.option("--import", "of_import", metavar="IMPORT", help="Of this import: a target or id.")
@click.option("--machine", metavar="MACHINE", help="Of this machine: a hostname or id.")
@click.option(
    "--type",
    "event_types",
    type=click.Choice(get_args(EventType)),
    metavar="TYPE",
    multiple=True,
    help=f"Of this type: {', '.join(get_args(EventType))}.",
)
@click.option("--person", metavar="NAME", help="By this person.")
@click.option("--before", type=ID, metavar="ID", help="The page before this event.")
@limit_option()
@pass_session
def list_events(
    session: Session,
    of_import: str | None,
    machine: str | None,
    event_types: tuple[EventType, ...],
    person: str | None,
    before: int | None,
    limit: int,
) -> None:
    """List events, newest first. IMPORT may be the id of one that was deleted."""
    conn = session.connect()
    import_id = reading.as_id(of_import) if of_import else None
    if of_import and import_id is None:
        import_id = find_import(conn, of_import).id
    found = reading.events(
        conn,
        code_import_id=import_id,
        machine_id=find_machine(conn, machine).id if machine else None,
        event_types=event_types or None,
        person=person,
        before=before,
        limit=limit,
    )
    print_rows(session, found, _columns(reading.now(conn)), none="no events")
    if len(found) == limit:
        click.echo(f"more, perhaps: --before {found[-1].id}", err=True)


def _columns(now: datetime) -> list[Column[EventLine]]:
    return [
        Column("WHEN", lambda line: ago(line.date_created, now)),
        Column("EVENT", lambda line: line.event_type),
        Column("OF", _subject, folds=True),
        Column("BY", lambda line: line.person or _runner(line), folds=True),
        Column("DETAILS", _details, folds=True),
    ]


def _subject(line: EventLine) -> str:
    """The import, by what it was called if it is gone, or else the machine or the setting."""
    data = line.data or {}
    if line.code_import_id is None:
        return _runner(line) or str(data.get("setting", ""))
    return line.target or str(data.get("target", f"import {line.code_import_id}"))


def _runner(line: EventLine) -> str:
    return line.hostname or (f"machine {line.machine_id}" if line.machine_id else "")


def _details(line: EventLine) -> str:
    """A create or delete carries the whole import; its source and status say enough."""
    data = line.data or {}
    if line.event_type in ("create", "delete"):
        known = (data.get(key) for key in ("review_status", "rcs_type", "url", "cvs_root"))
        return " ".join(str(value) for value in known if value)
    if line.event_type == "finish":
        return str(data.get("status", ""))
    if data.keys() == {"job_id"}:
        return f"job {data['job_id']}"
    return brief(data)
