"""The watch over a run: what its processes hold, and what they have written.

Limits that a kernel keeps are of one process or of one user. A run is neither, so it is looked at,
often enough that a bomb gets nowhere, and from outside, so that it cannot blind its watch.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from code_import.limits import size_text

from .family import descendants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from code_import.limits import Limits

EVERY = 0.25
"""Seconds between two looks at the processes."""
DISK_EVERY = 2.0
"""Seconds between two looks at the disk, at least."""
DISK_SHARE = 50
"""A look at the disk that takes long is followed by so many times as long without one."""
LONGEST_WORD = 1_024


class Watch:
    """Watches the run that a process leads. Once it goes too far, ``fd`` has a line that says so.

    A thread of its own: a look at many files takes its time.
    """

    def __init__(self, pid: int, limits: Limits, folders: Sequence[Path]) -> None:
        self.fd, self._told = os.pipe()
        self._pid = pid
        self._limits = limits
        self._folders = folders
        self._over = threading.Event()
        self._disk_at = 0.0
        self._least = 0
        threading.Thread(target=self._watch, name=f"watch-{pid}", daemon=True).start()

    def word(self) -> str:
        """What the run has done, once ``fd`` is readable; empty when nobody watches any more."""
        return os.read(self.fd, LONGEST_WORD).decode()

    def end(self) -> None:
        """Watch no longer."""
        self._over.set()
        os.close(self.fd)

    def _watch(self) -> None:
        try:
            self._least = self._size()
            while not self._over.wait(EVERY):
                if excess := self._excess():
                    with contextlib.suppress(BrokenPipeError):
                        os.write(self._told, excess.encode())
                    return
        finally:
            os.close(self._told)

    def _excess(self) -> str | None:
        limits = self._limits
        pids = descendants(self._pid) | {self._pid}
        if len(pids) > limits.processes:
            return f"it has more than {limits.processes} processes"
        if sum(map(_memory, pids)) > limits.memory:
            return f"it needs more than {size_text(limits.memory)} of memory"
        if time.monotonic() >= self._disk_at and self._growth() > limits.written:
            return f"it has written more than {size_text(limits.written)}"
        return None

    def _growth(self) -> int:
        size = self._size()
        self._least = min(self._least, size)
        return size - self._least

    def _size(self) -> int:
        start = time.monotonic()
        size = sum(map(disk_use, self._folders))
        end = time.monotonic()
        self._disk_at = end + max(DISK_EVERY, (end - start) * DISK_SHARE)
        return size


def disk_use(folder: str | Path) -> int:
    """Bytes that a folder, and what is below it, has on disk; what goes meanwhile is left out."""
    size = 0
    folders: list[str | Path] = [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
    return size


def _memory(pid: int) -> int:
    """Bytes that a process has for itself."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
        _, resident, shared, *_ = map(int, file.read().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return 0
