"""Mercurial: mirror a repository, its named branches, bookmarks and tags.

A local clone in the workspace follows the source; what it has gained is read through hg's command
server and written by git's fast-import, some changesets at a time. What becomes of names:

- a named branch keeps its name (``default`` too), a bookmark and a tag as well; a bookmark whose
  name a branch has is ``bookmarks/NAME``
- where a branch has several open heads, the newest has its name, and each other one is
  ``heads/NAME/`` and twelve digits of its changeset
- HEAD is the bookmark ``@``, else ``default``
- closed heads that nothing has merged are left out, and said to be
- what git refuses in a name is written as in a url, and a name that would be in another's way is
  left out, and said to be

While there is more to come, a name stands at the first of its first parents that is converted.
Subrepositories are not followed. Commits are made of the changesets alone, so that they are the
same wherever and however often a conversion goes on.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from code_import.credentials import places
from code_import.mirror import Store
from code_import.policy import DEFAULT_PORTS, Forbidden
from code_import.refs import BRANCHES, TAGS, Refs

from .converted import Converted, convert, own_repository, tidy
from .gate import Gate
from .gittool import Git
from .hgexport import Export
from .hgtool import PROBE_TIMEOUT, Hg
from .http_probe import HG, MOST_HOPS, NoAnswer, follow
from .process import ToolFailed, ToolTooSlow
from .refnames import name_refs
from .update import Cause, Ended, conclude, explain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from code_import.importers import Login, Outcome, Run
    from code_import.mirror import Workspace

    from .hgtool import Server
    from .update import Log

RUN_SECONDS = 300.0
"""After so many seconds a run ends with what it has, and the next one goes on."""
WINDOW = 200
"""Changesets after which what has been converted is made sure of."""

_BROKEN = re.compile(r"^\s|[\r\n\0]|\s$")
"""What a line of hg's configuration cannot hold."""
_INEXPRESSIBLE = re.compile(rf"{_BROKEN.pattern}|^~|\$")
"""The same of a username, in which hg also puts home directories and variables."""

_REAL_URL = re.compile(r"^real URL is (\S+)$", re.MULTILINE)

_PARENT = "{node} {p1.node}\\n"
_ROW = 'dict(rev=rev, node=node, branch=branch, closed=get(extras, "close"))'

