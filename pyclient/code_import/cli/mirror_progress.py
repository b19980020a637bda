"""How a mirror in the making looks: moving lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ..worker.engine import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from ..importers import Outcome
    from ..models import Assignment, Result


@contextmanager
def progress(stream: TextIO = sys.stderr) -> Iterator[Progress]:
    """Show progress on ``stream`` until the end of the block."""
    shown = _Live() if stream.isatty() else Progress()
    logger = logging.getLogger("code_import")
    handler = _Handler(shown)
    logger.addHandler(handler)
    try:
        with shown.running():
            yield shown
    finally:
        logger.removeHandler(handler)


class Progress(Watcher):
    """Plain lines, each with the target that it is about."""

    def __init__(self) -> None:
        self._followed: dict[str, str] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show things for the length of a block."""
        yield

    def say(self, about: str, text: str) -> None:
        """Show a line."""
        print(f"{about}: {text}", file=sys.stderr, flush=True)

    def busy(self, about: str, text: str) -> None:
        """Show that something goes on, where that can be taken away again."""

    def idle(self, about: str) -> None:
        """Take it away."""

    def follow(self, about: str, tail: str) -> None:
        """Show the newest line of a run that another worker has, once."""
        newest = tail.rpartition("\n")[2]
        if newest and self._followed.get(about) != newest:
            self._followed[about] = newest
            self.say(about, newest)

    def started(self, assignment: Assignment) -> None:
        """Say so."""
        self.say(assignment.target, "started")

    def line(self, assignment: Assignment, text: str) -> None:
        """Show the newest line of its log."""
        self.say(assignment.target, text)


class _Live(Progress):
    """One line a run, with its newest words and its time."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import Progress as Bars
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.fields[about]}", markup=False, table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.description}",
                style="dim",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._bars:
            yield

    def say(self, about: str, text: str) -> None:
        if about not in self._tasks:
            self._tasks[about] = self._bars.add_task(text, about=about, total=None)
        self._bars.update(self._tasks[about], description=text)

    def busy(self, about: str, text: str) -> None:
        self.say(about, text)

    def ended(self, assignment: Assignment, result: Result | None, outcome: Outcome | None) -> None:
        self.idle(assignment.target)

    def idle(self, about: str) -> None:
        task = self._tasks.pop(about, None)
        if task is not None:
            self._bars.remove_task(task)


class _Handler(logging.Handler):
    """What the worker warns of is shown among the rest."""

    def __init__(self, shown: Progress) -> None:
        super().__init__(logging.WARNING)
        self._shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        self._shown.say("worker", record.getMessage())
