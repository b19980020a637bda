"""What ``code-import mirror`` ends with: what there is now, and what to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import reading
from ..redaction import clean
from .base import PROGRAM, REFUSED, Session
from .output import ago, print_json, span, visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

    from ..models import Result
    from ..reading import ResultInFull
    from ..worker.chosen import Wish

LINES_OF_A_FAILURE = 5
COUNTING = 5.0
"""Seconds in which the commits of a mirror are counted, or are not told."""
NO_CONFIGURATION = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}


@dataclass(slots=True)
class Mirror:
    """One source, and what became of it."""

    source: str
    wish: Wish | None = None
    problem: str | None = None
    hint: str | None = None
    path: Path | None = None
    refs: int | None = None
    commits: int | None = None
    date_due: datetime | None = None
    next_run: str | None = None
    """When that is, in words."""

    @property
    def result(self) -> Result | ResultInFull | None:
        """How its run ended, if there was one."""
        return self.wish.result if self.wish else None

    @property
    def is_good(self) -> bool:
        """Whether the mirror is as its source is."""
        return self.result is not None and self.result.status in ("success", "success_nochange")

    @property
    def excerpt(self) -> list[str]:
        """The last lines of the run's log, without the times of day."""
        lines = ((self.result and self.result.log_excerpt) or "").splitlines()
        return [line[9:] if line[2:6:3] == "::" else line for line in lines]

    @property
    def summary(self) -> str | None:
        """One sentence about how it went."""
        if self.wish and self.wish.outcome:
            return self.wish.outcome.summary
        return self.problem or (self.excerpt[-1] if self.excerpt else None)


def describe(conn: psycopg.Connection[Any], mirror: Mirror, store: Path) -> None:
    """Find out what there is to tell of a source that has been registered."""
    wish = mirror.wish
    if wish is None:
        return
    if wish.refusal is not None:
        mirror.problem, mirror.hint = wish.refusal.message, wish.refusal.hint
    for line in reading.imports_named(conn, wish.imp.target):
        if line.id == wish.imp.id and line.date_due is not None:
            mirror.date_due = line.date_due
            now = reading.now(conn)
            mirror.next_run = ago(max(line.date_due, now), now)
    path = store / f"{wish.imp.target}.git"
    if path.is_dir():
        mirror.path = path
        listed = _git(path, "for-each-ref", "--format=x", "refs/heads", "refs/tags")
        mirror.refs = None if listed is None else listed.count("x")
        counted = _git(path, "rev-list", "--count", "--branches", "--tags")
        mirror.commits = None if counted is None else int(counted)


def report(session: Session, mirrors: Sequence[Mirror]) -> None:
    """Print it, for people or as one JSON document. Ends with 1 unless all is well."""
    if session.json:
        print_json([_as_json(mirror) for mirror in mirrors])
    else:
        for mirror in mirrors:
            _report_one(mirror)
        _say_what_next(session, [mirror for mirror in mirrors if mirror.path])
    if not all(mirror.is_good for mirror in mirrors):
        raise click.exceptions.Exit(REFUSED)


def _git(path: Path, *arguments: str) -> str | None:
    """What git says about a mirror, unless it takes too long."""
    try:
        return subprocess.run(
            ["git", f"--git-dir={path}", *arguments],
            env={"PATH": os.environ.get("PATH", os.defpath), **NO_CONFIGURATION},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COUNTING,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _as_json(mirror: Mirror) -> dict[str, object]:
    imp = mirror.wish.imp if mirror.wish else None
    return {
        "source": clean(mirror.source),
        "code_import_id": imp and imp.id,
        "target": imp and imp.target,
        "url": imp and imp.url,
        "mirror": mirror.path and str(mirror.path),
        "status": mirror.result and mirror.result.status,
        "summary": mirror.summary,
        "refs": mirror.refs,
        "commits": mirror.commits,
        "job_duration": mirror.result and mirror.result.job_duration,
        "date_due": mirror.date_due,
    }


def _report_one(mirror: Mirror) -> None:
    name = mirror.wish.imp.target if mirror.wish else clean(mirror.source)
    if mirror.result is None:
        click.echo(f"{name}: {visible(mirror.problem or 'not mirrored')}")
    else:
        words = {"success": "mirrored", "success_nochange": "nothing new"}
        status = words.get(mirror.result.status, mirror.result.status)
        click.echo(f"{name}: {status} ({span(mirror.result.job_duration)})")
        for line in [] if mirror.is_good else mirror.excerpt[-LINES_OF_A_FAILURE:]:
            click.echo(f"  | {visible(line)}")
    if mirror.hint:
        click.echo(f"  hint: {visible(mirror.hint)}")
    holds = [
        f"{number:,} {noun}{'' if number == 1 else 's'}"
        for number, noun in ((mirror.refs, "ref"), (mirror.commits, "commit"))
        if number is not None
    ]
    for what, fact in (
        ("mirror", mirror.path),
        ("holds", ", ".join(holds)),
        ("next run", mirror.next_run),
    ):
        if fact:
            click.echo(f"  {what:8}  {fact}")  # A path stays in one piece, to be copied.


def _say_what_next(session: Session, mirrors: Sequence[Mirror]) -> None:
    """Commands that come next, ready to be copied."""
    if not mirrors:
        return
    first = mirrors[0]
    assert first.wish is not None
    program = _program() if session.dsn is None else f"{_program()} --dsn …"
    click.echo("\nNext:")
    click.echo(f"  git clone {shlex.quote(str(first.path))}")
    click.echo(f"  {program} import show {first.wish.imp.target}")
    click.echo(f"  {program} worker")


def _program() -> str:
    """What to type for this command: its name where the shell finds it, else its path."""
    called, found = Path(sys.argv[0]), shutil.which(PROGRAM)
    if called.name != PROGRAM or (found and called.samefile(found)):
        return PROGRAM
    path, here = Path(os.path.abspath(called)), Path.cwd()  # noqa: PTH100  # links and all
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
