"""The inside of a run: what happens in its own process, between its first and its last line.

The process leads a session, and so a process group, of its own. It talks to its worker over a
socket, one JSON object a line: ``log`` and ``confirm`` go out and an answer comes back, ``outcome``
or ``lost`` is the last. The end of the socket is the end of the worker, and of the whole group.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from code_import.importers import Importer, Login, Outcome, Run, RunLost, Source
from code_import.redaction import clean, hide
from code_import.refs import Terms

if TYPE_CHECKING:
    import socket
    from multiprocessing.connection import Connection
    from pathlib import Path

    from code_import.policy import Policy


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is told at its start."""

    job_id: int
    code_import_id: int
    target: str
    source: Source
    store: Path
    policy: Policy
    lease: float
    """Seconds that a run lives without a sign of its worker, at most."""
    login: Login | None = None
    refusal: Outcome | None = None
    """Why there is nothing to run; the login that it needs cannot be had."""
    terms: Terms = field(default_factory=Terms)
    told: int = 0
    ref_retention: float = 90 * 86_400
    verify: bool = False


def main(order: Order, control: socket.socket, output: Connection) -> None:
    """Run one import and tell the worker how it went. ``output`` takes whatever is printed."""
    os.setsid()
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output.fileno(), stream)
    output.close()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    signal.signal(signal.SIGTERM, _terminated)
    if order.login is not None:
        hide(order.login.secrets)
    worker = _Worker(control, order.lease)
    threading.Thread(target=worker.listen, daemon=True).start()
    try:
        outcome = _run_import(order, worker)
    except RunLost as err:
        worker.tell(lost=clean(str(err)))
    else:
        worker.tell(outcome=asdict(replace(outcome, summary=clean(outcome.summary))))


def _run_import(order: Order, worker: _Worker) -> Outcome:
    if order.refusal is not None:
        worker.log(order.refusal.summary)
        return order.refusal
    try:
        run = Run(
            job_id=order.job_id,
            code_import_id=order.code_import_id,
            target=order.target,
            source=order.source,
            store=order.store,
            log=worker.log,
            confirm=worker.confirm,
            policy=order.policy,
            login=order.login,
            terms=order.terms,
            told=order.told,
            ref_retention=order.ref_retention,
            verify=order.verify,
        )
        return importer(order.source.rcs_type).run_import(run)
    except RunLost:
        raise
    except Exception as err:  # noqa: BLE001  Whatever it is, it is ours, and the log says what.
        for line in traceback.format_exc().splitlines():
            worker.log(line)
        return Outcome("internal_failure", f"{type(err).__name__}: {err}")


def importer(rcs_type: str) -> Importer:
    """The importer of a version control system. Raises ImportError when there is none."""
    module: Importer = importlib.import_module(f"code_import.importers.{rcs_type}")
    return module


def _limit_memory() -> None:
    """Leave the machine its memory, whatever a stranger's server makes this run and its tools hold.

    Each may have a half of it; what maps files, as packs are, does not count.
    """
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = min(limit for limit in (half, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _terminated(signum: int, frame: object) -> NoReturn:
    """Leave through every ``finally``, so that the importer can put its tools away."""
    sys.exit(128 + signum)


class _Worker:
    """The worker, as its run sees it."""

    def __init__(self, control: socket.socket, lease: float) -> None:
        self._control = control
        self._lease = lease
        self._sending = threading.Lock()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def listen(self) -> None:
        """Take answers until the worker is gone, and then take the whole group along."""
        try:
            for answer in self._control.makefile("rb"):
                self._answers.put(json.loads(answer))
        finally:
            os.killpg(0, signal.SIGKILL)

    def tell(self, **message: object) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._sending:
            try:
                self._control.sendall(data)
            except OSError:
                os.killpg(0, signal.SIGKILL)

    def log(self, line: str) -> None:
        self.tell(log=clean(line))

    def confirm(self) -> None:
        """Ask, with the mirror's lock in hand: a worker that stands still must not hold it up."""
        self.tell(confirm=True)
        try:
            alive = self._answers.get(timeout=self._lease)
        except queue.Empty:
            raise RunLost("the worker has not answered for as long as a run may live") from None
        if not alive:
            raise RunLost("the run has ended without us")
