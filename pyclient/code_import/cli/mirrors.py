"""``code-import mirror``: make mirrors, see what becomes of them, and decide about losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from .. import reading
from ..models import HeldRef, RefAsOf, RefChange
from .base import (
    ID,
    Failure,
    Group,
    Session,
    confirm,
    limit_option,
    nothing,
    pass_session,
    person_option,
    yes_option,
)
from .mirror import mirror as mirror_now
from .names import find_import, find_job_id
from .output import Column, ago, given, print_json, print_rows, print_table, tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

    from ..models import Mirror

import_argument = click.argument("name", metavar="IMPORT")
refs_argument = click.argument("refs", metavar="[REF]...", nargs=-1)

Row = TypeVar("Row", HeldRef, RefChange)


class _MirrorGroup(Group):
    """Verbs; where there is none, what is given are sources to be mirrored now."""

    default = mirror_now

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if word != "--json"]
        if words[:1] == ["--dsn"]:
            words = words[2:]
        is_help = words[:1] in ([], ["-h"], ["--help"])
        if not is_help and self.get_command(ctx, words[0]) is None:
            args = [str(self.default.name), *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] SOURCE... | COMMAND [ARGS]...")


@click.group("mirror", cls=_MirrorGroup)
def mirrors() -> None:
    """Mirror repositories, and see what becomes of their mirrors.

    With a path or a url it mirrors that now, as `code-import mirror now` does.

    A run that would lose much of a mirror, because its source has lost it or has written its
    history anew, publishes the rest and holds that back, until somebody accepts it or keeps what
    the mirror has. Of all that a run changes there is a journal, and a way back.
    """


mirrors.add_command(mirror_now)


# Look


@mirrors.command("list", examples=["mirror list --held", "mirror list --damaged --json"])
@click.option("--held", is_flag=True, help="Of which something is held back.")
@click.option("--damaged", is_flag=True, help="That were damaged when they were read as a whole.")
@click.option("--after", metavar="TARGET", default="", help="The page after this target.")
@limit_option()
@pass_session
def list_mirrors(session: Session, **filters: Any) -> None:
    """List mirrors by target: what is held, and when each was checked."""
    conn = session.connect()
    found = reading.mirrors(conn, **filters)
    print_rows(session, found, _columns(reading.now(conn)), none="no mirrors")
    if len(found) == filters["limit"]:
        click.echo(f"more, perhaps: --after {found[-1].target}", err=True)


@mirrors.command(
    "changes", examples=["mirror changes project/repo", "mirror changes project/repo --ref HEAD"]
)
@import_argument
@click.option("--ref", metavar="REF", help="Of this ref alone, by its full name.")
@click.option("--before", type=ID, metavar="ID", help="The page before this change.")
@limit_option()
@pass_session
def list_changes(session: Session, name: str, **filters: Any) -> None:
    """List what has become of the refs of a mirror, newest first."""
    conn = session.connect()
    found = reading.ref_changes(conn, find_import(conn, name).id, **given(filters))
    now = reading.now(conn)
    columns = [
        Column[RefChange]("ID", lambda row: row.id, right=True),
        Column[RefChange]("WHEN", lambda row: ago(row.date_created, now)),
        Column[RefChange]("RUN", lambda row: row.job_id, right=True),
        Column[RefChange]("KIND", lambda row: row.kind),
        *_ref_columns(RefChange),
    ]
    print_rows(session, found, columns, none="no changes")
    if len(found) == filters["limit"]:
        click.echo(f"more, perhaps: --before {found[-1].id}", err=True)


@mirrors.command("held", examples=["mirror held project/repo"])
@import_argument
@pass_session
def list_held(session: Session, name: str) -> None:
    """List the changes at its source that a mirror holds back."""
    conn = session.connect()
    held = reading.held_refs(conn, find_import(conn, name).id)
    _print_held(session, held, reading.now(conn))


@mirrors.command(
    "as-of",
    sql="code_import_mirror_as_of",
    examples=[
        "mirror as-of project/repo yesterday",
        "mirror as-of project/repo '2026-11-20 12:00'",
    ],
)
@import_argument
@click.argument("when")
@pass_session
def show_as_of(session: Session, name: str, when: str) -> None:
    """Show the refs of a mirror that were otherwise at a time.

    WHEN is a time in any form that PostgreSQL reads, such as yesterday.
    """
    conn, client = session.open()
    found = client.mirror_as_of(find_import(conn, name).id, reading.instant(conn, when))
    print_rows(session, found, _as_of_columns(), none="nothing has changed since")


# Decide


@mirrors.command(
    "accept",
    sql="code_import_mirror_accept",
    examples=["mirror accept project/repo", "mirror accept project/repo refs/heads/old"],
)
@import_argument
@refs_argument
@person_option
@pass_session
def accept(session: Session, name: str, refs: Sequence[str], person: str) -> None:
    """Let a mirror follow its source, whatever is lost.

    REF names some of what is held, by full names; otherwise it is all of it. The next run
    publishes it and is requested; what is replaced stays in the mirror for ref_retention.
    """
    conn, client = session.open()
    held = client.mirror_accept(find_import(conn, name).id, person, list(refs) or None)
    tell(session, held, f"{_count(held)} accepted: the next run publishes it")


@mirrors.command(
    "keep",
    sql="code_import_mirror_keep",
    examples=["mirror keep project/repo", "mirror keep project/repo refs/tags/v1"],
)
@import_argument
@refs_argument
@person_option
@pass_session
def keep(session: Session, name: str, refs: Sequence[str], person: str) -> None:
    """Let a mirror stay as it is where its source has lost something.

    REF names some of what is held, by full names; otherwise it is all of it. Everything else goes
    on, and runs succeed again. To accept it later is still possible.
    """
    conn, client = session.open()
    held = client.mirror_keep(find_import(conn, name).id, person, list(refs) or None)
    tell(session, held, f"{_count(held)} kept")


@mirrors.command(
    "set-maximum-loss",
    sql="code_import_mirror_set_maximum_loss",
    examples=[
        "mirror set-maximum-loss project/repo 0",
        "mirror set-maximum-loss project/repo default",
    ],
)
@import_argument
@click.argument("percent")
@person_option
@pass_session
def set_maximum_loss(session: Session, name: str, percent: str, person: str) -> None:
    """Set how much of a mirror one run may lose unasked.

    PERCENT of its branches, its tags or its commits: 0 is nothing at all, 100 all but the last
    branch, default what the setting maximum_loss_percent says.
    """
    if percent != "default" and not percent.isdecimal():
        raise click.BadParameter("a whole number or default is needed", param_hint="PERCENT")
    conn, client = session.open()
    imp = find_import(conn, name)
    number = None if percent == "default" else min(int(percent), 2**31 - 1)
    told = client.mirror_set_maximum_loss(imp.id, number, person)
    tell(session, told, f"{imp.target} may lose {told.maximum_loss_percent} % in a run")


@mirrors.command(
    "restore",
    sql="code_import_mirror_restore",
    examples=[
        "mirror restore project/repo --as-of yesterday --dry-run",
        "mirror restore project/repo --as-of '2026-11-20 12:00' --yes",
    ],
)
@import_argument
@click.option("--as-of", "when", metavar="WHEN", required=True, help="A time as PostgreSQL reads.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option(
    "--store", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="CODE_IMPORT_STORE", show_envvar=True, show_default="yours",
    help="Where the mirrors lie.",
)  # fmt: skip
@yes_option
@person_option
@pass_session
def restore(
    session: Session,
    name: str,
    when: str,
    dry_run: bool,
    store: Path | None,
    yes: bool,
    person: str,
) -> None:
    """Give the refs of a mirror the values that they had at a time.

    Works as far back as ref_retention keeps the journal. The import is suspended, since its next
    run would follow the source again; what the refs are now stays in the mirror for ref_retention.
    """
    conn, client = session.open()
    imp = find_import(conn, name)
    wanted = client.mirror_as_of(imp.id, reading.instant(conn, when))
    if not wanted:
        nothing("nothing has changed since", session=session)
    if all(each.value_then is None for each in wanted):
        raise Failure(f"there was no mirror of {imp.target} at that time")
    if not session.json:
        print_table(wanted, _as_of_columns())
    if dry_run:
        if session.json:
            print_json(wanted)
        return
    confirm(f"Restore {len(wanted)} refs of {imp.target}, and suspend its import?", yes)
    restored = _restore(conn, imp.id, imp.target, wanted, store, person)
    tell(session, restored, f"{imp.target} is restored, and its import {restored.review_status}")


def _restore(
    conn: psycopg.Connection[Any],
    code_import_id: int,
    target: str,
    wanted: Sequence[RefAsOf],
    store: Path | None,
    person: str,
) -> Any:
    """Restore on disk, and in the database if that went well."""
    import platformdirs

    from ..client import Client
    from ..importers.process import ToolFailed
    from ..importers.restore import CannotRestore, restore_refs
    from ..mirror import BadTarget, Busy, Store

    place = store or platformdirs.user_data_path("code-import", appauthor=False) / "store"
    retention = reading.seconds(conn, "ref_retention")
    changes = [
        {"ref": each.ref, "kind": "updated", "old": each.value_now, "new": each.value_then}
        for each in wanted
    ]
    try:
        with conn.transaction():
            restored = Client(conn).mirror_restore(code_import_id, changes, person)
            restore_refs(Store(place), code_import_id, target, wanted, retention, _say)
    except (CannotRestore, BadTarget, Busy, ToolFailed, OSError) as err:
        raise Failure(f"not restored: {err}") from None
    return restored


# Work


@mirrors.command(
    "report",
    sql="code_import_mirror_report",
    examples=["mirror report 42 --changes changes.json", "mirror report 42 --verified"],
)
@click.argument("name", metavar="JOB")
@click.option(
    "--changes", type=click.File(encoding="utf-8"), metavar="FILE",
    help="A JSON array of what was made of refs.",
)  # fmt: skip
@click.option(
    "--held", type=click.File(encoding="utf-8"), metavar="FILE",
    help="A JSON array of what is held back.",
)  # fmt: skip
@click.option("--verified", is_flag=True, help="All of the mirror was read and checked.")
@click.option("--damage", metavar="TEXT", help="What was wrong.")
@pass_session
def report(
    session: Session,
    name: str,
    changes: TextIO | None,
    held: TextIO | None,
    verified: bool,
    damage: str | None,
) -> None:
    """Tell what a run of yours has made of its mirror.

    The arrays are of objects with ref, kind, old and new.
    """
    conn, client = session.open()
    told = client.mirror_report(
        find_job_id(conn, name),
        None if changes is None else _parse(changes),
        None if held is None else _parse(held),
        verified,
        damage,
    )
    tell(session, told, f"told of {told.target}: {told.refs_held} held")


# What these print


def _columns(now: datetime) -> list[Column[Mirror]]:
    return [
        Column("TARGET", lambda row: row.target, folds=True),
        Column("HELD", lambda row: row.refs_held or None, right=True),
        Column("MAY LOSE", lambda row: f"{row.maximum_loss_percent} %", right=True),
        Column("VERIFIED", lambda row: ago(row.date_verified, now)),
        Column("DAMAGE", lambda row: row.damage, folds=True),
    ]


def _print_held(session: Session, held: Sequence[HeldRef], now: datetime) -> None:
    columns = [
        Column[HeldRef]("KIND", lambda row: row.kind),
        *_ref_columns(HeldRef),
        Column[HeldRef]("SINCE", lambda row: ago(row.date_held, now)),
        Column[HeldRef]("DECISION", lambda row: row.decision),
        Column[HeldRef]("BY", lambda row: row.person),
    ]
    print_rows(session, held, columns, none="nothing is held")


def _ref_columns(_kind: type[Row]) -> list[Column[Row]]:
    return [
        Column("REF", lambda row: row.ref, folds=True),
        Column("WAS", lambda row: _short(row.old_value)),
        Column("IS", lambda row: _short(row.new_value)),
    ]


def _as_of_columns() -> list[Column[RefAsOf]]:
    return [
        Column("REF", lambda row: row.ref, folds=True),
        Column("THEN", lambda row: _short(row.value_then)),
        Column("NOW", lambda row: _short(row.value_now)),
    ]


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return value.removeprefix("ref: refs/heads/") if value.startswith("ref: ") else value[:12]


def _count(held: Sequence[HeldRef]) -> str:
    return "1 ref is" if len(held) == 1 else f"{len(held)} refs are"


def _parse(file: TextIO) -> Any:
    try:
        return json.load(file)
    except ValueError as err:
        raise click.BadParameter(f"{file.name} is no JSON: {err}") from None


def _say(line: str) -> None:
    click.echo(line, err=True)
