"""``code-import mirror``: from a path or a url to a mirror on disk, here and now."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .base import (
    INTERRUPTED,
    PROGRAM,
    Command,
    Failure,
    Session,
    allow_host_option,
    key_file_option,
    pass_session,
    person_option,
)
from .limits import choose_sandbox, limit_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from ..connection import Database
    from ..worker.chosen import Wish
    from ..worker.engine import Options
    from ..worker.lock import Held
    from .mirror_progress import Progress
    from .mirror_report import Mirror

FOLLOWED = 1.0
"""Seconds for which another worker is followed before trying again to work oneself."""


@click.command(
    "now",
    cls=Command,
    examples=[
        "mirror .",
        "mirror https://git.example.org/project/repo.git ~/src/thing",
        "mirror . --json | jq -r .[].mirror",
    ],
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--store", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
    envvar="CODE_IMPORT_STORE", show_envvar=True, show_default="yours",
    help="Where the mirrors lie.",
)  # fmt: skip
@click.option(
    "--hostname", metavar="NAME", default=socket.gethostname, show_default="of this host",
    help="The machine that runs it, to the database.",
)  # fmt: skip
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=3, show_default=True,
    help="Runs side by side.",
)  # fmt: skip
@key_file_option
@allow_host_option
@limit_options
@person_option
@pass_session
def mirror(session: Session, /, sources: tuple[str, ...], person: str, **options: Any) -> None:
    """Mirror repositories, now, and register them to be kept current.

    SOURCE is a path or a url. A path is added to the list of those that your workers may read.
    If this machine has a worker already, it does the work; otherwise it is done here. Either way
    all other imports are left alone: `code-import worker` runs those as they fall due.

    Without a database of yours, your own server is started and the schema installed in it.
    """
    from ..worker.runs import start_forkserver

    start_forkserver(("git",))
    from .mirror_progress import progress  # Takes a moment, like the one above: side by side.
    from .mirror_report import describe, report

    given = _worker_options(session, **options)
    with progress() as shown:
        shown.busy("database", "getting ready")
        with _find_database(session).connect() as conn:
            mirrors = [_register(conn, source, person) for source in sources]
            wishes = _share([each for each in mirrors if each.wish])
            shown.idle("database")
            store = _fulfil(conn, wishes, given, shown) if wishes else given.store
            for each in mirrors:
                describe(conn, each, store)
    report(session, mirrors)


def _worker_options(session: Session, store: Path | None, sandbox: str, **options: Any) -> Options:
    from ..worker.serving import tools
    from .worker import make_options

    if missing := tools()["git"]:
        raise Failure(missing)
    return make_options(
        session,
        store,
        rcs_types=("git",),
        command=f"{PROGRAM} mirror",
        release_at_once=True,
        sandbox=choose_sandbox(sandbox)[0],
        **options,
    )


def _find_database(session: Session) -> Database:
    """The database, with the schema in it: installed here only if the server is our own."""
    from .. import connection, schema

    database = connection.find(session.dsn)
    if database.embedded:
        schema.ensure(database)
    return database


def _register(conn: psycopg.Connection[Any], source: str, person: str) -> Mirror:
    """Turn what a person named into an import, allowing it to be read if it is a path."""
    from .. import policy
    from ..client import Client
    from ..errors import CodeImportError
    from ..worker.chosen import Wish
    from .mirror_report import Mirror
    from .mirror_source import NotASource, Place, register

    each = Mirror(source)
    try:
        place = Place.named(source)
        imp, is_new = register(conn, Client(conn), place, person)
        if place.path is not None:
            policy.allow_path(place.path)
        if imp.rcs_type != "git":
            raise NotASource(f"it is imported as {imp.rcs_type}, not git: {imp.target}")
        each.wish = Wish(imp, person, imp.date_created if is_new else None)
    except NotASource as err:
        each.problem = str(err)
    except CodeImportError as err:
        each.problem, each.hint = err.message, err.hint
    return each


def _share(mirrors: Sequence[Mirror]) -> list[Wish]:
    """The wishes of some mirrors, one for each import however often it was named."""
    wishes: dict[int, Wish] = {}
    for each in mirrors:
        assert each.wish is not None
        each.wish = wishes.setdefault(each.wish.imp.id, each.wish)
    return list(wishes.values())


def _fulfil(
    conn: psycopg.Connection[Any], wishes: Sequence[Wish], options: Options, shown: Progress
) -> Path:
    """Have the wishes run, here or by the worker that this machine has. Returns its store."""
    from ..worker.chosen import Errand
    from ..worker.engine import CannotStart, Worker
    from ..worker.lock import Held

    store = options.store
    errand = Errand(wishes, options.hostname, shown)
    while not errand.is_done:
        worker = Worker(options, errand, errand)
        try:
            worker.run(until=lambda: errand.is_done)
        except Held as held:
            store = Path(held.holder.get("store", store))
            _follow(conn, wishes, held, shown)
        except CannotStart as err:
            raise Failure(str(err)) from None
        else:
            store = options.store
            if worker.was_stopped:
                raise click.exceptions.Exit(INTERRUPTED)
    return store


def _follow(
    conn: psycopg.Connection[Any], wishes: Sequence[Wish], held: Held, shown: Progress
) -> None:
    """Leave the work to this machine's worker for a moment, and show how it goes."""
    from .. import reading

    hostname = str(held.holder.get("machine"))
    machine = reading.machine(conn, hostname)
    if machine is not None and machine.state != "online":
        raise Failure(
            f"machine {hostname} is {machine.state}", hint=f"{PROGRAM} machine online {hostname}"
        )
    until = time.monotonic() + FOLLOWED
    while time.monotonic() < until and not all(wish.is_over for wish in wishes):
        for wish in wishes:
            if not wish.is_over:
                wish.pursue(conn)
                shown.follow(wish.imp.target, wish.tail or f"waiting, since {held}")
        time.sleep(FOLLOWED / 4)