CAUSES = (
    Cause(
        r"requires features unknown|requires support for|lfs|largefiles",
        "failure_unsupported_feature",
        "the source needs an extension that is not used here",
    ),
    Cause(r"repository is unrelated", "failure_remote_broken",
          "another repository is at this address"),
    Cause(r"authorization required|HTTP Error 401|HTTP Error 403|authorization failed",
          "failure_invalid", "the server asks for a login, or refuses the one that it gets"),
    Cause(r"HTTP Error 410", "failure_invalid", "the repository is gone for good"),
    Cause(r"HTTP Error 429", "failure", "the server wants fewer requests"),
    Cause(r"HTTP Error 5\d\d", "failure", "the server is in trouble"),
    Cause(r"HTTP Error 3\d\d|real URL is", "failure_invalid",
          "the server redirects: use the address that it redirects to"),
    Cause(r"HTTP Error 4\d\d|repository .* not found|does not appear to be an hg repository",
          "failure_invalid", "there is no Mercurial repository at this address"),
    Cause(r"certificate", "failure_invalid", "the server's certificate is not trusted"),
    Cause(r"No space left on device|[Oo]ut of memory|Read-only file system", "internal_failure",
          "the worker's machine is in trouble", by_source=False),
    Cause(r"integrity check failed|data/.*no match found|stream ended unexpectedly|unknown parent"
          r"|corrupt|00changelog|invalid chunk|revlog|decompress|premature EOF|unexpected response",
          "failure_remote_broken", "the source is damaged, or what it sent was cut off"),
    Cause(r"timed out", "failure", "the server has stalled"),
    Cause(r"[Cc]onnection (?:refused|reset)|error: |Name or service not known",
          "failure", "the connection broke, or there is none"),
)  # fmt: skip
"""What hg's complaints mean (LC_ALL=C), the first match counts. Anything else is a ``failure``."""


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """
    return conclude(run, lambda run, log: convert(run, log, _convert))


def missing_tools() -> str | None:
    """None when hg and git are here; else one line that names what to install."""
    missing = [name for name in ("hg", "git") if shutil.which(name) is None]
    packages = ["mercurial" if name == "hg" else name for name in missing]
    return f"not installed: Debian's {' and '.join(packages)}" if packages else None


def _convert(run: Run, log: Log, work: Workspace) -> Converted:
    url = run.policy.check(run.source)
    for _ in range(MOST_HOPS):
        with Gate(run.policy, log, _place(url)) as gate:
            try:
                with Hg.configured(work, log, gate, url, _login_for(run)) as hg:
                    conversion = _Conversion(run, log, work, hg, url)
                    conversion.pull()
                    return conversion.go_or_begin_anew()
            except ToolFailed as failed:
                if gate.strayed is None:
                    explain(failed, CAUSES, gate)
            except ToolTooSlow:
                raise Ended("failure", "The server has stalled.") from None
        url = _follow(run, log, url, gate.strayed or "")
    raise Ended("failure_invalid", "The server redirects too often.")


def _place(url: str) -> tuple[str, int] | None:
    """The host and the port of a url that has them."""
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    return parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]


def _follow(run: Run, log: Log, url: str, elsewhere: str) -> str:
    """Where the server redirects to, which hg was not let to. Ends the run for another host."""
    try:
        with Gate(run.policy, log) as gate:
            moved = follow(url, run.policy, gate, HG)
    except Forbidden as refusal:
        raise Ended(
            "failure_forbidden", f"The server redirects to where nothing is fetched: {refusal}"
        ) from None
    except NoAnswer:
        moved = None
    if moved is None:
        raise Ended("failure_invalid", f"The server redirects to another host, {elsewhere}.")
    if not moved.same_host:
        raise Ended(
            "failure_invalid",
            f"The repository has moved to {moved.url}. To import it from there:"
            f" code-import import set-url {run.target} {shlex.quote(moved.url)}",
        )
    log(f"The server redirects to {moved.url}, which this run uses.")
    return moved.url


def _login_for(run: Run) -> Login | None:
    """The login of the run, if it is for its source's host."""
    login = run.login
    if login is None or login.host not in places(run.source):
        return None
    if _INEXPRESSIBLE.search(login.username) or _BROKEN.search(login.password):
        raise Ended("failure_invalid", "Mercurial cannot be told such a login.")
    return login


