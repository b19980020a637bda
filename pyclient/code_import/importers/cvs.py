"""CVS: mirror a module, its trunk, branches and tags, from a pserver or from its files by rsync.

A run reads the log of all files, finds out what the commits were (``cvs_history.py``), fetches the
revisions that are not here yet, and writes the commits that are new. It does so from the start each
time: what is published is what a fresh import gives, also when somebody has changed the history at
the server. Only contents are kept from run to run, and which commit was made of what.

No cvs program is started for a pserver: its root may name programs, proxies and hosts, of which
only the host is used, through the gate. Files that come by rsync are read with a cvs server of
this machine, over a pipe.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import shutil
import socket
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from code_import.mirror import Store
from code_import.policy import DEFAULT_PORTS, Forbidden
from code_import.refs import BRANCHES, TAGS, Refs

from .converted import Converted, convert, own_repository, tidy
from .cvs_client import Conversation
from .cvs_history import build
from .cvs_log import parse
from .gate import Gate
from .gittool import Git
from .process import ToolFailed, closed_environment, piped, run_logged
from .refnames import name_refs
from .update import Cause, Ended, conclude, explain, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from code_import.importers import Outcome, Run
    from code_import.mirror import Workspace

    from .cvs_client import Sent
    from .cvs_history import Commit, History
    from .cvs_log import Revision
    from .update import Log

TRUNK = "main"
RUN_SECONDS = 300.0
"""After so many seconds of fetching a run ends with what it has, and the next one goes on."""
SOCKET_TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as stalled. One that works on a long log, or
waits for a lock, says something now and then."""
ANSWER_SECONDS = 3600.0
"""Seconds that one answer may take, however busy the server is."""
MOST_FETCHED = 2_000
"""Revisions that are kept together, or fewer that are large."""
MOST_BYTES = 16 * 1024 * 1024
MOST_WRITTEN = 10_000
"""Commits that are written together."""
LINE_EVERY = 2.0
ANONYMOUS = "anonymous"

_ROOT = re.compile(
    r":pserver:(?:(?P<user>[^@:;/]+)@)?(?P<host>\[[^\]]+\]|[^@:;/\[]+)(?::(?P<port>[0-9]*))?"
    r"(?P<path>/[^;]*)"
)
"""As the policy has written it."""
_SCRATCH = b"refs/import/tip"

_NOT_IN_GIT = {b".git", b".", b"..", b""}

