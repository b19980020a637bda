"""The worker's one connection: short transactions of bounded length, and the questions it asks."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.errors import DeadlockDetected, SerializationFailure

from code_import.client import Client
from code_import.errors import NotAllowed
from code_import.wire import fetch_maybe, fetch_one, fetch_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from code_import.models import MachineState, RcsType

Returned = TypeVar("Returned")

MOST_PATIENCE = 20.0
LEAST_PATIENCE = 2.0
"""Seconds that a call may take on the server; half as long again until the line is cut."""
ATTEMPTS = 5


class Database:
    """Calls in transactions of their own, none of which waits without end.

    ``patience`` is how many seconds one may take: a lock that somebody keeps, or a server that
    stands still, must not keep a worker from its runs.

    Any psycopg.Error leaves it closed: whoever calls decides when to ``open`` it again, and must
    then ask what became of the last call. A refusal (CodeImportError) is an answer: it stays open.
    """

    def __init__(self, connect: Callable[[], Connection[Any]]) -> None:
        self.patience = MOST_PATIENCE
        self._connect = connect
        self._conn: Connection[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last call left a connection to use."""
        return self._conn is not None

    def open(self) -> None:
        """Connect afresh. Raises psycopg.Error."""
        self.close()
        conn = self._connect()
        conn.autocommit = True
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        conn.prepare_threshold = None  # Prepared statements do not survive every pooler.
        self._conn = conn

    def close(self) -> None:
        """Disconnect, whatever state the connection is in."""
        if self._conn is not None:
            with contextlib.suppress(psycopg.Error):
                self._conn.close()
            self._conn = None

    def call(self, do: Callable[[Client], Returned]) -> Returned:
        """Do something with a Client in one transaction; again after a deadlock or a conflict.

        Raises what the client raises, and psycopg.Error once the connection is of no more use.
        """
        return self.ask(lambda conn: do(Client(conn)))

    def ask(self, do: Callable[[Connection[Any]], Returned]) -> Returned:
        """As ``call``, for what wants the connection itself."""
        with self._closed_by_errors():
            for _ in range(ATTEMPTS - 1):
                with contextlib.suppress(DeadlockDetected, SerializationFailure):
                    return self._once(do)
                time.sleep(random.uniform(0.01, 0.05))
            return self._once(do)

    def look(self, do: Callable[[Connection[Any]], Returned]) -> Returned:
        """As ``ask``, for one statement that only reads: a quarter of the statements.

        A server that goes on with it after the line was cut does no harm.
        """
        with self._closed_by_errors():
            conn = self._connected()
            with answered_within(self.patience * 1.5, conn):
                return do(conn)

    def _once(self, do: Callable[[Connection[Any]], Returned]) -> Returned:
        conn = self._connected()
        with answered_within(self.patience * 1.5, conn), conn.transaction():
            fetch_value(
                conn,
                "select set_config('statement_timeout', %s, true)",
                f"{self.patience * 1000:.0f}ms",
            )
            return do(conn)

    def _connected(self) -> Connection[Any]:
        if self._conn is None:
            raise psycopg.OperationalError("not connected to the database")
        return self._conn

    @contextlib.contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error:
            self.close()
            raise


