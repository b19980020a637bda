"""``code-import machine``: who runs the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from .. import reading
from ..models import MachineState, OfflineReason
from .base import Group, Session, limit_option, pass_session, person_option
from .names import find_machine
from .output import Column, ago, exact, given, print_facts, print_json, print_rows, tell

if TYPE_CHECKING:
    from datetime import datetime

    from ..reading import MachineLine

machine_argument = click.argument("name", metavar="MACHINE")
message_option = click.option("--message", metavar="TEXT", help="Why, for the audit trail.")


@click.group("machine", cls=Group)
def machine() -> None:
    """See and steer the machines that run jobs.

    A machine registers itself when its worker first asks for work. It is `online`, `quiescing`
    (finishes what it has, takes nothing new) or `offline`. MACHINE is a hostname or an id.
    """


@machine.command("list", examples=["machine list", "machine list --state online --json"])
@click.option(
    "--state",
    "states",
    type=click.Choice(get_args(MachineState)),
    multiple=True,
    help="In this state.",
)
@click.option("--after", metavar="HOSTNAME", default="", help="The page after this one.")
@limit_option()
@pass_session
def list_machines(session: Session, **filters: Any) -> None:
    """List machines by hostname, with how many jobs each one runs."""
    conn = session.connect()
    found = reading.machines(conn, **given(filters))
    print_rows(session, found, _columns(reading.now(conn)), none="no machines")
    if len(found) == filters["limit"]:
        click.echo(f"more, perhaps: --after {found[-1].hostname}", err=True)


@machine.command("show", examples=["machine show build1"])
@machine_argument
@pass_session
def show_machine(session: Session, name: str) -> None:
    """Show a machine. What it runs: `code-import job list --machine MACHINE`."""
    conn = session.connect()
    found = find_machine(conn, name)
    if session.json:
        print_json(found)
    else:
        print_facts(_facts(found, reading.now(conn)))


@machine.command("new", sql="code_import_machine_new", examples=["machine new build1"])
@click.argument("hostname")
@click.option(
    "--state",
    type=click.Choice(get_args(MachineState)),
    default="offline",
    show_default=True,
    help="How it begins.",
)
@pass_session
def new_machine(session: Session, hostname: str, state: MachineState) -> None:
    """Register a machine before its worker asks for work; offline, it has to wait."""
    _, client = session.open()
    made = client.machine_new(hostname, state)
    tell(session, made, f"machine {made.id}, {made.hostname}, is {made.state}")


@machine.command("online", sql="code_import_machine_set_online", examples=["machine online build1"])
@machine_argument
@message_option
@person_option
@pass_session
def set_online(session: Session, name: str, message: str | None, person: str) -> None:
    """Let a machine take jobs."""
    conn, client = session.open()
    made = client.machine_set_online(find_machine(conn, name).id, person, message)
    tell(session, made, f"machine {made.id}, {made.hostname}, is {made.state}")


@machine.command(
    "quiesce",
    sql="code_import_machine_set_quiescing",
    examples=["machine quiesce build1 --message 'new disk'"],
)
@machine_argument
@message_option
@person_option
@pass_session
def set_quiescing(session: Session, name: str, message: str | None, person: str) -> None:
    """Let a machine finish what it runs and take nothing new; then it goes offline."""
    conn, client = session.open()
    made = client.machine_set_quiescing(find_machine(conn, name).id, person, message)
    tell(session, made, f"machine {made.id}, {made.hostname}, is {made.state}")


@machine.command(
    "offline",
    sql="code_import_machine_set_offline",
    examples=["machine offline build1", "machine offline build1 --reason watchdog"],
)
@machine_argument
@click.option(
    "--reason",
    type=click.Choice(get_args(OfflineReason)),
    default="stopped",
    show_default=True,
    help="For the audit trail.",
)
@message_option
@person_option
@pass_session
def set_offline(
    session: Session, name: str, reason: OfflineReason, message: str | None, person: str
) -> None:
    """Give a machine nothing more; what it runs is left alone."""
    conn, client = session.open()
    made = client.machine_set_offline(find_machine(conn, name).id, reason, person, message)
    tell(session, made, f"machine {made.id}, {made.hostname}, is {made.state}")


@machine.command("disown", sql="code_import_machine_disown", examples=["machine disown build1"])
@machine_argument
@person_option
@pass_session
def disown_machine(session: Session, name: str, person: str) -> None:
    """Free a machine for another database role: the next to claim as it owns it."""
    conn, client = session.open()
    made = client.machine_disown(find_machine(conn, name).id, person)
    tell(session, made, f"machine {made.id}, {made.hostname}, belongs to nobody")


@machine.command("delete", sql="code_import_machine_delete", examples=["machine delete build1"])
@machine_argument
@person_option
@pass_session
def delete_machine(session: Session, name: str, person: str) -> None:
    """Delete a machine that is offline and runs nothing."""
    conn, client = session.open()
    found = find_machine(conn, name)
    client.machine_delete(found.id, person)
    tell(session, None, f"machine {found.id}, {found.hostname}, is deleted")


def _columns(now: datetime) -> list[Column[MachineLine]]:
    return [
        Column("ID", lambda line: line.id, right=True),
        Column("HOSTNAME", lambda line: line.hostname, folds=True),
        Column("STATE", lambda line: line.state),
        Column("RUNNING", lambda line: line.running, right=True),
        Column("PINNED", lambda line: line.scheduled or None, right=True),
        Column("SEEN", lambda line: ago(line.heartbeat, now, never="never")),
        Column("ROLE", lambda line: line.owner_role, folds=True),
    ]


def _facts(line: MachineLine, now: datetime) -> list[tuple[str, object]]:
    return [
        ("machine", line.id),
        ("hostname", line.hostname),
        ("state", line.state),
        ("running", line.running),
        ("pinned", line.scheduled),
        ("seen", exact(line.heartbeat, now) or "never"),
        ("role", line.owner_role or "nobody's yet"),
        ("registered", exact(line.date_created, now)),
    ]