RSYNC_CAUSES = (
    Cause(r"No such file or directory|Unknown module|chdir failed", "failure_invalid",
          "there is no such module at the server"),
    Cause(r"auth failed|@ERROR: (?:access denied|auth)", "failure_invalid",
          "the server refuses access"),
    Cause(r"timeout|timed out", "failure", "the server has stalled"),
    Cause(r"Permission denied", "failure_remote_broken", "some files cannot be read"),
)  # fmt: skip
"""What the complaints of rsync mean. Anything else is a ``failure``."""


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """
    return conclude(run, lambda run, log: convert(run, log, _convert))


def missing_tools() -> str | None:
    """None when git, cvs and rsync are here; else one line that says what is not."""
    missing = [tool for tool in ("git", "cvs", "rsync") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


@dataclass(frozen=True, slots=True)
class Root:
    """Where a repository is. Nothing else that a CVSROOT can say is understood."""

    user: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, checked: str) -> Root:
        """Read a root that the policy has checked. Raises Forbidden for any other."""
        found = _ROOT.fullmatch(checked)
        if found is None:
            raise Forbidden("a CVS root is :pserver:user@host:/path, or a local path")
        port = int(found["port"] or DEFAULT_PORTS["pserver"])
        return cls(found["user"] or "", found["host"], port, found["path"].rstrip("/") or "/")


def _convert(run: Run, log: Log, work: Workspace) -> Converted:
    checked = run.policy.check(run.source)
    git = Git(Store(run.store), "file")
    repository = own_repository(work, git)
    with Gate(run.policy, log) as gate:
        try:
            with _connect(run, log, work, gate, checked) as server, _kept(work) as kept:
                return _Import(run, log, work, git, repository, kept).go(server)
        except TimeoutError as error:
            look_at(gate)
            raise Ended("failure", f"The server has stalled. ({error})") from None
        except (EOFError, ConnectionError) as error:
            look_at(gate)
            raise Ended("failure", f"The connection broke. ({error})") from None


@contextlib.contextmanager
def _connect(
    run: Run, log: Log, work: Workspace, gate: Gate, checked: str
) -> Iterator[Conversation]:
    """A conversation with whoever knows the repository at a place that the policy has checked."""
    if checked.startswith(":pserver:"):
        with _pserver(run, log, gate, Root.parse(checked)) as server:
            yield server
        return
    path = unquote(checked.removeprefix("file://"))
    if checked.startswith("rsync://"):
        path = _rsync(run, log, work, gate, checked)
    with _local(work, log, path) as server:
        yield server


class _Kept:
    """Contents that have been fetched, and commits that have been made."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript(
            "pragma synchronous = full;"
            "create table if not exists content (key blob primary key, oid text) without rowid;"
            "create table if not exists mode (path blob primary key, executable) without rowid;"
            "create table if not exists made (key blob primary key, oid text) without rowid;"
        )
        self.contents: dict[bytes, str] = dict(self._db.execute("select key, oid from content"))
        self.executable: dict[bytes, int] = dict(self._db.execute("select * from mode"))
        self.commits: dict[bytes, str] = dict(self._db.execute("select key, oid from made"))

    def close(self) -> None:
        self._db.close()

    def add_contents(self, oids: dict[bytes, str], executable: dict[bytes, int]) -> None:
        with self._transaction():
            self._db.executemany("insert or replace into content values (?, ?)", oids.items())
            self._db.executemany("insert or replace into mode values (?, ?)", executable.items())
        self.contents.update(oids)
        self.executable.update(executable)

    def add_commits(self, oids: dict[bytes, str]) -> None:
        with self._transaction():
            self._db.executemany("insert or replace into made values (?, ?)", oids.items())
        self.commits.update(oids)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")


@contextlib.contextmanager
def _kept(work: Workspace) -> Iterator[_Kept]:
    kept = _Kept(work.folder / "revisions.db")
    try:
        yield kept
    finally:
        kept.close()


