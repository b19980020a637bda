"""Read a Bazaar branch into a git repository: a program for whichever Python has breezy.

breezy is not ours to import, so ``bzr.py`` starts this file and talks with it. The first line of
the input is the request, the lines after it are answers; the output has questions, and at the end
what has been reached; all of them are JSON, one object a line. The log goes to stderr.

A step fetches some revisions into a repository of our own and converts them: git's objects first,
then, in one transaction, which commit each revision has become. Whatever kills a step between, the
next run takes it again, and comes to the same commits. Nothing about a commit depends on the steps.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
import zlib
from collections import OrderedDict
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import breezy
import breezy.bzr  # Registers Bazaar's own formats; no other plugin is ever loaded.
from breezy import config, controldir, errors, ui, urlutils
from breezy import transport as transports
from breezy.branch import Branch
from breezy.bzr import BzrProber, RemoteBzrProber
from breezy.revision import NULL_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SOCKET_TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as stalled."""
STEP_SECONDS = 20.0
"""A step should take about as long."""
MOST_IN_A_STEP = 10_000
AT_ONCE = 200
"""Revisions whose trees are looked at together."""
MOST_TREES = 2 * AT_ONCE
LINE_EVERY = 2.0
BYTES_A_LINE = 64 * 1024
MOST_REFERENCES = 10

SCRATCH = b"refs/import/tip"
EXECUTABLE, PLAIN, LINK = b"100755", b"100644", b"120000"
NOT_IN_GIT = {".git", ".", ".."}


class Ended(Exception):
    """The run is over, with this status and these words."""

    def __init__(self, status: str, summary: str) -> None:
        super().__init__(summary)
        self.status = status


class Moved(Exception):
    """The branch is elsewhere now."""


class Outdated(Exception):
    """What was converted is no longer what a conversion from the start would come to."""


def tell(line: str) -> None:
    """Say something to the log."""
    print(line, file=sys.stderr, flush=True)


def send(**message: Any) -> None:
    """Say something to whoever has started us."""
    print(json.dumps(message), flush=True)


# --- the branch, under the policy of whoever asks ------------------------------------------------


class Places:
    """Asks for each url whether it may be opened; the answer is the url to open in its stead."""

    def __init__(self) -> None:
        self._stands_for: dict[str, str] = {}

    def ask(self, url: str) -> str:
        """Return where a url is reached. Raises Ended when it must not be."""
        asked = self.in_words(url)
        send(ask=asked)
        answer = json.loads(sys.stdin.readline())
        if "refused" in answer:
            raise Ended("failure_forbidden", answer["refused"])
        place: str = answer["url"]
        self._stands_for[_server(place)] = _server(asked)
        return place

    def in_words(self, text: str) -> str:
        """Put back the servers that others stand for."""
        for here, there in self._stands_for.items():
            text = text.replace(f"{here}/", f"{there}/")
        return text

    def fallback(self, branch: Any, url: str) -> str:
        """Breezy's hook: where a stacked branch finds the revisions that it does not have."""
        place, _ = self._follow(urlutils.join(branch.base, url))
        return place

    def open(self, url: str) -> Any:
        """Open the branch at a url, following references as far as they are allowed."""
        _, directory = self._follow(url)
        return directory.open_branch()

    def _follow(self, url: str) -> tuple[str, Any]:
        for _ in range(MOST_REFERENCES):
            place = self.ask(url)
            try:
                directory = _open_directory(place)
            except errors.RedirectRequested as redirection:
                url = self._redirected(place, redirection)
                continue
            reference = directory.get_branch_reference()
            if reference is None:
                return place, directory
            url = reference
        raise Ended("failure_invalid", "The branch is a reference that leads on and on.")

    def _redirected(self, place: str, redirection: Any) -> str:
        """Where a server redirects to, if that is the same host. Raises Moved if it is not."""
        inside = redirection.source.removeprefix(place.rstrip("/"))
        there: str = redirection.target.removesuffix(inside)
        if there == redirection.target:
            raise Ended("failure_invalid", f"The server redirects to {there}, which is no branch.")
        self.ask(there)
        if not _is_same_host(place, there):
            raise Moved(there)
        tell(f"The server redirects to {there}, which this run uses.")
        return there


