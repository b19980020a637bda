"""What a cvs server's log says of the files of a module: their revisions and symbols."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .update import Ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Number = tuple[int, ...]
"""Of a revision, (1, 2, 4, 1), or of a branch, (1, 2, 4)."""

_BETWEEN = b"-" * 28
_END = b"=" * 77
_FILE = b"RCS file: "
_REVISION = re.compile(rb"revision (\d+(?:\.\d+)+)(?:\s.*)?")
_ABOUT = re.compile(rb"date: ([^;]+);\s+author: ([^;]+);\s+state: ([^;]+);(.*)")
_COMMIT_ID = re.compile(rb"commitid: ([^;]+);")
_DATE = re.compile(rb"(\d{2,4})[-/](\d\d)[-/](\d\d) (\d\d):(\d\d):(\d\d)(?: ([+-])(\d\d)(\d\d))?")
_BRANCHES = re.compile(rb"branches:(?:\s+[\d.]+;)+\s*")


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """One revision of one file."""

    path: bytes
    number: Number
    date: int
    author: bytes
    log: bytes
    commit_id: bytes
    dead: bool


@dataclass(slots=True)
class File:
    """One file, wherever it is now: what has been removed lies in a folder Attic."""

    path: bytes
    attic: bool
    default_branch: Number | None = None
    symbols: dict[str, Number] = field(default_factory=dict)
    revisions: dict[Number, Revision] = field(default_factory=dict)


def parse(lines: Iterable[bytes], root: bytes) -> Iterator[File]:
    """Read the files from the log of a repository at a root; their paths are those below it."""
    for path, block in _blocks(lines):
        yield _File(path, root).read(block)


def _blocks(lines: Iterable[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Part the log where a file ends, and not where a message looks as if it did."""
    path: bytes | None = None
    block: list[bytes] = []
    held: list[bytes] = []  # A line that may be the end, and empty ones after it.
    for line in lines:
        if line.startswith(_FILE) and (held or path is None):
            if path is not None:
                yield path, block
            path, block, held = line.removeprefix(_FILE), [], []
        elif line == _END or (held and not line):
            if line == _END:
                block += held
                held = []
            held.append(line)
        else:
            block += held
            held = []
            block.append(line)
    if path is not None:
        if not held:
            raise Ended("failure", "The server's log ends in the middle of a file.")
        yield path, block


class _File:
    """Reads the block of one file."""

    def __init__(self, rcs_path: bytes, root: bytes) -> None:
        self._name = rcs_path.decode("utf-8", "replace")
        self._head: Number = ()
        self._total = 0
        prefix = root.rstrip(b"/") + b"/"
        if not rcs_path.startswith(prefix):
            raise Ended("failure", f"The server's log is about {self._name}.")
        parts = rcs_path[len(prefix) :].removesuffix(b",v").split(b"/")
        attic = len(parts) > 1 and parts[-2] == b"Attic"
        if attic:
            del parts[-2]
        self._file = File(b"/".join(parts), attic)

    def read(self, block: list[bytes]) -> File:
        self._read_head(block)
        starts = self._starts(block)
        if len(starts) != self._total:
            raise Ended(
                "failure_unsupported_feature",
                f"The revisions of {self._name} cannot be told from what its messages say.",
            )
        for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
            self._read_revision(block[start + 1 : end])
        return self._file

    def _starts(self, block: list[bytes]) -> list[int]:
        """Where revisions begin. Messages have logs in them: those of older revisions, which
        are listed once more further down."""
        starts: dict[bytes, int] = {}
        for at in range(len(block) - 2):
            if block[at] != _BETWEEN or not _ABOUT.fullmatch(block[at + 2]):
                continue
            found = _REVISION.fullmatch(block[at + 1])
            if found and not (found[1].count(b".") == 1 and _number(found[1]) > self._head):
                starts[found[1]] = at
        return sorted(starts.values())

    def _read_head(self, block: list[bytes]) -> None:
        for at, line in enumerate(block):
            key, _, value = line.partition(b":")
            value = value.strip()
            if key == b"head" and value:
                self._head = _number(value)
            elif key == b"branch" and value:
                self._file.default_branch = _number(value)
            elif key == b"symbolic names":
                self._read_symbols(block[at + 1 :])
            elif key == b"total revisions":
                self._total = int(value.partition(b";")[0])
            elif key == b"description":
                return
        raise Ended("failure", f"The log of {self._name} is not one of a cvs server.")

    def _read_symbols(self, lines: list[bytes]) -> None:
        for line in lines:
            if not line.startswith(b"\t"):
                return
            name, _, number = line.strip().rpartition(b":")
            text = number.strip()
            if re.fullmatch(rb"\d+(?:\.\d+)+", text):
                self._file.symbols[name.decode("utf-8", "surrogateescape")] = _number(text)

    def _read_revision(self, lines: list[bytes]) -> None:
        revision, about = _REVISION.fullmatch(lines[0]), _ABOUT.fullmatch(lines[1])
        assert revision is not None
        assert about is not None
        message = lines[2:]
        if message and _BRANCHES.fullmatch(message[0]):
            message = message[1:]
        commit_id = _COMMIT_ID.search(about[4])
        number = _number(revision[1])
        date = self._date(about[1])
        self._file.revisions[number] = Revision(
            self._file.path, number, date, about[2], b"\n".join(message).rstrip(b"\n") + b"\n",
            commit_id[1] if commit_id else b"", about[3] == b"dead",
        )  # fmt: skip

    def _date(self, text: bytes) -> int:
        found = _DATE.fullmatch(text.strip())
        if found is None:
            raise Ended("failure_remote_broken", f"A revision of {self._name} has no date.")
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        if year < 100:
            year += 1900
        seconds = calendar.timegm((year, month, day, hour, minute, second))
        if found[7]:
            zone = (int(found[8]) * 60 + int(found[9])) * 60
            seconds += zone if found[7] == b"-" else -zone
        return max(seconds, 0)


def _number(text: bytes) -> Number:
    return tuple(int(part) for part in text.split(b"."))