@dataclass(slots=True)
class _Import:
    """One run in its workspace."""

    run: Run
    log: Log
    work: Workspace
    git: Git
    repository: Path
    kept: _Kept
    _folder: bytes = b""
    """Where in the repository the module is."""
    _left_out: list[str] = field(default_factory=list)
    _oids: list[str | None] = field(default_factory=list)

    @property
    def module(self) -> str:
        return (self.run.source.cvs_module or "").strip("/")

    def go(self, server: Conversation) -> Converted:
        """Fetch as much as there is time for, and write the commits that this gives."""
        history = self._read_log(server)
        more = self._fetch(server, history)
        self._write(history)
        tidy(self.work, self.git, self.repository)
        return self._converted(history, more)

    def _read_log(self, server: Conversation) -> History:
        """Find out what has happened at the server."""
        self.log(f"Reading the log of {self.module}.")
        root = server.root.encode("utf-8", "surrogateescape")
        files = []
        for file in parse(server.rlog(self.module), root):
            if _NOT_IN_GIT.isdisjoint(file.path.lower().split(b"/")):
                files.append(file)
            else:
                name = file.path.decode("utf-8", "replace")
                self._left_out.append(f"{name}: git has no such names")
        self._folder = _common_folder(self.module, [file.path for file in files])
        history = build(files)
        self.log(f"{len(files):,} files have {len(history.commits):,} commits.")
        return history

    def _fetch(self, server: Conversation, history: History) -> bool:
        """Fetch contents in the order of the commits. Returns whether there is more to fetch."""
        missing = self._missing(history)
        if not missing:
            return False
        names = [(each.path, ".".join(map(str, each.number))) for each in missing]
        pace = _Pace(self.log, len(missing))
        batch = _Batch()
        try:
            for revision, sent in zip(missing, server.files(names), strict=True):
                batch.add(revision, sent)
                pace.tell()
                if batch.is_full():
                    self._keep(batch)
                    batch = _Batch()
                    if pace.elapsed >= RUN_SECONDS:
                        return pace.done < len(missing)
        finally:
            self._keep(batch)  # Also of an answer that broke off.
        return False

    def _missing(self, history: History) -> list[Revision]:
        wanted: dict[bytes, Revision] = {}
        for commit in history.commits:
            for _, revision in commit.changes:
                if revision is not None:
                    wanted.setdefault(_content_key(revision), revision)
        return [each for key, each in wanted.items() if key not in self.kept.contents]

    def _keep(self, batch: _Batch) -> None:
        if batch.keys:
            oids = self._fast_import(batch.stream)
            contents = dict(zip(batch.keys, oids, strict=True))
            self.kept.add_contents(contents, batch.executable)

    def _write(self, history: History) -> None:
        """Write the commits that are new and have all their contents."""
        stream = _Stream(self.kept, self._folder)
        for commit in history.commits:
            stream.add(commit)
            if len(stream.new) == MOST_WRITTEN:
                self._flush(stream)
        self._flush(stream)
        made = self.kept.commits
        self._oids = [None if key is None else made[key] for key in stream.keys]

    def _flush(self, stream: _Stream) -> None:
        if stream.new:
            oids = self._fast_import(stream.take())
            self.kept.add_commits(dict(zip(stream.new, oids, strict=True)))
            stream.new.clear()

    def _fast_import(self, stream: bytes) -> list[str]:
        """Feed git, and return the object ids of the marks 1, 2, … when it has kept them."""
        marks = self.work.folder / "marks"
        marks.unlink(missing_ok=True)
        self.git(
            "-c", "fastimport.unpackLimit=1", "-c", "core.bigFileThreshold=1m", "fast-import",
            "--quiet", "--force", "--done", f"--export-marks={marks}",
            repository=self.repository, text=stream + b"done\n", keep_open=(self.work.fd,),
        )  # fmt: skip
        pairs = (line[1:].split(" ") for line in marks.read_text().split("\n") if line)
        found = {int(mark): oid for mark, oid in pairs}
        return [found[mark] for mark in range(1, len(found) + 1)]

    def _converted(self, history: History, more: bool) -> Converted:
        oids = self._oids
        trunk = TRUNK
        while trunk in history.branches:
            trunk += "_"
        found = {
            name: _last_written(tips, oids)
            for name, tips in [*history.branches.items(), (trunk, history.trunk)]
        }
        branches, unnamed = name_refs(BRANCHES, {k: oid for k, oid in found.items() if oid})
        tagged = {name: oids[commit] for name, commit in history.tags.items()}
        tags, unnamed_tags = name_refs(TAGS, {k: oid for k, oid in tagged.items() if oid})
        head = f"{BRANCHES}{trunk}"
        left_out = [*self._left_out, *history.left_out, *(f"{name}: git has no such names"
                                         for name in [*unnamed, *unnamed_tags])]  # fmt: skip
        count = sum(oid is not None for oid in oids)
        return Converted(
            self.repository,
            Refs({**branches, **tags}, head if head in branches else None),
            f"{count:,} of {len(oids):,} commits",
            more,
            left_out,
        )


def _last_written(tips: list[int], oids: list[str | None]) -> str | None:
    return next((oids[tip] for tip in reversed(tips) if oids[tip] is not None), None)


