"""Subversion: mirror a folder of a repository, with its branches and tags or without.

``git svn`` converts, some revisions at a time. A folder that has one of ``trunk``, ``branches``
and ``tags`` is read as what is usually meant by that; any other one is one line of history, and is
called ``trunk`` as well. Externals are never followed.

Commits carry git svn's own note of where they come from, with the repository's UUID in place of its
host: they are the same whatever the address, and a workspace can find its way by them again.
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from code_import.importers import Source
from code_import.mirror import Mirror
from code_import.policy import Forbidden
from code_import.refs import BRANCHES, TAGS, Refs

from .converted import Converted, convert
from .gate import Gate
from .gittool import installed_version
from .http_probe import MOST_HOPS, is_same_host
from .process import ToolFailed
from .svntool import Place, Tools, git_svn
from .update import Cause, Ended, conclude, explain

if TYPE_CHECKING:
    from code_import.importers import Outcome, Run
    from code_import.mirror import Workspace

    from .update import Log

RUN_SECONDS = 300.0
"""After so many seconds a run ends with what it has, and the next one goes on."""
WINDOW_SECONDS = 30.0
FIRST_WINDOW = 100
"""Revisions that are asked for at first; the later windows follow the pace."""
LARGEST_WINDOW = 100_000
PROGRESS_EVERY = 5.0

TRUNK = f"{BRANCHES}trunk"

_LAYOUT = ("trunk", "branches", "tags")
_CONVERTED = "refs/remotes/"
_PATTERN = re.compile(r"[:*?{}\\\"]")
"""What means something to git svn, or to git's configuration, where a path is expected."""
_DAMAGED = re.compile(
    r"(?m)^(?:fatal|error): .*(?:bad object|loose object|object file|unable to read|corrupt"
    r"|packfile|not a valid|broken|not a git repository)|^rev_map|_rev_map_get"
)
_COMMIT = re.compile(rb"r([0-9]+) = [0-9a-f]{40}")
_NEVER = re.compile(r"[ %~^:?*\[\t\\]|^\.|\.\.|\.(?=$|lock$)")

CAUSES = (
    Cause(
        r"E180001|E210005|W170000|E160013|E200009|No repository found|requested SVN filesystem"
        r"|non-existent in|[Pp]ath not found|[Pp]ath '.*' not found",
        "failure_invalid",
        "there is no Subversion repository or folder at this address",
    ),
    Cause(
        r"Can't get (?:username or )?password|No more credentials",
        "failure_invalid",
        "the server asks for a login, or refuses the one that it gets",
    ),
    Cause(
        r"Password incorrect|Username not found|Authentication (?:error|failed)|E215004",
        "failure_invalid",
        "the server refuses the login",
    ),
    Cause(r"E170001|E175013|Authorization failed|[Ff]orbidden", "failure_invalid",
          "the server refuses access"),
    Cause(r"E230001|certificate", "failure_invalid", "the server's certificate is not trusted"),
    Cause(
        r"E175003|E170000|does not support the HTTP/DAV protocol|E210004|Malformed network data"
        r"|E175009|[Mm]alformed XML|E130003|E210003|handshake failed",
        "failure_invalid",
        "what answers at this address is no Subversion server",
    ),
    Cause(
        r"No space left on device|Disk quota exceeded|[Oo]ut of memory|Cannot allocate memory"
        r"|[Uu]nable to create file|Read-only file system|died of signal",
        "internal_failure",
        "the worker's machine is in trouble",
    ),
    Cause(
        r"E16\d{4}|E000022|E200014|[Cc]orrupt|Malformed|[Cc]hecksum mismatch|No such revision"
        r"|position pointer|Unexpected (?:EOF|end of)|end of file|E140001|E185\d{3}",
        "failure_remote_broken",
        "the source is damaged",
    ),
    Cause(r"(?:HTTP status|failed:) 410|E175002.*410", "failure_invalid",
          "the repository is gone for good"),
    Cause(r"HTTP status 429|429 Too Many", "failure", "the server wants fewer requests"),
    Cause(r"HTTP status 4\d\d", "failure_invalid", "the server refuses the request"),
    Cause(r"E175002|HTTP status|E175012", "failure", "the server is in trouble"),
    Cause(
        r"E210002|E120\d{3}|E000104|E000032|E170013|E000111|E670\d{3}|E000110|timed out"
        r"|[Cc]onnection (?:closed|reset|refused|timed out)|Network is unreachable"
        r"|Unable to connect|truncated HTTP",
        "failure",
        "the connection broke, or there is none",
    ),
)  # fmt: skip
"""What complaints mean (LC_ALL=C), the first match counts: svn gives them numbers, git svn none.
Anything else is a ``failure``."""


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """
    return conclude(run, lambda run, log: convert(run, log, _convert))


def missing_tools() -> str | None:
    """None when all is here; else one line that names what to install."""
    if installed_version() is None:
        return "git is not installed (Debian's git)"
    missing = {"git-svn": git_svn(), "subversion": shutil.which("svn")}
    names = [name for name, found in missing.items() if found is None]
    return f"not installed: Debian's {' and '.join(names)}" if names else None


def _convert(run: Run, log: Log, work: Workspace) -> Converted:
    url = run.policy.check(run.source)
    with Gate(run.policy, log) as gate:
        tools = _find(run, log, work, gate, url)
        try:
            place = tools.info(tools.url)
            return _Conversion.of(tools, place).go()
        except ToolFailed as failed:
            if _DAMAGED.search(failed.finished.err):
                tools.clear()
                raise Ended(
                    "internal_failure", "The workspace was damaged: the next run converts anew."
                ) from None
            explain(failed, CAUSES, gate)


def _find(run: Run, log: Log, work: Workspace, gate: Gate, url: str) -> Tools:
    """Follow the redirects within the source's host. Ends the run for one that leaves it."""
    for _ in range(MOST_HOPS):
        tools = Tools.prepare(run, log, work, gate, url)
        if (moved := tools.moved()) is None:
            return tools
        there = run.policy.check(Source("svn", moved))
        if not is_same_host(url, there):
            raise Ended(
                "failure_invalid",
                f"The repository has moved to {there}. To import it from there:"
                f" code-import import set-url {run.target} {shlex.quote(there)}",
            )
        log(f"The server redirects to {there}, which this run uses.")
        url = there
    raise Ended("failure", f"The server redirects more than {MOST_HOPS} times.")


