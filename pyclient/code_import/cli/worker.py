"""``code-import worker``: run the imports that are due."""

from __future__ import annotations

import logging
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .base import (
    NOTHING,
    Command,
    Failure,
    Session,
    allow_host_option,
    key_file_option,
    pass_session,
)
from .limits import choose_sandbox, limit_options
from .output import print_json, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from ..worker.engine import Options


@click.command(
    cls=Command,
    examples=[
        "worker",
        "worker --store /srv/mirrors --limit 8",
        "worker --once",
        "worker --check",
    ],
)
@click.option(
    "--hostname", metavar="NAME", default=socket.gethostname, show_default="of this host",
    help="The machine that it is, to the database.",
)  # fmt: skip
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=3, show_default=True,
    help="Runs side by side.",
)  # fmt: skip
@click.option(
    "--store", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
    envvar="CODE_IMPORT_STORE", show_envvar=True, show_default="yours",
    help="Where the mirrors lie.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Run what is due now, and end.")
@click.option("--listen/--no-listen", default=True, help="Wake by LISTEN, or by polling alone.")
@allow_host_option
@key_file_option
@limit_options
@click.option("--check", is_flag=True, help="Say what can be imported here, and end.")
@pass_session
def worker(
    session: Session, store: Path | None, once: bool, check: bool, sandbox: str, **options: Any
) -> None:
    """Run the imports that are due, until told to stop.

    Each run is a process group of its own. A machine has one worker; a fleet of machines shares
    one store, or pins imports to machines. The first SIGTERM (or Ctrl-C) takes nothing more and
    finishes what runs, the second stops the runs and gives them back. A worker that crashed may be
    started again at once.
    """
    from ..worker.runs import start_forkserver
    from ..worker.serving import tools

    present = tools()
    program, confined = choose_sandbox(sandbox)
    if check:
        report_tools(session, present, confined)
        return
    served = tuple(name for name, missing in present.items() if missing is None)
    if not served:
        raise Failure("nothing can be imported here", hint="code-import worker --check")
    start_forkserver(served)
    from ..worker.engine import CannotStart, Worker  # Takes a moment, like the one above.
    from ..worker.lock import Held

    log_to_stderr()
    given = make_options(session, store, rcs_types=served, sandbox=program, **options)
    logging.getLogger(__name__).info(
        "machine %s, store %s, at most %d side by side, serves %s; sandbox: %s",
        given.hostname, given.store, given.limit, ", ".join(given.rcs_types), confined,
    )  # fmt: skip
    engine = Worker(given)
    try:
        engine.run(until=(lambda: engine.is_idle) if once else lambda: False)
    except (Held, CannotStart) as err:
        raise Failure(str(err)) from None


def report_tools(session: Session, present: dict[Any, str | None], sandbox: str) -> None:
    """Print which types can be imported, what is missing for the others, and how all are run."""
    if session.json:
        print_json(
            [
                {"rcs_type": name, "missing": lack, "sandbox": sandbox}
                for name, lack in present.items()
            ]
        )
    else:
        for name, lack in present.items():
            click.echo(f"{name:4} {lack or 'ready'}")
        click.echo(f"sandbox: {sandbox}")
    if all(present.values()):
        raise click.exceptions.Exit(NOTHING)


def make_options(session: Session, store: Path | None, **options: Any) -> Options:
    """The options of a worker: its store is made if need be, its connections are this session's."""
    import platformdirs

    from ..worker.engine import Options

    try:
        if store is None:
            store = platformdirs.user_data_path("code-import", appauthor=False) / "store"
            store.parent.mkdir(parents=True, exist_ok=True)
            store.mkdir(mode=0o700, exist_ok=True)
        else:
            store.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise Failure(f"the store cannot be made: {err}") from None
    return Options(
        connect=connector(session),
        store=store.resolve(),
        lock_folder=platformdirs.user_data_path("code-import", appauthor=False) / "workers",
        **options,
    )


def connector(session: Session) -> Callable[[], psycopg.Connection[Any]]:
    """Opens connections to the session's database, which is found, and started, each time."""
    from .. import connection

    return lambda: connection.find(session.dsn).connect(application_name="code-import worker")


class _OneLine(logging.Formatter):
    """Shows control characters, and so keeps each event to its line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (its name there)
        """The event's own words, without the traceback that may follow."""
        return visible(super().formatMessage(record))


def log_to_stderr() -> None:
    """One line an event: when, how grave, what."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = _OneLine("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("code_import")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
