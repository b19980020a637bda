"""``code-import install``, ``uninstall``, ``sql``, and ``server`` for the embedded one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .base import (
    NOTHING,
    Command,
    Group,
    Session,
    nothing,
    pass_session,
    yes_option,
)
from .output import print_facts, print_json, print_text, tell

if TYPE_CHECKING:
    from ..schema import Present


def _report(line: str) -> None:
    click.echo(line, err=True)


@click.command("install", cls=Command, examples=["install", "install --dsn postgresql://db/vcs"])
@pass_session
def install(session: Session) -> None:
    """Install the schema, or bring it up to date.

    One transaction: all of it, or nothing. Safe to run again, from several places at once, and
    beside running workers. It needs a superuser, or the owner of the database with CREATEROLE;
    where a right is lacking, it prints the SQL that an administrator must run.
    """
    from .. import connection, schema

    database = connection.find(session.dsn)
    done = schema.install(database, report=_report)
    if done.migrations:
        many = "migration" if len(done.migrations) == 1 else "migrations"
        sentence = f"schema vcs is installed in {database}, with {len(done.migrations)} new {many}"
    else:
        sentence = f"schema vcs is up to date in {database}"
    tell(session, done, sentence)


@click.command("uninstall", cls=Command, examples=["uninstall", "uninstall --yes --dsn DSN"])
@yes_option
@pass_session
def uninstall(session: Session, yes: bool) -> None:
    """Remove the schema with all that is in it, and the roles.

    Asks for the name of the database first. Mirrors on disk stay. Roles stay where another
    database uses them, and it says which. A schema "vcs" that is not of code-import is refused.
    """
    from .. import connection, schema

    database = connection.find(session.dsn)
    done = schema.uninstall(
        database, confirm=lambda present: yes or _named(present), report=_report
    )
    if done is None:
        nothing(f"nothing was removed from {database}", session=session)
    for role, reason in done.left.items():
        _report(f"role {role} stays: {reason}")
    tell(session, done, f"schema vcs is removed from {database}")


def _named(present: Present) -> bool:
    """Whether the person types the name of the database."""
    if not sys.stdin.isatty():
        raise click.UsageError("There is nobody to ask: say --yes.")
    many = "import" if present.imports == 1 else "imports"
    _report(
        f"This removes schema vcs with {present.imports} {many}, {present.running} of them"
        f" running, and their whole history, from database {present.database}."
    )
    answer: str = click.prompt("Type the name of the database", default="", err=True)
    return answer == present.database


@click.command("sql", cls=Command, examples=["sql > code-import.sql", "sql | psql mydatabase"])
@pass_session
def sql(session: Session) -> None:
    """Print what install runs, as one file for psql.

    It does what `code-import install` does, needs nothing else, knows what is there already, and
    may be run again.
    """
    from .. import schema

    print_text(session, schema.script())


@click.group("server", cls=Group)
def server() -> None:
    """The embedded server: yours, and used when no database is named.

    It starts by itself when it is needed, and runs until it is stopped.
    """


@server.command("status", examples=["server status"])
@pass_session
def server_status(session: Session) -> None:
    """Say whether it runs, and where it is. Exit code 3 when it does not run."""
    from .. import embedded

    found = embedded.status()
    if session.json:
        print_json({**asdict(found), "directory": str(found.directory), "log": str(found.log)})
    else:
        print_facts(
            (
                ("state", "running" if found.running else "not running"),
                ("version", found.version),
                ("process", found.pid),
                ("directory", found.directory),
                ("log", found.log),
                ("dsn", found.dsn),
            )
        )
    if not found.running:
        raise click.exceptions.Exit(NOTHING)


@server.command("stop", examples=["server stop"])
@pass_session
def server_stop(session: Session) -> None:
    """Stop it. Workers that use it lose their database until somebody starts it again."""
    from .. import embedded

    if not embedded.stop():
        nothing("it does not run", session=session)
    tell(session, {"stopped": True}, "the embedded server has stopped")


@server.command("dsn", examples=["server dsn"])
@pass_session
def server_dsn(session: Session) -> None:
    """Start it if need be, and print how to connect to it."""
    from .. import embedded

    dsn = embedded.ensure()
    tell(session, {"dsn": dsn}, dsn)


@server.command(
    "psql",
    context_settings={"ignore_unknown_options": True},
    examples=["server psql", 'server psql -c "table vcs.code_import_api"'],
)
@click.argument("arguments", metavar="[OPTIONS OF PSQL]", nargs=-1, type=click.UNPROCESSED)
def server_psql(arguments: tuple[str, ...]) -> None:
    """Start it if need be, and become psql in it."""
    from .. import embedded

    dsn, psql = embedded.ensure(), str(embedded.psql())
    sys.stdout.flush()
    os.execv(psql, [psql, f"--dbname={dsn}", *arguments])
