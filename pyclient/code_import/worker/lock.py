"""One worker a machine name: a lock file that says who holds it.

The kernel keeps the lock (flock), so that it is free the moment its holder is dead; what the file
says is for people.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


class Held(Exception):
    """Somebody else holds the lock; ``holder`` is what the file says of them."""

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        self.path = path
        self.holder = holder
        super().__init__(
            f"machine {holder.get('machine', '?')} is at work already:"
            f" {holder.get('command', '?')}, process {holder.get('pid', '?')}"
            f" on {holder.get('host', '?')}"
            f" since {holder.get('since', '?')}, store {holder.get('store', '?')}"
        )


class WorkerLock:
    """The right to work as ``machine`` with ``store``, and with ``database`` on this host.

    Two files: one in the store, which hosts may share, and one in ``folder`` (of this user) for the
    machine's name in that database, since a worker takes its machine's runs for its own wherever
    its mirrors lie.
    """

    def __init__(
        self, command: str, machine: str, store: Path, database: str, folder: Path
    ) -> None:
        name = quote(machine, safe="")
        self._paths = (folder / f"worker-{database}-{name}.lock", store / f".worker-{name}.lock")
        self._about = {
            "command": command,
            "machine": machine,
            "store": str(store),
            "host": socket.gethostname(),
        }
        self._files: list[int] = []

    def acquire(self) -> None:
        """Take the lock until ``release`` or death.

        Raises Held at once when it is taken, and OSError where there can be no such file.
        """
        about = self._about | {"pid": os.getpid(), "since": f"{datetime.now(UTC):%F %T} UTC"}
        try:
            for path in self._paths:
                self._files.append(_take(path, about))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give it back. The files stay: removing one would race with the next holder."""
        for file in self._files:
            os.close(file)
        self._files.clear()


def _take(path: Path, about: dict[str, Any]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        os.close(file)
        if not isinstance(err, BlockingIOError):
            raise
        raise Held(path, _read(path)) from None
    os.ftruncate(file, 0)
    os.write(file, json.dumps(about).encode() + b"\n")
    return file


def _read(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}
