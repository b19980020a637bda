"""From changesets to commits: what hg says of them, as git's fast-import reads it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from .hgtool import NULL
from .process import Finished, ToolFailed, piped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from code_import.mirror import Workspace

    from .gittool import Git
    from .hgtool import Server

FILES_AT_ONCE = 500
MODES = {b"": b"100644", b"x": b"100755", b"l": b"120000"}

_CHANGESET = (
    "dict(node=node, p1=p1.node, p2=p2.node, date=date|hgdate, branch=branch, user=user, desc=desc)"
)
_SCRATCH = b"refs/hg/scratch"
_NO_NAME = re.compile(rb"[<>\n\r\0]+")


@dataclass(slots=True)
class Export:
    """Writes commits. ``commits`` knows those of all changesets that were written, by node."""

    server: Server
    map_file: Path
    out: IO[bytes]
    into: IO[bytes]
    commits: dict[str, str] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    """The newest commit of each named branch that this run has written."""
    left_out: list[str] = field(default_factory=list)
    _marks: dict[str, int] = field(default_factory=dict)
    """Those that this process has written: it cannot name them otherwise before it is sure."""

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, git: Git, work: Workspace, repository: Path, server: Server
    ) -> Iterator[Export]:
        """One that goes on where the last has stopped."""
        map_file = work.folder / "commits"
        command, environment = git.command(
            "-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", "--force",
            repository=repository,
        )  # fmt: skip
        with piped(command, env=environment, cwd=work.folder, keep_open=(work.fd,)) as (out, into):
            yield cls(server, map_file, out, into, _read_map(map_file))

    def write(self, first: int, last: int) -> None:
        """Write the changesets of a range, and make sure of them."""
        lines = []
        for row in self.server.rows(f"{first}:{last}", _CHANGESET):
            if row["node"] not in self.commits:
                self.commits[row["node"]] = self._commit(row)
                lines.append(f"{row['node']} {self.commits[row['node']]}\n")
            self.newest[row["branch"]] = self.commits[row["node"]]
        self._say(b"checkpoint\nprogress sure\n")
        self._answer()
        with self.map_file.open("a") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    def _commit(self, row: dict[str, Any]) -> str:
        parents = [self._named(row[name]) for name in ("p1", "p2") if row[name] != NULL]
        changes = self._changes(row["node"])
        mark = self._marks[row["node"]] = len(self._marks) + 1
        who = b"%s %s" % (_person(row["user"]), _date(row["date"]))
        message = row["desc"].encode("utf-8", "replace") + b"\n"
        self._say(b"reset %s\n\n" % _SCRATCH if not parents else b"")
        self._say(
            b"commit %s\nmark :%d\nauthor %s\ncommitter %s\ndata %d\n%s\n"
            % (_SCRATCH, mark, who, who, len(message), message)
        )
        for word, parent in zip((b"from", b"merge"), parents, strict=False):
            self._say(b"%s %s\n" % (word, parent))
        for change in changes:
            self._say(change)
        self._say(b"\nget-mark :%d\n" % mark)
        return self._answer().decode().strip()

    def _named(self, node: str) -> bytes:
        """A parent, as fast-import knows it."""
        if node in self._marks:
            return b":%d" % self._marks[node]
        return self.commits[node].encode()

    def _changes(self, node: str) -> Iterator[bytes]:
        """What is different from the first parent: first what goes, then what comes."""
        gone = _names(self.server("status", "--change", node, "-n", "-0", "-r"))
        come = _names(self.server("status", "--change", node, "-n", "-0", "-m", "-a"))
        for path in gone:
            if _is_name(path):
                yield b"D %s\n" % _quoted(path)
        for start in range(0, len(come), FILES_AT_ONCE):
            yield from self._files(node, come[start : start + FILES_AT_ONCE])

    def _files(self, node: str, paths: Sequence[bytes]) -> Iterator[bytes]:
        patterns = [b"path:" + path for path in paths]
        told = self.server(
            "files", "-r", node, "-T", "{path}\\0{flags}\\0{size}\\0", "--", *patterns
        ).split(b"\0")[:-1]
        data = self.server("cat", "-r", node, "--", *patterns)
        place = 0
        for path, flags, size in zip(told[::3], told[1::3], told[2::3], strict=True):
            content = data[place : place + int(size)]
            place += int(size)
            if not _is_name(path):
                self.left_out.append(f"{os.fsdecode(path)!r}: git has no such names")
                continue
            yield b"M %s inline %s\ndata %d\n" % (MODES[flags], _quoted(path), len(content))
            yield content + b"\n"
        if place != len(data):
            raise ToolFailed("hg cat", Finished(-1, b"", f"{node} has files of other sizes"))

    def _say(self, data: bytes) -> None:
        try:
            self.into.write(data)
        except BrokenPipeError:
            raise ToolFailed("git fast-import", Finished(-1, b"", "it has ended")) from None

    def _answer(self) -> bytes:
        with contextlib.suppress(BrokenPipeError):
            self.into.flush()
        line = self.out.readline()
        if not line:
            raise ToolFailed("git fast-import", Finished(-1, b"", "it has ended"))
        return line


def _read_map(file: Path) -> dict[str, str]:
    """The commits by changesets; a last line that was cut off counts for nothing."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {line[:40]: line[41:] for line in lines if len(line) == 81}


def _names(listing: bytes) -> list[bytes]:
    return listing.split(b"\0")[:-1]


def _is_name(path: bytes) -> bool:
    """Whether git takes a path: no part may be its own folder, in any spelling, or lead away."""
    parts = path.lower().split(b"/")
    return not any(part in (b"", b".", b"..", b".git", b"git~1") for part in parts)


def _quoted(path: bytes) -> bytes:
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % escaped


def _person(user: str) -> bytes:
    name, bracket, rest = user.encode("utf-8", "replace").partition(b"<")
    mail = rest.partition(b">")[0] if bracket else b""
    if not bracket and b"@" in name and b" " not in name.strip():
        name, mail = name.partition(b"@")[0], name
    name, mail = (_NO_NAME.sub(b"", each).strip() for each in (name, mail))
    return b"%s <%s>" % (name, mail)


def _date(date: str) -> bytes:
    seconds, offset = map(int, date.split())
    east = max(-14 * 60, min(14 * 60, -offset // 60))
    sign = b"-" if east < 0 else b"+"
    return b"%d %s%02d%02d" % (max(seconds, 0), sign, abs(east) // 60, abs(east) % 60)
