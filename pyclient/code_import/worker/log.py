"""The log of one run: its newest lines at hand, the whole of it on disk, neither without bound."""

from __future__ import annotations

import re
import tempfile
from collections import deque
from datetime import UTC, datetime

TAIL_LINES = 40
TAIL_BYTES = 8_192
LINE_LENGTH = 2_000
MEMORY_BYTES = 65_536

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*)://([^/@\s]*)@", re.IGNORECASE)


def clean(line: str) -> str:
    """One line fit for a database, a terminal and other people's eyes.

    Control characters go, what is not UTF-8 is replaced, secrets in urls are starred, and a line
    longer than ``LINE_LENGTH`` characters is cut.
    """
    line = _CONTROLS.sub("", _ESCAPES.sub("", line))
    line = line.encode("utf-8", "replace").decode("utf-8")
    line = _USERINFO.sub(_without_secret, line).rstrip()
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"


def _without_secret(match: re.Match[str]) -> str:
    scheme, userinfo = match.groups()
    user, colon, _ = userinfo.partition(":")
    if scheme.lower().endswith("ssh"):
        return f"{scheme}://{user}:***@" if colon else match[0]
    return f"{scheme}://***@"  # Over http a user name alone may be a token.


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