@dataclass(slots=True)
class _Conversion:
    """A conversion on its way. ``known`` is what is remembered of it: the number of changesets of
    the clone that are done, what they have that git cannot have, and whether the last run could
    not go on."""

    run: Run
    log: Log
    work: Workspace
    hg: Hg
    url: str
    known: dict[str, Any] = field(default_factory=dict)
    bookmarks: dict[str, str] = field(default_factory=dict)
    length: int = 0
    """The number of changesets of the clone."""

    @property
    def clone(self) -> Path:
        return self.work.folder / "clone"

    @property
    def git(self) -> Git:
        return Git(Store(self.run.store), "file")

    # The source

    def _ask(self) -> dict[str, str]:
        """The bookmarks of the source: its own, not those that the clone remembers.

        That is the first that is asked, so it also shows where the source is.
        """
        told = self.hg("debugpushkey", "--", self.url, "bookmarks", timeout=PROBE_TIMEOUT)
        for there in _REAL_URL.findall(told.err):
            self.log(f"The server redirects to {there}, which this run uses.")
        pairs = (line.split("\t") for line in told.out.decode("latin-1").split("\n"))
        return {_unescaped(pair[0]): pair[1] for pair in pairs if len(pair) == 2}

    # The clone

    def pull(self) -> None:
        """Bring the clone up to date, and make it have no more than the source has."""
        own_repository(self.work, self.git)
        self.known = self.work.recall()
        if not (self.clone / ".hg/store").is_dir():
            shutil.rmtree(self.clone, ignore_errors=True)
            self.hg("init", str(self.clone))
            self._remember(done=0, left_out=[])
        self._clear_litter()
        self.bookmarks = self._ask()
        self.log(f"Pulling from {self.run.source.url}.")
        try:
            self.hg.logged("-R", str(self.clone), "pull", "--", self.url)
        except ToolFailed:
            self._check_clone()
            raise
        gone = self._gone()
        if gone:
            self._leave_out(gone)
        self.length = self._count()
        self._check_there_is_something()

    def _check_clone(self) -> None:
        """See to it that a source is not blamed for a clone that cannot be read."""
        try:
            self.hg("-R", str(self.clone), "log", "-l", "9", "-T", "{user}{files}")
        except ToolFailed as failed:
            self._begin_anew(failed)

    def _count(self) -> int:
        told = self.hg("-R", str(self.clone), "log", "-r", "tip", "-T", "{rev}").out
        return int(told or b"-1") + 1

    def _begin_anew(self, failed: ToolFailed) -> NoReturn:
        self.work.clear()
        raise Ended(
            "internal_failure",
            f"The workspace was damaged: the next run converts anew. ({failed})",
        ) from None

    def _clear_litter(self) -> None:
        """Remove the locks of killed tools, and undo what they had begun."""
        for lock in (".hg/store/lock", ".hg/wlock"):
            (self.clone / lock).unlink(missing_ok=True)
        if (self.clone / ".hg/store/journal").exists():
            self.hg("-R", str(self.clone), "recover", "--no-verify")

    def _gone(self) -> list[str]:
        """The changesets that the clone has and the source has no more."""
        with self.hg.serve(self.clone) as server:
            said = server("outgoing", "-q", "-T", "{node}\n", "--", self.url, codes=(0, 1)).decode()
        return said.split()

    def _leave_out(self, gone: list[str]) -> None:
        """Make the clone anew without what was stripped from the source."""
        new = self.work.folder / "clone.new"
        shutil.rmtree(new, ignore_errors=True)
        with self.hg.serve(self.clone) as server:
            heads = server.rows(f"heads(all() - ({'+'.join(gone)}))", "dict(node=node)")
        if not heads:
            raise Ended(
                "failure_remote_broken",
                "The source has no changesets any more. The mirror keeps what it has.",
            )
        revisions = itertools.chain.from_iterable(("-r", row["node"]) for row in heads)
        self.log(f"{len(gone)} changesets have gone from the source.")
        self.hg("clone", "--noupdate", "--pull", *revisions, "--", str(self.clone), str(new))
        self._remember(done=0)
        shutil.rmtree(self.clone)
        new.rename(self.clone)

    # The conversion

    def go_or_begin_anew(self) -> Converted:
        """Convert for a while; a conversion that its own tools cannot go on with, twice, is none.

        All of it happens on this machine. Once may have been for want of room.
        """
        try:
            converted = self._go()
        except ToolFailed as failed:
            if self.known.get("failed"):
                self._begin_anew(failed)
            self._remember(failed=True)
            raise Ended("internal_failure", str(failed)) from None
        self._remember(failed=False)
        return converted

    def _go(self) -> Converted:
        repository = self.work.folder / "converted.git"
        length = self.length
        with self.hg.serve(self.clone) as server:
            with Export.opened(self.git, self.work, repository, server) as export:
                done = self._go_on(export, length)
                refs, left_out = self._refs(server, _Reached.after(done, length, server, export))
        left_out += [f"{path}: git has no such names" for path in self.known.get("left_out", [])]
        tidy(self.work, self.git, repository)
        return Converted(
            repository, refs, f"{done:,} of {length:,} changesets", done < length, left_out
        )

    def _check_there_is_something(self) -> None:
        """An empty page looks like an empty repository: hg takes it for one that is read without
        a server of its own, and that none of its commands can tell from one."""
        if self.length == 0:
            told = self.hg("identify", "--debug", "--id", "--", self.url, timeout=PROBE_TIMEOUT).out
            if b"falling back to static-http" in told:
                raise Ended(
                    "failure_invalid",
                    "The address answers, but there is no Mercurial repository behind it.",
                )

    def _go_on(self, export: Export, length: int) -> int:
        done: int = self.known.get("done", 0)
        start, begun = time.monotonic(), done
        while done < length:
            last = min(done + WINDOW, length)
            export.write(done, last - 1)
            done = last
            left_out = sorted({*self.known.get("left_out", []), *export.left_out})
            self._remember(done=done, left_out=left_out)
            pace = (done - begun) / max(time.monotonic() - start, 0.001)
            self.log(
                f"Changeset {done:,} of {length:,} ({done * 100 // length}%), {pace:.0f} a second."
            )
            if time.monotonic() - start > RUN_SECONDS:
                break
        return done

    def _remember(self, **known: Any) -> None:
        self.known = {**self.known, **known}
        self.work.remember(self.known)

    # The refs

    def _refs(self, server: Server, reached: _Reached) -> tuple[Refs, list[str]]:
        """The names that all of the clone has, as far as they are reached."""
        branches, more, left_out = self._branches(server)
        for name, node in self.bookmarks.items():
            more[f"bookmarks/{name}" if name in branches else name] = node
        heads = {name: reached.near(node) for name, node in {**more, **branches}.items()}
        tags = {name: reached.at(node) for name, node in self._tags(server).items()}
        named, unnamed = name_refs(BRANCHES, heads)
        tagged, untagged = name_refs(TAGS, tags)
        left_out += [f"the branch {name}: git cannot have it beside the others" for name in unnamed]
        left_out += [f"the tag {name}: git cannot have it beside the others" for name in untagged]
        values = {name: value for name, value in {**named, **tagged}.items() if value}
        heads_first = (f"{BRANCHES}@", f"{BRANCHES}default", *named)
        return Refs(values, next((name for name in heads_first if name in values), None)), left_out

    def _branches(self, server: Server) -> tuple[dict[str, str], dict[str, str], list[str]]:
        """The changesets of the branches, of their other heads, and the heads that are closed."""
        branches, more, left_out = {}, {}, []
        merged = {row["node"] for row in server.rows("head() - heads(all())", _ROW)}
        for row in reversed(server.rows("head()", _ROW)):
            name, node = row["branch"], row["node"]
            if row["closed"]:
                if node not in merged:
                    left_out.append(f"a closed head of {name}: {node[:12]}")
            elif name in branches:
                more[f"heads/{name}/{node[:12]}"] = node
            else:
                branches[name] = node
        return branches, more, left_out

    def _tags(self, server: Server) -> dict[str, str]:
        rows = json.loads(server("tags", "-T", "json"))
        return {row["tag"]: row["node"] for row in rows if row["tag"] != "tip"}


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far a conversion has come. What it has not reached yet stands at what it has reached of
    its first parents: from there it goes on, and nothing that was published is taken back."""

    commits: Mapping[str, str]
    below: Mapping[str, str]

    @classmethod
    def after(cls, done: int, length: int, server: Server, export: Export) -> _Reached:
        """What is reached when so many changesets are done."""
        commits, below = export.commits, dict[str, str]()
        left = server("log", "-r", f"{done}:tip", "-T", _PARENT) if done < length else b""
        for line in left.splitlines():
            node, parent = line.decode().split(" ")
            if found := commits.get(parent) or below.get(parent):
                below[node] = found
        return cls(commits, below)

    def at(self, node: str) -> str:
        """The commit of a changeset, empty when it is not reached."""
        return self.commits.get(node, "")

    def near(self, node: str) -> str:
        """The commit of a changeset, or of the first one below it that is reached."""
        return self.commits.get(node) or self.below.get(node, "")


def _unescaped(name: str) -> str:
    """A name as it is, from hg's way to print it."""
    return (
        name.encode("latin-1").decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
    )
