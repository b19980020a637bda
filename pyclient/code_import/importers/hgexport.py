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
FLAGS = {b"": b"", b"*": b"x", b"@": b"l"}
"""The flags of files, from the types that hg shows."""
MODES = {b"": b"100644", b"x": b"100755", b"l": b"120000"}

_CHANGESET = "dict(node=node, p1=p1.node, p2=p2.node, date=date|hgdate, user=user, desc=desc)"
_FILE = "{path}\\0{size}\\0{data}"
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
    left_out: set[str] = field(default_factory=set)
    """The paths that git cannot have, as far as this run has met them."""
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
        told = self.server("status", "--change", node, "-0", "-m", "-a", "-r").split(b"\0")[:-1]
        for line in told:
            if line.startswith(b"R ") and _is_name(line[2:]):
                yield b"D %s\n" % _quoted(line[2:])
        come = [line[2:] for line in told if not line.startswith(b"R ")]
        for start in range(0, len(come), FILES_AT_ONCE):
            for path, flags, content in self._files(node, come[start : start + FILES_AT_ONCE]):
                if not _is_name(path):
                    self.left_out.add(repr(os.fsdecode(path)))
                    continue
                yield b"M %s inline %s\ndata %d\n" % (MODES[flags], _quoted(path), len(content))
                yield content + b"\n"

    def _files(self, node: str, paths: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
        """The path, the flags and the content of each file."""
        patterns = [b"path:" + path for path in paths]
        try:
            told = self.server("files", "-r", node, "-T", "{path}\\0{flags}\\0", "--", *patterns)
            flags = _pairs(told)
            data = self.server("cat", "-r", node, "-T", _FILE, "--", *patterns)
            contents = _parted(data, set(paths))
        except ToolFailed:
            contents = None
        if contents is None:
            yield from self._files_one_by_one(node, paths)
        else:
            for path, content in contents.items():
                yield path, flags[path], content

    def _files_one_by_one(
        self, node: str, paths: Sequence[bytes]
    ) -> Iterator[tuple[bytes, bytes, bytes]]:
        """The same, slowly.

        hg looks at the subrepositories of a changeset, however unwelcome, unless it is asked for
        what is in the manifest and for one file; and it takes a content that begins with a mark of
        its own for larger than it is.
        """
        types = _pairs(self.server("manifest", "-r", node, "-T", "{path}\\0{type}\\0"))
        for path in paths:
            content = self.server("cat", "-r", node, "--", b"path:" + path)
            yield path, FLAGS[types[path]], content

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


def _pairs(told: bytes) -> dict[bytes, bytes]:
    fields = told.split(b"\0")[:-1]
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _parted(told: bytes, paths: set[bytes]) -> dict[bytes, bytes] | None:
    """The contents of these paths in what hg told of them; None when it told of other sizes."""
    contents: dict[bytes, bytes] = {}
    place = 0
    while place < len(told):
        end = told.find(b"\0", place)
        start = told.find(b"\0", end + 1) + 1
        path, size = told[place:end], told[end + 1 : start - 1]
        if path not in paths or not size.isdigit():
            return None
        place = start + int(size)
        contents[path] = told[start:place]
    return contents if place == len(told) and len(contents) == len(paths) else None


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
