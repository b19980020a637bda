"""SIGTERM and SIGINT as a count that a loop looks at, and that wakes it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from selectors import EVENT_READ, BaseSelector
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """How many times this process was asked to stop."""

    def __init__(self) -> None:
        self.count = 0

    @contextlib.contextmanager
    def caught(self, selector: BaseSelector) -> Iterator[None]:
        """Count them, instead of dying, until the end of the block. Only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        inside, outside = socket.socketpair()
        with inside, outside:
            for end in (inside, outside):
                end.setblocking(False)
            selector.register(inside.fileno(), EVENT_READ, lambda: inside.recv(64))
            wakeup = signal.set_wakeup_fd(outside.fileno(), warn_on_full_buffer=False)
            handlers = {signum: signal.signal(signum, self._count) for signum in SIGNALS}
            try:
                yield
            finally:
                for signum, handler in handlers.items():
                    signal.signal(signum, handler)
                signal.set_wakeup_fd(wakeup)
                selector.unregister(inside.fileno())

    def _count(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
