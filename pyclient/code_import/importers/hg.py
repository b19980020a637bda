"""Mercurial: mirror a repository, its named branches, bookmarks and tags.

A local clone in the workspace follows the source; what it has gained is read through hg's command
server and written by git's fast-import, some changesets at a time. What becomes of names:

- a named branch keeps its name (``default`` too), a bookmark and a tag as well; a bookmark whose
  name a branch has is ``bookmarks/NAME``
- where a branch has several open heads, the newest has its name, and each other one is
  ``heads/NAME/`` and twelve digits of its changeset
- HEAD is the bookmark ``@``, else ``default``
- closed heads that nothing has merged are left out, and said to be

Subrepositories are not followed. Commits are made of the changesets alone, so that they are the
same wherever and however often a conversion goes on.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from code_import.mirror import Store
from code_import.refs import BRANCHES, TAGS, Refs

from .converted import Converted, convert, own_repository, tidy
from .gate import Gate
from .gittool import Git
from .hgexport import Export
from .hgtool import NULL, PROBE_TIMEOUT, Hg
from .process import ToolFailed, ToolTooSlow
from .refnames import name_refs
from .update import Cause, Ended, conclude, explain

if TYPE_CHECKING:
    from pathlib import Path

    from code_import.importers import Outcome, Run
    from code_import.mirror import Workspace

    from .hgtool import Server
    from .update import Log

RUN_SECONDS = 300.0
"""After so many seconds a run ends with what it has, and the next one goes on."""
WINDOW = 200
"""Changesets after which what has been converted is made sure of."""

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
    Cause(r"timed out|[Cc]onnection (?:refused|reset)|error: |Name or service not known",
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
    if run.login is not None and re.search(r"[\r\n]", run.login.username + run.login.password):
        raise Ended("failure_invalid", "Mercurial takes no login with a line break.")
    with Gate(run.policy, log) as gate, Hg.configured(work, log, gate, run.login) as hg:
        try:
            conversion = _Conversion(run, log, work, hg, url)
            conversion.pull()
            return conversion.go()
        except ToolFailed as failed:
            explain(failed, CAUSES, gate)
        except ToolTooSlow:
            raise Ended("failure", "The server has stalled.") from None


@dataclass(slots=True)
class _Conversion:
    """A conversion on its way. ``known`` is what is remembered of it: the number of changesets of
    the clone that are done, and the refs that were published."""

    run: Run
    log: Log
    work: Workspace
    hg: Hg
    url: str
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        return self.work.folder / "clone"

    @property
    def git(self) -> Git:
        return Git(Store(self.run.store), "file")

    # The clone

    def pull(self) -> None:
        """Bring the clone up to date, and make it have no more than the source has."""
        own_repository(self.work, self.git)
        self.known = self.work.recall()
        if not (self.clone / ".hg/store").is_dir():
            shutil.rmtree(self.clone, ignore_errors=True)
            self.hg("init", str(self.clone))
            self._remember(done=0)
        self._clear_litter()
        self.log(f"Pulling from {self.run.source.url}.")
        self.hg.logged("-R", str(self.clone), "pull", "--", self.url)
        gone = self._gone()
        if gone:
            self._leave_out(gone)

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

    def go(self) -> Converted:
        """Convert for a while, and return what has come of it."""
        repository = self.work.folder / "converted.git"
        bookmarks = self._bookmarks()
        with self.hg.serve(self.clone) as server:
            length = int(server("log", "-r", "tip", "-T", "{rev}") or b"-1") + 1
            self._check_there_is_something(length)
            with Export.opened(self.git, self.work, repository, server) as export:
                done = self._go_on(export, length)
                if done < length:
                    refs, left_out = self._refs_so_far(export), list[str]()
                else:
                    refs, left_out = self._refs(server, export, bookmarks)
                left_out += export.left_out
        self._remember(refs=dict(refs.values), head=refs.head)
        tidy(self.work, self.git, repository)
        return Converted(
            repository, refs, f"{done:,} of {length:,} changesets", done < length, left_out
        )

    def _check_there_is_something(self, length: int) -> None:
        """An empty page looks like an empty repository: hg takes it for one that is read without
        a server of its own, and that none of its commands can tell from one."""
        if length == 0:
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
            self._remember(done=done)
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

    def _bookmarks(self) -> dict[str, str]:
        """The bookmarks of the source: its own, not those that the clone remembers."""
        listed = self.hg("debugpushkey", "--", self.url, "bookmarks", timeout=PROBE_TIMEOUT).out
        pairs = (line.split("\t") for line in listed.decode("utf-8", "replace").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def _refs_so_far(self, export: Export) -> Refs:
        """What can be said before all is there: the newest of each branch that has gained."""
        values = dict(self.known.get("refs", {}))
        named, _ = name_refs(BRANCHES, export.newest)
        for name, value in named.items():
            parts = [*values, name]
            if not any(
                other != name and (other.startswith(f"{name}/") or name.startswith(f"{other}/"))
                for other in parts
            ):
                values[name] = value
        head = self.known.get("head") or f"{BRANCHES}default"
        return Refs(values, head if head in values else None)

    def _refs(
        self, server: Server, export: Export, bookmarks: dict[str, str]
    ) -> tuple[Refs, list[str]]:
        branches, more, left_out = self._branches(server, export)
        for name, node in bookmarks.items():
            if node in export.commits:
                place = f"bookmarks/{name}" if name in branches else name
                more[place] = export.commits[node]
        named, unnamed = name_refs(BRANCHES, {**more, **branches})
        tags, untagged = name_refs(TAGS, self._tags(server, export))
        left_out += [f"the branch {name}: git cannot have it beside the others" for name in unnamed]
        left_out += [f"the tag {name}: git cannot have it beside the others" for name in untagged]
        heads = (f"{BRANCHES}@", f"{BRANCHES}default", *named)
        head = next((name for name in heads if name in named), None)
        return Refs({**named, **tags}, head), left_out

    def _branches(
        self, server: Server, export: Export
    ) -> tuple[dict[str, str], dict[str, str], list[str]]:
        """The commits of the branches, of their other heads, and the heads that are closed."""
        branches, more, left_out = {}, {}, []
        merged = {row["node"] for row in server.rows("head() - heads(all())", _ROW)}
        for row in reversed(server.rows("head()", _ROW)):
            name, node = row["branch"], row["node"]
            if row["closed"]:
                if node not in merged:
                    left_out.append(f"a closed head of {name}: {node[:12]}")
            elif name in branches:
                more[f"heads/{name}/{node[:12]}"] = export.commits[node]
            else:
                branches[name] = export.commits[node]
        return branches, more, left_out

    def _tags(self, server: Server, export: Export) -> dict[str, str]:
        rows = json.loads(server("tags", "-T", "json"))
        return {
            row["tag"]: export.commits[row["node"]]
            for row in rows
            if row["tag"] != "tip" and row["node"] in export.commits and row["node"] != NULL
        }
