"""A wire on which questions arrive and answers get lost."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class LostAnswers:
    """A TCP proxy for one connection to a local port, to be used in a ``with`` statement."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loses = threading.Event()
        self._cut, self._is_cut = socket.socketpair()
        self._thread = threading.Thread(target=self._carry)

    def lose(self) -> None:
        """Let no answer through from now on."""
        self._loses.set()

    def cut(self) -> None:
        """Cut the wire: the client is told of the end, and of nothing that it has missed."""
        self._cut.close()
        self._thread.join()

    def __enter__(self) -> LostAnswers:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()

    def _carry(self) -> None:
        with self._listener, self._is_cut:
            if self._listener not in select.select([self._listener, self._is_cut], [], [])[0]:
                return
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                while True:
                    ready, _, _ = select.select([client, server, self._is_cut], [], [])
                    if self._is_cut in ready:
                        return
                    for source, sink in ((client, server), (server, client)):
                        if source in ready:
                            data = source.recv(65536)
                            if not data:
                                return
                            if sink is server or not self._loses.is_set():
                                sink.sendall(data)
