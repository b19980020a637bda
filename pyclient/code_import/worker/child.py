"""The inside of a run: what happens in its own process, between its first and its last line.

The process leads a session, and so a process group, of its own. It talks to its worker over a
socket, one JSON object a line: ``log`` and ``confirm`` go out and an answer comes back, ``outcome``
or ``lost`` is the last. The end of the socket is the end of the worker, and of the whole group.
"""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from code_import.importers import Importer, Login, Outcome, Run, RunLost, Source
from code_import.importers.process import confined
from code_import.importers.sandbox import sandbox_of
from code_import.limits import Limits
from code_import.mirror import BadTarget, Store
from code_import.redaction import clean, hide
from code_import.refs import Terms

from .family import keep_orphans, kill_descendants

if TYPE_CHECKING:
    import socket
    from multiprocessing.connection import Connection

    from code_import.policy import Policy

OOM_SCORE = "500"
"""Of 1000: how readily the system ends a run when it has no memory left."""


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
    limits: Limits = field(default_factory=Limits)
    sandbox: str | None = None
    """The program that confines the run's tools, if there is one."""
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
    _keep_to(order)
    keep_orphans()
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
    finally:
        kill_descendants(os.getpid())


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
            limits=order.limits,
            terms=order.terms,
            told=order.told,
            ref_retention=order.ref_retention,
            verify=order.verify,
        )
        with confined(sandbox_of(run, order.sandbox)):
            return importer(order.source.rcs_type).run_import(run)
    except RunLost:
        raise
    except MemoryError:
        return Outcome("failure", "The run needs more memory than it may have.")
    except Exception as err:  # noqa: BLE001  Whatever it is, it is ours, and the log says what.
        for line in traceback.format_exc().splitlines():
            worker.log(line)
        return Outcome("internal_failure", f"{type(err).__name__}: {err}")


def importer(rcs_type: str) -> Importer:
    """The importer of a version control system. Raises ImportError when there is none."""
    module: Importer = importlib.import_module(f"code_import.importers.{rcs_type}")
    return module


def _keep_to(order: Order) -> None:
    """Have the system keep each process of the run to what all of them together may have.

    The worker's watch looks at them together, but now and then only. When the memory of the machine
    gives out, a run ends first.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, order.limits.memory)
    _limit(resource.RLIMIT_FSIZE, order.limits.written + _packed(order))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def _packed(order: Order) -> int:
    """Bytes in packs that the run may write anew when it puts packs together."""
    store = Store(order.store)
    _, workspace = store.places(order.code_import_id, order.job_id)
    packs = [*workspace.glob("*/objects/pack/*.pack")]
    with contextlib.suppress(BadTarget):
        packs += store.path(order.target).glob("objects/pack/*.pack")
    return sum(pack.stat().st_size for pack in packs)


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