def _common_folder(module: str, paths: list[bytes]) -> bytes:
    """The folder that the tree begins with: the module, or where its files are if it is a name."""
    folder = module.encode("utf-8", "surrogateescape")
    if all(path.startswith(folder + b"/") for path in paths):
        return folder
    return posixpath.commonpath([posixpath.dirname(path) for path in paths])


class _Pace:
    """Says now and then how far a fetch has come."""

    def __init__(self, log: Log, total: int) -> None:
        self._log = log
        self._total = total
        self._started = time.monotonic()
        self._next = self._started + LINE_EVERY
        self.done = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def tell(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now >= self._next or self.done == self._total:
            self._next = now + LINE_EVERY
            share, rate = self.done / self._total, self.done / (now - self._started)
            self._log(
                f"Revision {self.done:,} of {self._total:,} ({share:.0%}), {rate:.0f} a second."
            )


class _Batch:
    """Contents that are kept together."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.executable: dict[bytes, int] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, revision: Revision, sent: Sent | None) -> None:
        if sent is None:
            number = ".".join(map(str, revision.number))
            path = revision.path.decode("utf-8", "replace")
            raise Ended("failure_remote_broken", f"The server has no revision {number} of {path}.")
        self.keys.append(_content_key(revision))
        self.executable[revision.path] = int(sent.executable)
        mark = len(self.keys)
        self._parts.append(b"blob\nmark :%d\ndata %d\n" % (mark, len(sent.content)))
        self._parts += [sent.content, b"\n"]
        self._size += len(sent.content)

    def is_full(self) -> bool:
        return len(self.keys) >= MOST_FETCHED or self._size >= MOST_BYTES

    @property
    def stream(self) -> bytes:
        return b"".join(self._parts)


class _Stream:
    """Commits on their way to git; those that it has already are passed over."""

    def __init__(self, kept: _Kept, folder: bytes) -> None:
        self._start = len(folder) + 1 if folder else 0
        self.keys: list[bytes | None] = []
        """Of each commit; None while something that it needs is not here."""
        self.new: list[bytes] = []
        self._kept = kept
        self._parts: list[bytes] = []
        self._marks: dict[bytes, int] = {}

    def add(self, commit: Commit) -> None:
        parent = None if commit.parent is None else self.keys[commit.parent]
        lines = self._changes(commit)
        if lines is None or (commit.parent is not None and parent is None):
            self.keys.append(None)
            return
        about = _about(commit)
        key = hashlib.sha256(b"%s\0%s\0%s" % (parent or b"", about, b"".join(lines))).digest()
        self.keys.append(key)
        if key in self._kept.commits or key in self._marks:
            return
        self.new.append(key)
        self._marks[key] = len(self.new)
        if parent is None:
            self._parts.append(b"reset %s\n" % _SCRATCH)
        self._parts.append(b"commit %s\nmark :%d\n%s" % (_SCRATCH, len(self.new), about))
        if parent is not None:
            self._parts.append(b"from %s\n" % self._name(parent))
        self._parts += [*lines, b"\n"]

    def take(self) -> bytes:
        """What there is for git now."""
        stream = b"".join(self._parts)
        self._parts.clear()
        self._marks.clear()
        return stream

    def _name(self, key: bytes) -> bytes:
        mark = self._marks.get(key)
        return self._kept.commits[key].encode() if mark is None else b":%d" % mark

    def _changes(self, commit: Commit) -> list[bytes] | None:
        """What goes, then what comes; None when a content is not here."""
        gone, new = [], []
        for path, revision in commit.changes:
            if revision is None:
                gone.append(b"D %s\n" % _quoted(path[self._start :]))
                continue
            oid = self._kept.contents.get(_content_key(revision))
            if oid is None:
                return None
            mode = b"100755" if self._kept.executable.get(path) else b"100644"
            new.append(b"M %s %s %s\n" % (mode, oid.encode(), _quoted(path[self._start :])))
        return gone + new


def _about(commit: Commit) -> bytes:
    person = re.sub(rb"[<>\0\r\n]", b"", _utf8(commit.author)) or b"nobody"
    log = _utf8(commit.log).replace(b"\0", b"")
    return b"committer %s <%s> %d +0000\ndata %d\n%s\n" % (
        person, person, commit.date, len(log), log,
    )  # fmt: skip


def _utf8(text: bytes) -> bytes:
    """As git takes text to be; what is not UTF-8 in a CVS repository mostly is Latin-1."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1").encode("utf-8")
    return text


