"""The log of one run: its newest lines at hand, the whole of it on disk, neither without bound."""

from __future__ import annotations

import tempfile
from collections import deque
from datetime import UTC, datetime

from code_import.redaction import clean

TAIL_LINES = 40
TAIL_BYTES = 8_192
MEMORY_BYTES = 65_536


class RunLog:
    """Lines go in; ``tail`` and ``content`` come out. Keeps at least the last ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._older = _spool()
        self._newer = _spool()
        self._size = 0

    def write(self, text: str) -> str:
        """Add a line, which is cleaned and gets the time of day in UTC. Returns it cleaned."""
        text = clean(text)
        line = f"{datetime.now(UTC):%H:%M:%S} {text}"
        self._tail.append(line)
        data = line.encode() + b"\n"
        if self._size + len(data) > self._limit:
            self._older.close()
            self._older, self._newer, self._size = self._newer, _spool(), 0
        try:
            self._newer.write(data)
            self._size += len(data)
        except OSError:  # A full disk costs the log, not the run.
            self._tail.append("(the disk for temporary files is full: parts of the log are lost)")
        return text

    def tail(self) -> str:
        """The newest lines, at most ``TAIL_BYTES`` bytes of them."""
        return "\n".join(self._tail).encode()[-TAIL_BYTES:].decode("utf-8", "ignore")

    def content(self) -> bytes:
        """The whole log, or the last ``limit`` bytes of it."""
        parts = []
        for spool in (self._older, self._newer):
            spool.seek(0)
            parts.append(spool.read())
        return b"".join(parts)[-self._limit :]

    def close(self) -> None:
        """Give back the disk."""
        self._older.close()
        self._newer.close()


def _spool() -> tempfile.SpooledTemporaryFile[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)
