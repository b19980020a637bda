"""The worker: takes runs, keeps them alive, tells how they ended. One thread, one loop.

Whatever happens, one rule holds: a run publishes only while it is known to be ours. The loop asks
the database right before each publication, and a run whose lease is over without an answer ends.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import psycopg

from code_import import reading
from code_import.errors import CodeImportError, NotAllowed, NotYours, RunGone
from code_import.importers import Source
from code_import.journal import ref_name
from code_import.limits import Limits
from code_import.policy import Policy, hosts_listed
from code_import.redaction import clean
from code_import.refs import Terms

from .child import Order
from .database import (
    LEAST_PATIENCE,
    MOST_PATIENCE,
    Database,
    Settings,
    brief,
    identity,
    settings,
)
from .listener import Listener
from .lock import WorkerLock
from .logins import Granted, grant
from .runs import RunProcess, start_forkserver
from .signals import Signals
from .telling import give_back, tell
from .timing import Backoff, now, spread
from .work import ASK_AT_LEAST, Claims, Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from code_import.importers import Outcome
    from code_import.models import Assignment, RcsType, Result

BEAT = 15.0
"""Seconds between heartbeats of runs that have been going for a while."""
FIRST_BEAT = 0.5
"""Seconds from the start, which is a sign of life itself, to the first heartbeat."""
LEAST_BEAT = 1.0
"""Young runs beat more often: somebody may wait for their lines, or want them killed."""
WAKE_SPACING = 0.25
"""However many notifications come, a worker asks no more often than this because of them."""
TIDY_UP = 3_600.0
TIDY_UP_MORE = 60.0
"""While history is left that is past its retention, a worker goes on with it as soon as this."""
RELEASE_GRACE = 3.0
PATIENCE = 4
"""So many times in a row a worker is unable to start runs before it gives up."""
LEASE_MARGIN = 0.1
"""The part of a lease that is left to a run to end in, when the database stays away."""
FAULTS = ("0A", "22", "23", "42", "P0", "XX")
"""Classes of SQLSTATEs that would come again, whatever the connection."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker works."""

    connect: Callable[[], psycopg.Connection[Any]]
    """Opens a connection to the database, afresh each time. Raises psycopg.Error."""
    hostname: str
    """The machine that it is, to the database."""
    store: Path
    """Where the mirrors lie: an existing directory."""
    lock_folder: Path
    """Where this user's workers say that they work."""
    rcs_types: tuple[RcsType, ...]
    key_file: Path
    """The keys that open the logins of sources; need not be there while there are none."""
    command: str = "code-import worker"
    """What others are told that is at work here."""
    allow_hosts: tuple[str, ...] = ()
    """What may be fetched from besides: ``host``, ``host:port``, or a network."""
    limit: int = 3
    listen: bool = True
    limits: Limits = field(default_factory=Limits)
    sandbox: str | None = None
    """The program that confines what runs start, if there is one."""
    release_at_once: bool = False
    """Whether the first signal already stops the runs, not only the taking of new ones."""


class CannotStart(Exception):
    """This machine has no process for a run, time and again, or its files cannot be locked."""


class Watcher:
    """Is told what happens to runs, and does nothing with it."""

    def started(self, assignment: Assignment) -> None:
        """A run has begun."""

    def line(self, assignment: Assignment, text: str) -> None:
        """Its log has one more line."""

    def ended(self, assignment: Assignment, result: Result | None, outcome: Outcome | None) -> None:
        """It is over: without a result when it was released, or was no longer ours."""