def _quoted(path: bytes) -> bytes:
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % escaped


def _content_key(revision: Revision) -> bytes:
    """What says that a revision is the one that was fetched, and not another of its number."""
    number = ".".join(map(str, revision.number)).encode()
    parts = (revision.path, number, b"%d" % revision.date, revision.commit_id)
    return hashlib.sha1(b"\0".join(parts)).digest()


@contextlib.contextmanager
def _pserver(run: Run, log: Log, gate: Gate, root: Root) -> Iterator[Conversation]:
    """A conversation with the pserver at a root."""
    place = gate.forward(root.host, root.port)
    with socket.create_connection(place, SOCKET_TIMEOUT) as connection:
        with connection.makefile("rb") as incoming, connection.makefile("wb") as outgoing:
            server = Conversation(incoming, outgoing, root.path, log, ANSWER_SECONDS)
            is_for_it = run.login is not None and run.login.host in (
                root.host, f"{root.host}:{root.port}"
            )  # fmt: skip
            login = run.login if is_for_it else None
            user = root.user or (login.username if login else "") or ANONYMOUS
            server.log_in(user, login.password if login else "")
            server.start()
            yield server


@contextlib.contextmanager
def _local(work: Workspace, log: Log, path: str) -> Iterator[Conversation]:
    """A conversation about a repository on this machine, which nothing is written to."""
    env = closed_environment(work.home, CVSREADONLYFS="1", CVS_RSH="false", TMPDIR=str(work.home))
    argv = ["cvs", "-f", "-R", f"--allow-root={path}", "server"]
    with piped(argv, env=env, cwd=work.folder, keep_open=(work.fd,)) as (incoming, outgoing):
        server = Conversation(incoming, outgoing, path, log, ANSWER_SECONDS)
        server.start()
        yield server


def _rsync(run: Run, log: Log, work: Workspace, gate: Gate, checked: str) -> str:
    """Bring our copy of a module's files up to date, and return the repository that it is in."""
    parts = urlsplit(checked)
    host, port = gate.forward(parts.hostname or "", parts.port or DEFAULT_PORTS["rsync"])
    module = (run.source.cvs_module or "").strip("/")
    repository = work.folder / "rsync"
    place = repository / module
    place.mkdir(parents=True, exist_ok=True)
    (repository / "CVSROOT").mkdir(exist_ok=True)
    log(f"Fetching the files of {module}.")
    argv = [
        "rsync", "--recursive", "--times", "--perms", "--chmod=Du+rwx,Fu+rw", "--delete",
        "--delete-excluded", "--include=*/", "--include=*,v", "--exclude=*", "--no-motd",
        f"--timeout={SOCKET_TIMEOUT:.0f}", f"--contimeout={SOCKET_TIMEOUT:.0f}", "--",
        f"rsync://{host}:{port}{parts.path.rstrip('/')}/{module}/", f"{place}/",
    ]  # fmt: skip
    env = closed_environment(work.home)
    finished = run_logged(argv, env=env, cwd=work.folder, log=log, keep_open=(work.fd,))
    if finished.code == 24:  # Files have vanished while they were read: the next run has it right.
        log("Some files have vanished at the server meanwhile.")
    elif finished.code != 0:
        explain(ToolFailed("rsync", finished), RSYNC_CAUSES, gate)
    return str(repository)