@dataclass(slots=True)
class _Conversion:
    """A conversion on its way, and what is remembered of it from run to run.

    ``known`` has the revision up to which all is converted (``done``), and the furthest one of
    which there may be something, as it was then (``reach``, ``stamp``).
    """

    tools: Tools
    place: Place
    known: dict[str, Any]

    @classmethod
    def of(cls, tools: Tools, place: Place) -> _Conversion:
        return cls(tools, place, tools.work.recall())

    def go(self) -> Converted:
        self._check_history()
        self._check_layout()
        base, path = self._base()
        self._prepare(base, path)
        self._fetch()
        return self._converted(base, path)

    # What the source is

    def _check_history(self) -> None:
        """End the run when the source has another history than what was converted."""
        known, url = self.known, self.tools.run.source.url
        if known and known["uuid"] != self.place.uuid:
            if known["url"] == url:
                raise _rewritten("another repository is at this address")
            self._start_anew("the import has been given another repository")
        reach = self.known.get("reach", 0)
        if self.place.revision < reach:
            raise _rewritten(f"it ends at r{self.place.revision}, and had r{reach}")
        if reach and self.tools.stamp(reach) != self.known["stamp"]:
            raise _rewritten(f"r{reach} is not what it was")

    def _check_layout(self) -> None:
        """Find what there is to convert, and start anew when that has become something else.

        What once was the standard layout stays one, whatever is left of it.
        """
        known, place = self.known, self.place
        is_standard = known.get("is_standard") and known["path"] == place.path
        if not is_standard:
            folders = self.tools.folders(place.url, place.revision)
            is_standard = not set(_LAYOUT).isdisjoint(folders)
        # A log that spans two lives of a folder tells of the later one only. What it was copied
        # from is found from there.
        since = self.tools.since(place.revision) if place.path else 0
        layout = {"path": place.path, "is_standard": is_standard, "since": since}
        if known and {**known, **layout} != known:
            self._start_anew("the source has another layout, or is another folder")
        self._remember(uuid=place.uuid, url=self.tools.run.source.url, **layout)

    def _start_anew(self, why: str) -> None:
        self.tools.log(f"The conversion starts anew: {why}.")
        self.tools.clear()
        self.known = {}

    def _base(self) -> tuple[str, str]:
        """The url that git svn knows the repository by, and the folder from there: from the root,
        if that may be read, so that it finds what was copied from elsewhere.

        Ends the run where it would read nothing, and say that all is well.
        """
        place = self.place
        if place.path and not _PATTERN.search(place.path) and self._may_read_root():
            return place.root, place.path
        if place.path and not place.url.endswith(f"/{place.path}"):
            raise Ended(
                "failure_unsupported_feature",
                f"git svn cannot read a folder of such a name by itself: {place.path}",
            )
        return place.url, ""

    def _may_read_root(self) -> bool:
        root = self.place.root
        try:
            if root.startswith("file:"):
                self.tools.run.policy.check(Source("svn", root))
            self.tools.info(root)
        except (Forbidden, ToolFailed):
            return False
        return True

    # The repository

    def _prepare(self, base: str, path: str) -> None:
        repository, run = self.tools.repository, self.tools.run
        (repository / "svn").mkdir(exist_ok=True)  # Without it git svn sees an older layout.
        # What a killed git svn has left; nobody else is in the workspace.
        Mirror(repository, run.code_import_id, run.job_id).clear_litter()
        above = f"{path}/" if path else ""
        layout = [("fetch", f"{path}:{_CONVERTED}trunk")]
        if self.known["is_standard"]:
            layout = [
                ("fetch", f"{above}trunk:{_CONVERTED}trunk"),
                ("branches", f"{above}branches/*:{_CONVERTED}branches/*"),
                ("tags", f"{above}tags/*:{_CONVERTED}tags/*"),
            ]
        outside = "" if path else quote(self.place.path)
        named = f"svn://{self.place.uuid}/{outside}".rstrip("/")
        remote = [("url", base.replace('"', "%22")), ("rewriteRoot", named), *layout]
        (repository / "config").write_text(
            "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\thooksPath = /dev/null\n"
            '\tbigFileThreshold = 1m\n[gc]\n\tauto = 0\n[svn-remote "svn"]\n'
            + "".join(f'\t{name} = "{value}"\n' for name, value in remote),
            "utf-8",
        )

    # The history

    def _fetch(self) -> None:
        """Convert one window after the other, until all is there or the time is over."""
        head, window = self.place.revision, min(FIRST_WINDOW, LARGEST_WINDOW)
        until = time.monotonic() + RUN_SECONDS
        done = self.known.get("done", max(0, self.known["since"] - 1))
        progress = _Progress(self.tools.log, head, done)
        while done < head:
            last = min(done + window, head)
            self._remember(reach=last, stamp=self.tools.stamp(last))
            start = time.monotonic()
            self.tools.convert(last, progress.hear)
            done = last
            self._remember(done=done)
            self.tools.tidy()
            progress.reached(done)
            now = time.monotonic()
            if now > until:
                break
            pace = WINDOW_SECONDS / max(now - start, 0.001)
            window = max(1, min(int(window * min(pace, 4)), LARGEST_WINDOW))

    def _remember(self, **known: Any) -> None:
        self.known = {**self.known, **known}
        self.tools.work.remember(self.known)

    def _converted(self, base: str, path: str) -> Converted:
        done, head = self.known.get("done", 0), self.place.revision
        listed = self.tools.git(
            "for-each-ref", "--format=%(objectname) %(refname)", _CONVERTED,
            repository=self.tools.repository,
        ).out.decode("utf-8", "surrogateescape")  # fmt: skip
        found = {name: value for value, name in map(str.split, listed.splitlines())}
        place = "/".join(filter(None, (base, quote(path))))
        values, left_out = self._named(found, place, done)
        return Converted(
            self.tools.repository,
            Refs(values, TRUNK if TRUNK in values else None),
            f"up to r{done:,} of {head:,}",
            done < head,
            left_out,
        )

    def _named(
        self, found: dict[str, str], place: str, revision: int
    ) -> tuple[dict[str, str], list[str]]:
        """The refs of what there is in a revision, and what git has no place for."""
        trunk = found.get(f"{_CONVERTED}trunk")
        if not self.known["is_standard"]:
            is_there = self.tools.is_folder(place, revision)
            return ({TRUNK: trunk} if trunk and is_there else {}), []
        has_trunk = "trunk" in self.tools.folders(place, revision)
        values = {TRUNK: trunk} if trunk and has_trunk else {}
        left_out = ["trunk"] if has_trunk and not trunk else []
        for kind, prefix in (("branches", BRANCHES), ("tags", TAGS)):
            for name in self.tools.folders(f"{place}/{kind}", revision):
                escaped = _escape(name)
                value = found.get(f"{_CONVERTED}{kind}/{escaped}")
                if value is None or prefix + escaped in values:
                    left_out.append(f"{kind}/{name}")
                else:
                    values[prefix + escaped] = value
        return values, left_out


@dataclass(slots=True)
class _Progress:
    """How far a run has come, for the log."""

    log: Log
    head: int
    done: int
    _start: float = field(default_factory=time.monotonic)
    _next: float = 0.0
    _commits: int = 0

    def hear(self, line: bytes) -> None:
        """Take a line of git svn's output."""
        if (found := _COMMIT.match(line)) is None:
            return
        self._commits += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_EVERY
            self.reached(int(found[1]))

    def reached(self, revision: int) -> None:
        rate = self._commits / max(time.monotonic() - self._start, 0.001)
        self.log(
            f"Converted up to r{revision:,} of {self.head:,} ({revision * 100 // self.head}%),"
            f" {rate:.1f} commits/s."
        )


def _escape(name: str) -> str:
    """Write the name of a folder as git svn does in a ref."""
    name = _NEVER.sub(lambda found: f"%{ord(found[0][0]):02X}" * len(found[0]), name)
    return name.replace("@{", "%40{")


def _rewritten(why: str) -> Ended:
    return Ended(
        "failure_remote_broken",
        f"The source has been rewritten or replaced: {why}. The mirror keeps what it has.",
    )