@contextlib.contextmanager
def answered_within(seconds: float, conn: Connection[Any]) -> Iterator[None]:
    """Cut the line to a server that does not answer in time: it cannot time out by itself."""
    with socket.socket(fileno=os.dup(conn.fileno())) as wire:

        def cut() -> None:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker must know of the settings."""

    lease: float
    """Seconds without a heartbeat after which a run may be reclaimed."""
    log_file_limit: int
    """Bytes of a log that are kept."""
    excluded_hosts: str
    """Hosts that nothing is fetched from, with commas."""
    ref_retention: float
    """Seconds for which a mirror keeps what its refs were."""


def settings(conn: Connection[Any]) -> Settings:
    """Read the settings that a worker obeys."""
    return fetch_one(
        conn,
        Settings,
        """
        select extract(epoch from lease.value::interval)::float8 as lease,
               pg_size_bytes(log.value) as log_file_limit,
               coalesce(hosts.value, '') as excluded_hosts,
               extract(epoch from refs.value::interval)::float8 as ref_retention
        from vcs.code_import_settings as lease
        join vcs.code_import_settings as log on log.name = 'log_file_limit'
        join vcs.code_import_settings as hosts on hosts.name = 'excluded_hosts'
        join vcs.code_import_settings as refs on refs.name = 'ref_retention'
        where lease.name = 'maximum_heartbeat_interval'
        """,
    )


@dataclass(frozen=True, slots=True)
class Brief:
    """What a run must know of its mirror."""

    maximum_loss_percent: int
    accepted: dict[str, str | None]
    """Held changes that people accept: the new value by the ref's name as text."""
    kept: list[str]
    """The refs that people want to keep."""
    told: int
    """The newest run whose changes are known."""
    verify: bool
    """Whether all of it is to be read."""


def brief(conn: Connection[Any], code_import_id: int) -> Brief:
    """Ask what people have decided about a mirror, and what is known of it."""
    found = fetch_maybe(
        conn,
        Brief,
        """
        select mirror.maximum_loss_percent,
               coalesce(held.accepted, '{}') as accepted,
               coalesce(held.kept, '{}') as kept,
               coalesce(mirror.job_id, 0) as told,
               coalesce(mirror.date_verification_due <= now(), false) as verify
        from vcs.code_import_mirror as mirror
        cross join lateral (
            select jsonb_object_agg(held.ref, held.new_value)
                       filter (where held.decision = 'accept') as accepted,
                   array_agg(held.ref) filter (where held.decision = 'keep') as kept
            from vcs.code_import_held_ref as held
            where mirror.refs_held > 0 and held.code_import_id = mirror.code_import_id
        ) as held
        where mirror.code_import_id = %s
        """,
        code_import_id,
    )
    return found or Brief(50, {}, [], 0, False)  # It has been deleted since.


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a machine may expect."""

    state: MachineState | None
    """Of the machine; None while nobody has heard of it."""
    due_in: float | None
    """Seconds by the database's clock until there may be work; None when none is in sight."""
    idle: int
    """How many machines are online and run nothing; all that are online, if they are few."""
    silent_after: float | None
    """Seconds after which a silent machine is taken offline; None for never."""


def prospect(
    conn: Connection[Any], hostname: str, rcs_types: Sequence[RcsType], few: int
) -> Prospect:
    """Ask how long a worker with nothing to do may sleep, and who else has nothing to do."""
    return fetch_one(
        conn,
        Prospect,
        """
        select (select state from vcs.code_import_machine where hostname = %s) as state,
               extract(epoch from
                   vcs.code_import_job_next_due(%s, %s::text[]) - now())::float8 as due_in,
               case when online.machines <= %s then online.machines else (
                   select count(*) from (
                       select machine.id from vcs.code_import_machine as machine
                       where machine.state = 'online'
                       except
                       select job.machine_id from vcs.code_import_job as job
                       where job.state = 'running'
                   ) as idle
               ) end as idle,
               (select extract(epoch from setting.value::interval)::float8
                from vcs.code_import_settings as setting
                where setting.name = 'machine_silent_after') as silent_after
        from (
            select count(*) as machines from vcs.code_import_machine where state = 'online'
        ) as online
        """,
        hostname,
        hostname,
        list(rcs_types),
        few,
    )


def identity(conn: Connection[Any]) -> str:
    """A name for this very database that is the same by every route that leads to it."""
    try:
        with conn.transaction():
            cluster = fetch_value(conn, "select system_identifier from pg_control_system()")
    except NotAllowed:
        cluster = "cluster"
    own = "select oid from pg_database where datname = current_database()"
    return f"{cluster}-{fetch_value(conn, own)}"
