"""One run, seen from its worker: a process group, its log, its limits and its end."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import tempfile
from multiprocessing import forkserver
from selectors import EVENT_READ, BaseSelector
from typing import TYPE_CHECKING, Any, Literal

from code_import.importers import Outcome
from code_import.mirror import Store
from code_import.redaction import hide

from . import child
from .family import kill_descendants
from .log import RunLog
from .timing import now
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkServerContext

    from code_import.models import Assignment

Ending = Literal["killed", "gone", "expired", "overdue", "silent", "excessive", "released"]
"""Why a worker ends a run: an operator said so; it is no longer ours; it may be no longer ours;
it took too long; it said nothing for too long; it used too much; the worker stops."""

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
EXCESS_GRACE = 1.0
"""The same, of a run that uses too much."""
CHUNK = 65_536
MOST_CHUNKS = 64
LONGEST_LINE = 65_536
LONGEST_TEMPORARY_DIRECTORY = 70
"""Below a longer one, the path of the forkserver's socket would be longer than systems allow."""


def start_forkserver(importers: Sequence[str]) -> ForkServerContext:
    """Start the process that runs are forked from, with everything they need imported.

    It takes a moment to get ready, so begin early; calling again is free. It must never import
    from the current directory, which may be somebody's checkout.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    context = multiprocessing.get_context("forkserver")
    modules = [f"code_import.importers.{name}" for name in importers]
    context.set_forkserver_preload(["code_import.cli", child.__name__, *modules])
    kept = tempfile.gettempdir()
    if len(os.fsencode(kept)) > LONGEST_TEMPORARY_DIRECTORY:
        tempfile.tempdir = "/tmp"
    try:
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = kept
    return context


class RunProcess:
    """A run under way. Its file descriptors tell ``selector`` whose callback to call."""

    def __init__(
        self,
        assignment: Assignment,
        context: ForkServerContext,
        selector: BaseSelector,
        order: child.Order,
        log_limit: int,
        on_line: Callable[[RunProcess, str], None],
    ) -> None:
        """Start it. Raises OSError or EOFError when no process can be had."""
        self.assignment = assignment
        self.order = order
        self.log = RunLog(log_limit)
        self.outcome: Outcome | None = None
        self.ending: Ending | None = None
        self.end_reason = ""
        self.lost: str | None = None
        self.confirming = False
        self.ended = False
        self.started = self.last_output = now()
        self.lease_ends = 0.0
        self.look_at = 0.0
        self.has_news = True
        self.finish_tried = False
        self.log_attempts = 0
        self._limits = order.limits
        self._on_line = on_line
        self._forget_secrets = hide(order.login.secrets if order.login else ())
        self._selector = selector
        self._kill_at: float | None = None
        self._buffers: dict[int, bytes] = {}
        self._control, theirs = socket.socketpair()
        self._output, their_output = multiprocessing.Pipe(duplex=False)
        self.process = context.Process(
            target=child.main,
            args=(order, theirs, their_output),
            name=f"run-{assignment.id}",
            daemon=True,
        )
        try:
            _leave_a_directory_that_is_gone()
            self.process.start()
        except BaseException:
            self._control.close()
            self._output.close()
            self.close()
            raise
        finally:
            theirs.close()
            their_output.close()
        self._pid = self.process.pid or 0
        places = Store(order.store).places(order.code_import_id, order.job_id)
        self._watch = Watch(self._pid, order.limits, places)
        self._control.setblocking(False)
        os.set_blocking(self._output.fileno(), False)
        selector.register(self._control.fileno(), EVENT_READ, self._read_control)
        selector.register(self._output.fileno(), EVENT_READ, self._read_output)
        selector.register(self.process.sentinel, EVENT_READ, self._reap)
        selector.register(self._watch.fd, EVENT_READ, self._hear_watch)

    @property
    def died(self) -> bool:
        """Whether it ended without a word, and without the worker's doing."""
        return self.ended and self.outcome is None and self.ending is None and self.lost is None

    @property
    def job_id(self) -> int:
        """The run's id in the database."""
        return self.assignment.id

    def answer(self, alive: bool) -> None:
        """Answer the question whether the run may publish."""
        self.confirming = False
        with contextlib.suppress(OSError):  # It died meanwhile; the sentinel says so.
            self._control.sendall(json.dumps(alive).encode() + b"\n")

    def end(self, ending: Ending, line: str, grace: float = GRACE) -> None:
        """Stop the whole group: politely now, for certain after ``grace`` seconds.

        A run that has had its outcome already keeps it, unless it is no longer ours.
        """
        if self.ended or self.ending == "gone":
            return
        if self.outcome is None or ending == "gone":
            self.ending = ending
            self.end_reason = line
            self.write(line)
        if self.confirming:
            self.answer(False)
        if self._kill_at is None:
            self._kill_at = now() + grace
        self._kill_at = min(self._kill_at, now() + grace)
        self._signal(signal.SIGTERM)

    def enforce(self) -> None:
        """End a run past its limits, kill one that does not go, and note when to look again."""
        time, limits = now(), self._limits
        if self._kill_at is None:
            if time >= self.started + limits.time:
                self.end("overdue", f"stopped: it took longer than {limits.time:.0f} s")
            elif time >= self.last_output + limits.silence:
                self.end("silent", f"stopped: no output for {limits.silence:.0f} s")
        elif time >= self._kill_at:
            self._signal(signal.SIGKILL)
            self._kill_at = time + 1
        self.look_at = self._kill_at or min(
            self.started + limits.time, self.last_output + limits.silence
        )

    def write(self, line: str) -> None:
        """Add a line to the run's log, and show it."""
        self._on_line(self, self.log.write(line))
        self.has_news = True

    def kill(self) -> None:
        """End the group this instant."""
        self._signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait until its process is dead; it must have been killed."""
        if not self.ended:
            self._reap()

    def close(self) -> None:
        """Forget the log and the login of a run whose end has been told."""
        self.log.close()
        self._forget_secrets()

    def _hear_watch(self) -> None:
        """It uses too much: whatever it does about that may take a moment, and use more."""
        self._ignore(self._watch.fd)
        if word := self._watch.word():
            self.end("excessive", f"stopped: {word}", EXCESS_GRACE)

    def _read_control(self) -> bool:
        lines, more = self._lines(self._control.fileno(), b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # Cut off by a signal.
                self._hear(json.loads(line))
        return more

    def _read_output(self) -> bool:
        lines, more = self._lines(self._output.fileno(), b"\r")
        for line in lines:
            self.last_output = now()
            self.write(line.decode("utf-8", "replace"))
        return more

    def _hear(self, message: dict[str, Any]) -> None:
        self.last_output = now()
        if "log" in message:
            self.write(message["log"])
        elif "confirm" in message:
            self.confirming = True
            if self.ending is not None:
                self.answer(False)
        elif "lost" in message:
            self.lost = message["lost"]
        elif "outcome" in message and self.ending is None:
            self.outcome = Outcome(**message["outcome"])
            self.kill()  # It has said its last word: whatever is left of the group may go.

    def _lines(self, fd: int, also: bytes) -> tuple[list[bytes], bool]:
        """The whole lines that have come in, and whether there may be more."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        *lines, rest = (self._buffers.pop(fd, b"") + data).replace(also, b"\n").split(b"\n")
        if not data or len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._buffers[fd] = rest
        if not data:
            self._ignore(fd)
        return [line for line in lines if line], bool(data)

    def _ignore(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _reap(self) -> None:
        """Its process is dead: so is its group, and what it said last is still in the pipes."""
        self.ended = True
        self._signal(signal.SIGKILL)
        self._ignore(self._watch.fd)
        self._watch.end()
        self._ignore(self.process.sentinel)
        self.process.join()
        exitcode = self.process.exitcode or 0
        self.process.close()
        for read, stream in (
            (self._read_control, self._control),
            (self._read_output, self._output),
        ):
            for _ in range(MOST_CHUNKS):
                if not read():
                    break
            self._ignore(stream.fileno())
            stream.close()
        if self.lost is not None and self.ending is None:
            self.write(f"stopped: {self.lost}")
        elif self.died:
            how = signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
            self.write(f"the run's process ended without an outcome ({how})")

    def _signal(self, signum: signal.Signals) -> None:
        if signum == signal.SIGKILL and not self.ended:
            kill_descendants(self._pid)
        try:
            os.killpg(self._pid, signum)
        except ProcessLookupError:  # It has not become a leader yet, or there is nobody left.
            if not self.ended and self.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signum)


def _leave_a_directory_that_is_gone() -> None:
    """A process cannot be started from a current directory that was removed."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        os.chdir("/")