def _is_same_host(one: str, other: str) -> bool:
    old, new = urlsplit(one), urlsplit(other)
    if old.scheme == new.scheme:
        return old.netloc == new.netloc
    return old.hostname == new.hostname and (old.scheme, new.scheme) == ("http", "https")


def _server(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _open_directory(url: str) -> Any:
    """Open a control directory. No prober but Bazaar's own two is tried, and no redirection."""
    transport = transports.get_transport(url)
    for prober in (RemoteBzrProber, BzrProber):
        with contextlib.suppress(errors.NotBranchError):
            return prober.probe_transport(transport).open(transport)
    raise errors.NotBranchError(url)


class Quiet(ui.SilentUIFactory):  # type: ignore[misc]
    """Asks nobody anything, and says how a transfer goes."""

    def __init__(self) -> None:
        super().__init__()
        self._received = self._told = 0
        self._next = 0.0

    def report_transport_activity(self, transport: Any, byte_count: int, direction: str) -> None:
        if direction == "read":
            self._received += byte_count
        late = time.monotonic() >= self._next
        if late and self._received - self._told >= BYTES_A_LINE:
            self._told, self._next = self._received, time.monotonic() + LINE_EVERY
            tell(f"Received {self._received / 1e6:,.1f} MB.")

    def get_password(self, prompt: str = "", **kwargs: Any) -> None:
        return None


class OneLogin(config.CredentialStore):  # type: ignore[misc]
    """Knows the login for one host, and gives it for no other."""

    def __init__(self, login: dict[str, str] | None = None) -> None:
        self._login = login

    def get_credentials(
        self, scheme: str, host: str, port: int | None = None, *_: Any, **__: Any
    ) -> dict[str, Any] | None:
        login = self._login
        if login is None or login["host"] not in (host, f"{host}:{port}"):
            return None
        return {"user": login["username"], "password": login["password"],
                "verify_certificates": True}  # fmt: skip


# --- what is kept between runs -------------------------------------------------------------------


class Known:
    """Which commit each revision has become, and how far along the branch that is."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript(
            "pragma synchronous = full;"
            "create table if not exists revision (id blob primary key, oid text) without rowid;"
            "create table if not exists ghost (id blob primary key) without rowid;"
            "create table if not exists place (one integer primary key, number integer, id blob);"
            "create table if not exists pace (one integer primary key, revisions integer);"
        )
        self.oids: dict[bytes, str] = dict(self._db.execute("select id, oid from revision"))

    def ghosts(self) -> list[bytes]:
        return [row[0] for row in self._db.execute("select id from ghost")]

    def place(self) -> tuple[int, bytes]:
        found = self._db.execute("select number, id from place").fetchone()
        return found or (0, NULL_REVISION)

    def pace(self) -> int | None:
        """How many revisions the next step should take."""
        found = self._db.execute("select revisions from pace").fetchone()
        return found[0] if found else None

    def set_pace(self, revisions: int) -> None:
        self._db.execute("insert or replace into pace values (1, ?)", (revisions,))

    def add(self, oids: dict[bytes, str], ghosts: Iterable[bytes]) -> None:
        with self._transaction():
            self._db.executemany("insert or replace into revision values (?, ?)", oids.items())
            rows = ((ghost,) for ghost in ghosts)
            self._db.executemany("insert or ignore into ghost values (?)", rows)
        self.oids.update(oids)

    def reach(self, number: int, revision: bytes) -> None:
        self._db.execute("insert or replace into place values (1, ?, ?)", (number, revision))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")


def open_repository(folder: Path) -> Any:
    """Our own copy of the revisions; nobody else is at it, so locks are those of killed runs."""
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        directory = controldir.ControlDir.create(
            urlutils.local_path_to_url(str(folder)),
            format=controldir.format_registry.make_controldir("2a"),
        )
        directory.create_repository()
        (folder / "complete").touch()
    for litter in ("lock/held", "upload"):
        place = folder / ".bzr/repository" / litter
        shutil.rmtree(place, ignore_errors=True)
    (folder / ".bzr/repository/upload").mkdir()
    return controldir.ControlDir.open(urlutils.local_path_to_url(str(folder))).open_repository()


# --- from revisions to commits -------------------------------------------------------------------


class Text(NamedTuple):
    """A file's content, as breezy keeps it."""

    file_id: bytes
    revision: bytes


class Entry(NamedTuple):
    """A file or a link of a tree; ``link`` is where a link leads."""

    path: str
    mode: bytes
    text: Text | None
    link: str | None


class Delta(NamedTuple):
    """How a tree differs from the one before: what goes, then what comes or changes."""

    gone: list[str]
    new: list[Entry]


def compare(before: Any, tree: Any) -> Delta:
    """Find out how a tree differs from the one before; None before it: all of it is new."""
    if before is None:
        return Delta([], list(_below(tree, tree.root_inventory.root, "")))
    gone: list[str] = []
    new: list[Entry] = []
    inventory = tree.root_inventory
    for change in tree.iter_changes(before):
        (old_path, path), (old_kind, kind) = change.path, change.kind
        moved = old_kind == kind == "directory" and old_path != path
        was_file = old_kind in ("file", "symlink")
        if moved or (was_file and (old_path != path or kind not in ("file", "symlink"))):
            gone.append(old_path)
        if moved:
            new += _below(tree, inventory.get_entry(change.file_id), path)
        elif kind is not None and kind != "directory":
            new.append(_entry(inventory.get_entry(change.file_id), path))
    return Delta(gone, new)


def _below(tree: Any, directory: Any, path: str) -> Iterator[Entry]:
    for name, entry in directory.children.items():
        inside = f"{path}/{name}" if path else name
        if entry.kind == "directory":
            yield from _below(tree, entry, inside)
        else:
            yield _entry(entry, inside)


def _entry(entry: Any, path: str) -> Entry:
    if entry.kind == "file":
        text = Text(entry.file_id, entry.revision)
        return Entry(path, EXECUTABLE if entry.executable else PLAIN, text, None)
    if entry.kind == "symlink":
        return Entry(path, LINK, None, entry.symlink_target)
    what = "a nested tree" if entry.kind == "tree-reference" else f"a {entry.kind}"
    raise Ended("failure_unsupported_feature", f"git cannot hold {path}: it is {what}.")


class Writer:
    """Writes commits into a repository: a git fast-import whose end says that all is kept."""

    def __init__(self, command: list[str], marks: Path) -> None:
        marks.unlink(missing_ok=True)
        self._marks = marks
        self._tool = subprocess.Popen(
            [*command, "fast-import", "--quiet", "--force", "--done", f"--export-marks={marks}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self._tool.stdin is not None
        self._out: IO[bytes] = self._tool.stdin
        self.left_out: set[str] = set()
        self._count = 0
        self._texts: dict[Text, int] = {}
        self._revisions: dict[bytes, int] = {}

    def revision(self, revision: bytes, known: dict[bytes, str]) -> bytes | None:
        """What git calls a revision; None when it has no commit."""
        mark = self._revisions.get(revision)
        if mark is not None:
            return b":%d" % mark
        oid = known.get(revision)
        return oid.encode() if oid else None

    def missing(self, deltas: Iterable[Delta]) -> list[Text]:
        """The contents that git has not been given yet, each once."""
        wanted = {entry.text: None for delta in deltas for entry in delta.new if entry.text}
        return [text for text in wanted if text not in self._texts]

    def write_text(self, text: Text, content: bytes) -> None:
        self._texts[text] = self._mark()
        self._out.write(b"blob\nmark :%d\ndata %d\n" % (self._count, len(content)))
        self._out.write(content)
        self._out.write(b"\n")

    def write_commit(
        self, revision: Any, parents: list[bytes], delta: Delta, *, whole: bool
    ) -> None:
        """Write a commit. ``whole``: the delta is the whole tree, and not what has changed."""
        if not parents:
            self._out.write(b"reset %s\n" % SCRATCH)
        self._revisions[revision.revision_id] = self._mark()
        self._out.write(b"commit %s\nmark :%d\n" % (SCRATCH, self._count) + _about(revision))
        for word, parent in zip([b"from", *[b"merge"] * len(parents)], parents, strict=False):
            self._out.write(b"%s %s\n" % (word, parent))
        if whole:
            self._out.write(b"deleteall\n")
        for path in delta.gone:
            self._out.write(b"D %s\n" % quoted(path))
        for entry in delta.new:
            self._write_entry(entry)
        self._out.write(b"\n")

    def finish(self) -> dict[bytes, str]:
        """Make sure that git has kept it all, and return the commits."""
        self._out.write(b"done\n")
        self._out.close()
        if self._tool.wait():
            raise RuntimeError(f"git fast-import ended with {self._tool.returncode}")
        lines = self._marks.read_text().split("\n")
        oids = dict(line[1:].split(" ") for line in lines if line)
        return {revision: oids[str(mark)] for revision, mark in self._revisions.items()}

    def abandon(self) -> None:
        if self._tool.poll() is None:
            self._tool.kill()
            with contextlib.suppress(OSError):
                self._out.close()
            self._tool.wait()

    def _mark(self) -> int:
        self._count += 1
        return self._count

    def _write_entry(self, entry: Entry) -> None:
        if not NOT_IN_GIT.isdisjoint(entry.path.lower().split("/")):
            self.left_out.add(entry.path)
            return
        if entry.text is not None:
            mark = self._texts[entry.text]
            self._out.write(b"M %s :%d %s\n" % (entry.mode, mark, quoted(entry.path)))
        else:
            link = encoded(entry.link or "")
            head = b"M %s inline %s\ndata %d\n" % (entry.mode, quoted(entry.path), len(link))
            self._out.write(head + link + b"\n")


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def quoted(path: str) -> bytes:
    escaped = encoded(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % escaped


def _about(revision: Any) -> bytes:
    """The lines about a commit, which are those that brz itself writes when it pushes to git."""
    about = revision.properties
    encoding = about.get("git-explicit-encoding", "utf-8")
    try:
        texts = [text.encode(encoding) for text in _words(revision)]
    except (LookupError, UnicodeError):
        encoding = "utf-8"
        texts = [encoded(text) for text in _words(revision)]
    committer, author, message = texts
    zone = revision.timezone or 0
    authored = int(float(about.get("author-timestamp", revision.timestamp)))
    author_zone = int(about.get("author-timezone", zone))
    lines = [
        b"author %s %s" % (person(author), moment(authored, author_zone)),
        b"committer %s %s" % (person(committer), moment(int(revision.timestamp), zone)),
    ]
    if encoding != "utf-8":
        lines.append(b"encoding " + encoding.encode("ascii", "replace"))
    lines.append(b"data %d\n%s" % (len(message), message))
    return b"\n".join(lines) + b"\n"


def _words(revision: Any) -> tuple[str, str, str]:
    author = revision.get_apparent_authors()[0] or ""
    if "," in author and author.count(">") > 1:
        author = author.split(",")[0]
    return revision.committer or "", author, revision.message or ""


def person(text: bytes) -> bytes:
    """``Name <address>``; where there is no address, the name serves as one."""
    text = re.sub(rb"[\0\r\n]+", b" ", text)
    name, bracket, rest = text.partition(b"<")
    if not bracket:
        name = rest = text.replace(b">", b"")
    address = rest.partition(b">")[0].replace(b"<", b"")
    name = name.replace(b">", b"").removesuffix(b" ")
    return b"%s%s<%s>" % (name, b" " if name else b"", address)


def moment(seconds: int, zone: int) -> bytes:
    """A time as git writes it; git knows none before 1970."""
    minutes = abs(zone) // 60
    sign = b"-" if zone < 0 else b"+"
    return b"%d %s%02d%02d" % (max(seconds, 0), sign, *divmod(minutes, 60))


class Conversion:
    """Makes commits of the revisions of our own repository."""

    def __init__(self, repository: Any, known: Known, git: list[str], marks: Path) -> None:
        self._repository = repository
        self._known = known
        self._git = git
        self._marks = marks
        self._trees: OrderedDict[bytes, Any] = OrderedDict()
        self.left_out: set[str] = set()

    def convert(self, tip: bytes, told: Callable[[int, int], None]) -> None:
        """Convert a revision and all before it. ``told`` gets how many of how many are done."""
        with self._repository.lock_read():
            todo, ghosts = self._unconverted(tip)
            writer = Writer(self._git, self._marks)
            try:
                done = 0
                for revisions in batches(todo, AT_ONCE):
                    self._convert(writer, revisions)
                    done += len(revisions)
                    told(done, len(todo))
                oids = writer.finish()
            finally:
                writer.abandon()
        self._known.add(oids, ghosts)
        self.left_out |= writer.left_out

    def _unconverted(self, tip: bytes) -> tuple[list[bytes], set[bytes]]:
        graph = self._repository.get_graph()
        missing: set[bytes] = set()
        ghosts: set[bytes] = set()
        wanted = {tip}
        while wanted:
            parents = graph.get_parent_map(wanted)
            ghosts.update(wanted - parents.keys())
            missing.update(parents)
            found = {parent for ids in parents.values() for parent in ids}
            wanted = found - missing - ghosts - self._known.oids.keys() - {NULL_REVISION}
        if tip in ghosts:
            raise Ended("failure_remote_broken", "The branch names a revision that is not there.")
        return list(graph.iter_topo_order(missing)), ghosts

    def _convert(self, writer: Writer, revisions: list[bytes]) -> None:
        about = self._repository.get_revisions(revisions)
        bases = [self._base(revision) for revision in about]
        trees = self._load({*revisions, *(base for base in bases if base is not None)})
        deltas = [
            compare(None if base is None else trees[base], trees[revision.revision_id])
            for revision, base in zip(about, bases, strict=True)
        ]
        wanted = [(*text, text) for text in writer.missing(deltas)]
        for text, chunks in self._repository.iter_files_bytes(wanted):
            writer.write_text(text, b"".join(chunks))
        for revision, base, delta in zip(about, bases, deltas, strict=True):
            named = (writer.revision(each, self._known.oids) for each in revision.parent_ids)
            parents = [parent for parent in named if parent is not None]
            writer.write_commit(revision, parents, delta, whole=base is None)

    def _base(self, revision: Any) -> bytes | None:
        """The revision whose tree the commit's first parent has; None when that is a ghost's."""
        first: bytes | None = next(iter(revision.parent_ids), None)
        if first is None or first == NULL_REVISION or not self._repository.has_revision(first):
            return None
        return first

    def _load(self, revisions: set[bytes]) -> dict[bytes, Any]:
        missing = [revision for revision in revisions if revision not in self._trees]
        for tree in self._repository.revision_trees(missing):
            self._trees[tree.get_revision_id()] = tree
        loaded = {revision: self._trees[revision] for revision in revisions}
        for revision in revisions:
            self._trees.move_to_end(revision)
        while len(self._trees) > MOST_TREES:
            self._trees.popitem(last=False)
        return loaded


def batches(items: list[bytes], size: int) -> Iterator[list[bytes]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


# --- a run ---------------------------------------------------------------------------------------


class Reader:
    """Brings what is known of a branch up to date, step by step, as long as there is time."""

    def __init__(self, request: dict[str, Any], branch: Any) -> None:
        folder = Path(request["folder"])
        self._branch = branch
        self._ends_at = time.monotonic() + request["seconds"]
        self._known = Known(folder / "revisions.db")
        self._size = self._known.pace() or request["step"]
        self._repository = open_repository(folder / "bazaar")
        self._conversion = Conversion(
            self._repository, self._known, request["git"], folder / "marks"
        )
        self._started = time.monotonic()
        self._converted = 0

    def read(self) -> dict[str, Any]:
        """Go on, and return what there is to publish."""
        length, tip = self._branch.last_revision_info()
        tags = self._branch.tags.get_tag_dict() if self._branch.supports_tags() else {}
        if length and tip not in self._known.oids:
            self._check_ghosts()
        place, revision = self._start(length)
        while place < length:
            place, revision = self._step(place, length, tip)
            if time.monotonic() >= self._ends_at:
                break
        more = place < length
        if not more:
            self._read_tags(tags)
        oids = self._known.oids
        absent = sorted(name for name, tagged in tags.items() if tagged not in oids)
        return {
            "tip": oids.get(revision),
            "tags": {name: oids[tagged] for name, tagged in tags.items() if tagged in oids},
            "absent": [] if more else absent,
            "left_out": sorted(self._conversion.left_out),
            "number": place,
            "length": length,
        }

    def _check_ghosts(self) -> None:
        """A revision that was not there has come: those after it are other commits with it."""
        ghosts = self._known.ghosts()
        if ghosts and self._branch.repository.get_graph().get_parent_map(ghosts):
            raise Outdated

    def _start(self, length: int) -> tuple[int, bytes]:
        """How far the branch is as it was; nought when it has been rewritten: steps are quick
        where revisions are known."""
        place, revision = self._known.place()
        if 0 < place <= length and self._branch.get_rev_id(place) == revision:
            return place, revision
        return 0, NULL_REVISION

    def _step(self, place: int, length: int, tip: bytes) -> tuple[int, bytes]:
        began = time.monotonic()
        number = min(place + self._size, length)
        revision = tip if number == length else self._branch.get_rev_id(number)
        if revision not in self._known.oids:
            smaller = max(self._size // 2, 1)
            self._known.set_pace(smaller)  # Should this step never end, the next is a smaller one.
            self._take(revision, place, number, length)
            took = time.monotonic() - began
            if took < STEP_SECONDS / 2:
                self._size = min(self._size * 2, MOST_IN_A_STEP)
            elif took > STEP_SECONDS * 2:
                self._size = smaller
            self._known.set_pace(self._size)
        self._known.reach(number, revision)
        return number, revision

    def _take(self, revision: bytes, place: int, number: int, length: int) -> None:
        tell(f"Fetching up to revision {number:,} of {length:,}.")
        self._repository.fetch(self._branch.repository, revision_id=revision)
        next_line = time.monotonic() + LINE_EVERY
        before = self._converted

        def told(done: int, todo: int) -> None:
            nonlocal next_line
            self._converted = before + done
            if time.monotonic() >= next_line or done == todo:
                next_line = time.monotonic() + LINE_EVERY
                at = place + (number - place) * done / todo
                rate = self._converted / (time.monotonic() - self._started)
                tell(f"Revision {at:,.0f} of {length:,} ({at / length:.0%}), {rate:.0f} a second.")

        self._conversion.convert(revision, told)

    def _read_tags(self, tags: dict[str, bytes]) -> None:
        """Tags may stand beside the branch, on revisions that are in its repository only."""
        beside = set(tags.values()) - self._known.oids.keys() - {NULL_REVISION}
        there = self._branch.repository.get_graph().get_parent_map(beside) if beside else {}
        for revision in sorted(there):
            self._repository.fetch(self._branch.repository, revision_id=revision)
            self._conversion.convert(revision, lambda _done, _todo: None)


def main() -> None:
    """Do what the request says."""
    request = json.loads(sys.stdin.readline())
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    with breezy.initialize(setup_ui=False):
        ui.ui_factory = Quiet()
        login = OneLogin(request["login"])
        config.credential_store_registry.register(
            "one-login", lambda: login, help="of this run", fallback=True
        )
        places = Places()
        Branch.hooks.install_named_hook("transform_fallback_location", places.fallback, "policy")
        try:
            send(**_run(request, places))
        except Moved as moved:
            send(moved=str(moved))
        except Exception as error:  # noqa: BLE001  Each kind of error has its meaning.
            status, summary = explain(error)
            if not isinstance(error, (Ended, errors.BzrError, OSError)):
                traceback.print_exc()
            send(status=status, summary=places.in_words(summary))


def _run(request: dict[str, Any], places: Places) -> dict[str, Any]:
    branch = places.open(request["url"])
    with branch.lock_read():
        try:
            return Reader(request, branch).read()
        except Outdated:
            return {"outdated": True}


STATUSES: list[tuple[tuple[type[BaseException], ...], str, str]] = [
    ((errors.RedirectRequested, errors.TooManyRedirections), "failure_invalid",
     "The server redirects, which is not followed: use the address that it redirects to"),
    ((errors.NotBranchError, errors.NoRepositoryPresent, controldir.NoColocatedBranchSupport,
      urlutils.InvalidURL, urlutils.InvalidURLJoin), "failure_invalid",
     "There is no Bazaar branch at this address"),
    ((errors.IncompatibleRepositories,), "failure_unsupported_feature",
     "The branch has features that git cannot hold"),
    ((errors.UnsupportedFormatError, errors.UnknownFormatError, errors.IncompatibleFormat,
      errors.IncompatibleVersion),
     "failure_unsupported_feature", "The branch has a format that cannot be read"),
    ((errors.PermissionDenied,), "failure_invalid", "The server refuses access"),
    ((errors.ConnectionTimeout, TimeoutError), "failure", "The server has stalled"),
    ((errors.ConnectionError, errors.ConnectionReset, errors.SmartProtocolError, EOFError,
      ConnectionError), "failure", "The connection broke"),
    ((MemoryError,), "internal_failure", "The worker's machine is in trouble"),
    ((errors.NoSuchRevision, errors.RevisionNotPresent, errors.VersionedFileError,
      errors.ShortReadvError, errors.BzrCheckError, transports.NoSuchFile,
      zlib.error, ValueError, LookupError, AssertionError), "failure_remote_broken",
     "The branch is damaged"),
]  # fmt: skip
"""What errors mean; the first line that fits counts. Anything else of breezy's is a ``failure``."""


def explain(error: Exception) -> tuple[str, str]:
    """The status that an error stands for, and words for it."""
    if isinstance(error, Ended):
        return error.status, str(error)
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, errors.UnexpectedHttpStatus):
        return _explain_http(error.code)
    for kinds, status, meaning in STATUSES:
        if isinstance(error, kinds):
            return status, f"{meaning}. ({said})"
    if type(error).__module__.startswith("breezy.bzr."):  # Its storage: indexes, packs, texts.
        return "failure_remote_broken", f"The branch is damaged. ({said})"
    if isinstance(error, errors.BzrError):
        return "failure", f"The branch could not be read. ({said})"
    return "internal_failure", f"The conversion failed. ({said})"


def _explain_http(code: int) -> tuple[str, str]:
    if code in (401, 407):
        return "failure_invalid", "The server asks for a login, or refuses the one that it got."
    if code == 429 or code >= 500:
        return "failure", f"The server is in trouble (status {code})."
    return "failure_invalid", f"The server refuses the request (status {code})."


if __name__ == "__main__":
    os.environ.setdefault("BRZ_LOG", os.devnull)
    main()