class Worker:
    """One worker. ``run`` it once."""

    def __init__(
        self, options: Options, work: Work | None = None, watcher: Watcher | None = None
    ) -> None:
        self._options = options
        self._work = work or Claims(options.hostname, options.limit, options.rcs_types)
        self._watcher = watcher or Watcher()
        self._selector = selectors.DefaultSelector()
        self._database = Database(options.connect)
        self._settings: Settings
        self._settings_at = 0.0
        self._listener = Listener(options.connect, self._selector, self._wake)
        self._runs: list[RunProcess] = []
        self._untold: list[RunProcess] = []
        self._context: ForkServerContext | None = None
        self._signals = Signals()
        self._stage = 0
        self._backoff = Backoff(0.25, 10)
        self._trouble = Backoff(1, 60)
        self._reconnect_at = self._beat_at = self._find_at = self._found_at = 0.0
        self._reclaim_at = now() + ASK_AT_LEAST
        self._tidy_at = now() + spread(TIDY_UP) / 4
        self._found_nothing = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing waits to be told, and there was nothing to take."""
        return self._found_nothing and not self._runs and not self._untold

    @property
    def was_stopped(self) -> bool:
        """Whether a signal has asked it to stop."""
        return self._stage > 0

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until ``until`` says so, or a signal.

        The first SIGTERM or SIGINT takes nothing more and finishes what runs; the second stops
        the runs and releases them; the third kills them. Raises Held when this machine has a
        worker already, NotYours when it belongs to another role, CannotStart when the machine has
        no processes left or no place for the lock, and psycopg.Error when there is no database at
        the start; one that goes away later is waited for.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._selector.close)
            stack.enter_context(self._signals.caught(self._selector))
            self._begin(stack)
            while not self._is_done(until):
                self._turn()

    def _begin(self, stack: contextlib.ExitStack) -> None:
        """Connect, lock, and take back what a crashed worker of this machine has left."""
        options = self._options
        self._context = start_forkserver(options.rcs_types)
        self._database.open()
        stack.callback(self._database.close)
        lock = WorkerLock(
            options.command,
            options.hostname,
            options.store,
            self._database.ask(identity),
            options.lock_folder,
        )
        try:
            lock.acquire()
        except OSError as err:
            raise CannotStart(f"the worker's lock cannot be had: {err}") from err
        stack.callback(lock.release)
        self._read_settings()
        for left in self._own_runs():
            logger.warning("%s was left by a crash: reclaimed", _name(left))
            self._reclaim(left.id)
        stack.callback(self._listener.close)
        stack.callback(self._kill_all)

    def _reclaim(self, job_id: int) -> None:
        with contextlib.suppress(RunGone):
            self._database.call(lambda client: client.job_reclaim(job_id))

    def _kill_all(self) -> None:
        for run in self._runs:
            run.kill()
        for run in self._runs:
            run.wait()
        for run in self._runs + self._untold:
            run.close()

    # The loop

    def _turn(self) -> None:
        """Wait for something to happen or to be due, and see to all that is."""
        ready = self._selector.select(max(0.0, self._next_due() - now()))
        for key, _ in ready:
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        self._heed_signals()
        for run in self._runs:
            run.enforce()
        self._set_ended_aside()
        try:
            self._attend()
        except psycopg.Error as err:
            self._database_lost(err)
        if not self._database.is_open:
            self._expire()

    def _set_ended_aside(self) -> None:
        for run in [run for run in self._runs if run.ended]:
            self._runs.remove(run)
            self._untold.append(run)
            if self._stage and run.died:  # Whoever stops a worker may signal its runs as well.
                run.ending = "released"

    def _next_due(self) -> float:
        times = [run.look_at for run in self._runs]
        if not self._database.is_open:
            return min([*times, *self._lease_ends(), self._reconnect_at])
        if self._runs:
            times.append(self._beat_at)
            times.append(self._settings_at + ASK_AT_LEAST)
        times.append(self._find_at if self._room() else self._reclaim_at)
        if self._options.listen:
            times.append(self._listener.next_attempt)
        return min([*times, self._tidy_at])

    def _attend(self) -> None:
        """Everything that needs the database, most urgent first. Raises psycopg.Error."""
        if not self._database.is_open:
            if now() < self._reconnect_at:
                return
            self._reconnect()
        elif self._runs:
            self._refresh_settings()
        while self._untold:
            self._tell(self._untold[0])
        if self._runs and (now() >= self._beat_at or any(run.confirming for run in self._runs)):
            self._beat()
        if self._options.listen:
            self._listener.tend()
        if self._room() and now() >= self._find_at:
            self._find()
        self._keep_up()
        self._backoff.reset()

    def _is_done(self, until: Callable[[], bool]) -> bool:
        if self._stage >= 3 or until():
            return True
        if self._stage == 0 or self._runs:
            return False
        if self._database.is_open or self._stage == 1:
            return all(now() > run.lease_ends for run in self._untold)
        return True

    # Signals

    def _heed_signals(self) -> None:
        stage = self._signals.count + (1 if self._options.release_at_once else 0)
        if not self._signals.count or stage == self._stage:
            return
        self._stage = stage
        if stage == 1:
            going = f"{len(self._runs)} to finish" if self._runs else "nothing runs"
            logger.info("stopping: takes nothing more, %s", going)
        elif stage == 2:
            logger.info("stopping now: releases %d", len(self._runs))
            for run in self._runs:
                run.end("released", "stopped: its worker stops", RELEASE_GRACE)

    # Taking

    def _room(self) -> int:
        if self._stage or not self._database.is_open:
            return 0
        return self._options.limit - len(self._runs)

    def _wake(self, notifications: int) -> None:
        """Ask soon, if it is for this worker to. None at all: there may have been many."""
        delay = self._work.heard(notifications) if notifications else 0.0
        if delay is not None and self._trouble.failures == 0:
            soon = max(now() + delay, self._found_at + WAKE_SPACING)
            self._find_at = min(self._find_at, soon)

    def _find(self) -> None:
        """Take what there is room for. What cannot be started is given back, after some rest."""
        self._found_at = now()
        self._reclaim_at = self._found_at + ASK_AT_LEAST
        found = self._work.find(self._database, self._room())
        self._found_nothing = not found.assignments
        if found.assignments:
            self._refresh_settings()
        started = [self._start(assignment) for assignment in found.assignments]
        if all(started):
            self._trouble.reset()
            self._find_at = now() + found.again_in
        elif self._trouble.failures == PATIENCE:
            raise CannotStart("no run can be started on this machine: see the errors above")
        else:
            self._find_at = now() + self._trouble.next()

    def _start(self, assignment: Assignment) -> bool:
        assert self._context is not None
        logger.info("%s started: %s", _name(assignment), _source(assignment))
        source = _source_of(assignment)
        try:
            granted = grant(self._database, assignment, source, self._options.key_file)
        except RunGone:
            logger.warning("%s had ended before it began", _name(assignment))
            return True
        try:
            run = RunProcess(
                assignment,
                self._context,
                self._selector,
                self._order(assignment, source, granted),
                self._settings.log_file_limit,
                lambda run, text: self._watcher.line(run.assignment, text),
            )
        except (OSError, EOFError) as err:
            logger.error("%s cannot be started: %s", _name(assignment), err)
            with contextlib.suppress(RunGone):
                give_back(self._database, assignment.id)
            return False
        run.lease_ends = self._found_at + self._settings.lease
        self._beat_at = min(self._beat_at if self._runs else inf, now() + FIRST_BEAT)
        self._runs.append(run)
        self._watcher.started(assignment)
        if granted.note:
            run.write(granted.note)
        return True

    def _refresh_settings(self) -> None:
        """Read them again when they are old: an idle worker has no use for them."""
        if now() >= self._settings_at + ASK_AT_LEAST:
            self._read_settings()

    def _read_settings(self) -> None:
        self._settings = self._database.look(settings)
        self._settings_at = now()
        self._database.patience = min(MOST_PATIENCE, max(LEAST_PATIENCE, self._settings.lease / 4))

    def _order(self, assignment: Assignment, source: Source, granted: Granted) -> Order:
        known = self._database.look(lambda conn: brief(conn, assignment.code_import_id))
        return Order(
            job_id=assignment.id,
            code_import_id=assignment.code_import_id,
            target=assignment.target,
            source=source,
            store=self._options.store,
            policy=Policy.load(
                excluded_hosts=hosts_listed(self._settings.excluded_hosts),
                allow_hosts=self._options.allow_hosts,
            ),
            lease=self._settings.lease,
            login=granted.login,
            refusal=granted.refusal,
            limits=self._options.limits,
            sandbox=self._options.sandbox,
            terms=Terms(
                known.maximum_loss_percent,
                {ref_name(ref): value for ref, value in known.accepted.items()},
                frozenset(map(ref_name, known.kept)),
            ),
            told=known.told,
            ref_retention=self._settings.ref_retention,
            verify=known.verify,
        )

    def _own_runs(self) -> list[Assignment]:
        hostname = self._options.hostname
        return self._database.ask(lambda conn: reading.assignments(conn, hostname))

    # Keeping alive

    def _beat(self) -> None:
        """One call for all runs, which also answers those that ask whether they may publish."""
        sent = now()
        runs = [run for run in self._runs if not run.ended]
        ids = [run.job_id for run in runs]
        tails = [run.log.tail() if run.has_news else None for run in runs]
        answers = self._database.call(lambda client: client.job_update_heartbeats(ids, tails))
        directives = {answer.job_id: answer.directive for answer in answers}
        for run in runs:
            run.has_news = False
            self._obey(run, directives.get(run.job_id, "gone"), sent + self._settings.lease)
        youngest = min((sent - run.started for run in runs), default=BEAT)
        pause = min(BEAT, self._settings.lease / 4, max(LEAST_BEAT, youngest))
        self._beat_at = sent + spread(pause)

    def _obey(self, run: RunProcess, directive: str, lease_ends: float) -> None:
        if directive == "gone":
            run.end("gone", "stopped: this run has ended without its worker")
            return
        run.lease_ends = lease_ends
        if directive == "stop":
            run.end("killed", "stopped: killed by an operator")
        elif run.confirming:
            run.answer(True)

    def _lease_ends(self) -> list[float]:
        margin = self._settings.lease * LEASE_MARGIN
        return [run.lease_ends - margin for run in self._runs if run.ending is None]

    def _expire(self) -> None:
        """End the runs that may be somebody else's by now."""
        margin = self._settings.lease * LEASE_MARGIN
        for run in self._runs:
            if now() >= run.lease_ends - margin:
                run.end("expired", "stopped: no database for as long as a run may live without it")

    # Telling

    def _tell(self, run: RunProcess) -> None:
        """Tell how a run ended. It stays untold only if the database went away meanwhile."""
        result = None
        try:
            if run.ending == "gone":
                logger.warning("%s is no longer ours: dropped", _name(run.assignment))
            else:
                result = tell(self._database, run)
                self._report(run, result)
        except RunGone:
            logger.warning("%s had ended without us: its outcome is dropped", _name(run.assignment))
        except NotYours:
            raise
        except CodeImportError as err:
            logger.error("%s cannot be finished: %s", _name(run.assignment), err.message)
        except psycopg.Error as err:
            if (err.sqlstate or "").startswith(FAULTS):
                logger.error(
                    "%s cannot be finished, and is left to be reclaimed", _name(run.assignment)
                )
                self._untold.remove(run)
            raise
        self._untold.remove(run)
        run.close()
        self._find_at = 0.0
        self._watcher.ended(run.assignment, result, run.outcome)

    def _report(self, run: RunProcess, result: Result | None) -> None:
        if result is None:
            logger.info("%s released", _name(run.assignment))
            return
        seconds = result.job_duration.total_seconds()
        why = run.outcome.summary if run.outcome else run.end_reason
        summary = f": {clean(why)}" if why else ""
        logger.info("%s: %s in %.1f s%s", _name(run.assignment), result.status, seconds, summary)

    # The database comes and goes

    def _database_lost(self, err: psycopg.Error) -> None:
        self._database.close()
        delay = self._backoff.next()
        level = logging.WARNING if self._backoff.failures == 1 else logging.INFO
        logger.log(level, "no database: %s; again in %.1f s", one_line(err), delay)
        self._reconnect_at = now() + delay

    def _reconnect(self) -> None:
        """Connect again, and release the runs whose claim was never answered."""
        self._database.open()
        self._read_settings()
        known = {run.job_id for run in self._runs + self._untold}
        for stray in self._own_runs():
            if stray.id not in known:
                logger.warning("%s was given to us unheard: released", _name(stray))
                with contextlib.suppress(RunGone):
                    give_back(self._database, stray.id)
        logger.info("the database is back")
        self._beat_at = self._find_at = 0.0

    def _keep_up(self) -> None:
        """Reclaim for the fleet while there is no room to claim, and tidy up now and then."""
        with contextlib.suppress(NotAllowed):
            if not self._room() and now() >= self._reclaim_at:
                self._reclaim_at = now() + spread(ASK_AT_LEAST)
                self._database.call(lambda client: client.job_reclaim_stale())
            if now() >= self._tidy_at:
                self._tidy_at = now() + spread(TIDY_UP)
                if self._database.call(lambda client: client.tidy_up()).partitions_due:
                    self._tidy_at = now() + spread(TIDY_UP_MORE)


def one_line(err: Exception) -> str:
    """An error's own words in one line."""
    return " ".join(str(err).split()) or type(err).__name__


def _name(assignment: Assignment) -> str:
    return f"run {assignment.id} of {assignment.target}"


def _source_of(assignment: Assignment) -> Source:
    return Source(
        rcs_type=assignment.rcs_type,
        url=assignment.url,
        cvs_root=assignment.cvs_root,
        cvs_module=assignment.cvs_module,
    )


def _source(assignment: Assignment) -> str:
    place = assignment.url or f"{assignment.cvs_root} {assignment.cvs_module}"
    return f"{assignment.rcs_type} {clean(place)}"
