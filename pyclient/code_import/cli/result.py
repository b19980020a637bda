"""``code-import result`` and ``code-import log-file``: how runs ended, and what they said."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO, get_args

import click

from .. import reading
from ..models import ResultStatus
from .base import ID, Group, Session, limit_option, pass_session
from .names import find_import, find_machine, find_result
from .output import (
    Column,
    ago,
    every,
    exact,
    print_facts,
    print_json,
    print_log_tail,
    print_rows,
    span,
    tell,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ..reading import ResultInFull, ResultLine

result_argument = click.argument("name", metavar="RESULT")


@click.group("result", cls=Group)
def result() -> None:
    """See how runs ended, and read their logs.

    RESULT is an id, or the target of an import: then its newest result is meant.
    """


@result.command(
    "list",
    examples=["result list --import project/repo", "result list --status failure --limit 10"],
)
@click.option("--import", "of_import", metavar="IMPORT", help="Of this import: a target or id.")
@click.option("--machine", metavar="MACHINE", help="Of this machine: a hostname or id.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(get_args(ResultStatus)),
    metavar="STATUS",
    multiple=True,
    help="With this status, such as success or failure_invalid.",
)
@click.option("--before", type=ID, metavar="ID", help="The page before this result.")
@limit_option()
@pass_session
def list_results(
    session: Session,
    of_import: str | None,
    machine: str | None,
    statuses: tuple[ResultStatus, ...],
    before: int | None,
    limit: int,
) -> None:
    """List results, newest first. IMPORT may be the id of one that was deleted."""
    conn = session.connect()
    import_id = reading.as_id(of_import) if of_import else None
    if of_import and import_id is None:
        import_id = find_import(conn, of_import).id
    found = reading.results(
        conn,
        code_import_id=import_id,
        machine_id=find_machine(conn, machine).id if machine else None,
        statuses=statuses or None,
        before=before,
        limit=limit,
    )
    print_rows(session, found, _columns(reading.now(conn)), none="no results")
    if len(found) == limit:
        click.echo(f"more, perhaps: --before {found[-1].id}", err=True)


@result.command("show", examples=["result show 12", "result show project/repo --json"])
@result_argument
@pass_session
def show_result(session: Session, name: str) -> None:
    """Show a result, with the last lines of its log; `result log` has all of it."""
    conn = session.connect()
    found = find_result(conn, name)
    if session.json:
        print_json(found)
        return
    print_facts(_facts(found, reading.now(conn)))
    print_log_tail(found.log_excerpt)


@result.command("log", examples=["result log project/repo", "result log 12 > run.log"])
@result_argument
@pass_session
def print_log(session: Session, name: str) -> None:
    """Print the whole log of a run; its last lines, when the whole one is not kept.

    On a terminal, control characters are made visible; elsewhere the bytes are as they were.
    """
    conn = session.connect()
    found = find_result(conn, name)
    stored = reading.log_file(conn, found.log_file_id) if found.log_file_id else None
    content = stored.content if stored else (found.log_excerpt or "").encode()
    if session.json:
        text = content.decode("utf-8", "replace")
        print_json({"result_id": found.id, "whole": stored is not None, "log": text})
        return
    if stored is None:
        kept = "only its last lines are kept" if content else "nothing is kept of it"
        click.echo(f"the log of result {found.id}: {kept}", err=True)
    if sys.stdout.isatty():
        click.echo(visible(content.decode("utf-8", "replace"), keep="\n\t"), nl=False)
    else:
        click.echo(content, nl=False)


@click.group("log-file", cls=Group)
def log_file() -> None:
    """Store the logs of runs; `code-import result log` prints them."""


@log_file.command(
    "new",
    sql="code_import_log_file_new",
    examples=["log-file new 7 run.log", "make 2>&1 | code-import log-file new 7 -"],
)
@click.argument("job_id", type=ID)
@click.argument("file", type=click.File("rb"))
@pass_session
def new_log_file(session: Session, job_id: int, file: BinaryIO) -> None:
    """Store FILE as the whole log of a running job, and print the id for `job finish`."""
    _, client = session.open()
    log_file_id = client.log_file_new(job_id, file.read())
    tell(session, log_file_id, str(log_file_id))


def _columns(now: datetime) -> list[Column[ResultLine]]:
    return [
        Column("ID", lambda line: line.id, right=True),
        Column("TARGET", lambda line: line.target or f"import {line.code_import_id}", folds=True),
        Column("WHEN", lambda line: ago(line.date_created, now)),
        Column("STATUS", lambda line: line.status),
        Column("TOOK", lambda line: span(line.job_duration), right=True),
        Column("MACHINE", lambda line: line.hostname or line.machine_id, folds=True),
        Column("FOR", lambda line: line.requesting_user, folds=True),
    ]


def _facts(found: ResultInFull, now: datetime) -> Iterator[tuple[str, object]]:
    yield "result", found.id
    yield "import", ", ".join(filter(None, [str(found.code_import_id), found.target]))
    yield "status", found.status
    yield "job", found.job_id
    yield "machine", found.hostname or found.machine_id
    yield "requested by", found.requesting_user
    yield "started", exact(found.date_job_started, now)
    yield "finished", exact(found.date_created, now)
    yield "took", every(found.job_duration)
