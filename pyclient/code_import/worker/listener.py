"""NOTIFY as an alarm clock: it makes waking faster, and nothing depends on it."""

from __future__ import annotations

import contextlib
import logging
from math import inf
from selectors import EVENT_READ, BaseSelector
from typing import TYPE_CHECKING, Any

import psycopg

from .database import MOST_PATIENCE, answered_within
from .timing import Backoff, now

if TYPE_CHECKING:
    from collections.abc import Callable

CHANNEL = "code_import_job_due"

logger = logging.getLogger(__name__)


class Listener:
    """A connection of its own that listens, and calls ``on_wake`` when work may be due.

    A burst of notifications is one call with their number. It is called after each LISTEN too,
    with 0: nobody knows what was said while nobody listened.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        selector: BaseSelector,
        on_wake: Callable[[int], None],
    ) -> None:
        self._connect = connect
        self._selector = selector
        self._on_wake = on_wake
        self._conn: psycopg.Connection[Any] | None = None
        self._fd = -1
        self._backoff = Backoff(1, 60)
        self.next_attempt = 0.0

    def tend(self) -> None:
        """Listen (again) if ``next_attempt`` says that it is time to."""
        if now() >= self.next_attempt:
            try:
                self._listen()
            except psycopg.Error as err:
                self._lost(err)

    def close(self) -> None:
        """Listen no more."""
        if self._conn is not None:
            self._selector.unregister(self._fd)
            with contextlib.suppress(psycopg.Error):
                self._conn.close()
            self._conn = None

    def _listen(self) -> None:
        conn = self._connect()
        try:
            conn.autocommit = True
            with answered_within(MOST_PATIENCE, conn):
                conn.execute(f"listen {CHANNEL}")
            self._fd = conn.fileno()
        except psycopg.Error:
            conn.close()
            raise
        self._selector.register(self._fd, EVENT_READ, self._hear)
        self._conn = conn
        self.next_attempt = inf
        self._backoff.reset()
        self._on_wake(0)

    def _hear(self) -> None:
        assert self._conn is not None
        try:
            if notifications := sum(1 for _ in self._conn.notifies(timeout=0)):
                self._on_wake(notifications)
        except psycopg.Error as err:
            self._lost(err)

    def _lost(self, err: psycopg.Error) -> None:
        if self._backoff.failures == 0:
            logger.warning("cannot listen, so polling has to do: %s", " ".join(str(err).split()))
        self.close()
        self.next_attempt = now() + self._backoff.next()
