"""Git: mirror a repository, its branches and tags, into a bare repository of the store.

A run asks the source what refs it has. If that is what the mirror has, and the mirror's files are
those that the last run left, there is nothing to do. Otherwise it fetches into its stage: a first
mirror is a plain clone.

What is received is checked as git always does it: each object against its hash, and that nothing
which the refs need is missing. ``fsckObjects`` is off: first mirrors of 50,000 commits took 1.4 to
2.4 times as long with it, depending on what was in them, and it refuses harmless flaws of old
histories, while the names that it looks for are refused again by every git that checks them out.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from code_import.importers import Outcome
from code_import.mirror import Lost, Store, read_head
from code_import.policy import Forbidden
from code_import.refs import BRANCHES, TAGS, Refs, parse_listing

from .gate import Gate
from .gittool import Git, installed_version
from .process import ToolFailed, ToolTooLoud, ToolTooSlow
from .publish import list_refs
from .route import find_route
from .secret import secret_file
from .update import (
    Cause,
    Ended,
    Update,
    check_refs,
    conclude,
    configure,
    explain,
    find_mirror,
    is_up_to_date,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from code_import.importers import Login, Run
    from code_import.mirror import Mirror, Stage

    from .process import Finished
    from .route import Route
    from .update import Log

OLDEST_GIT = (2, 30)

PROBE_TIMEOUT = 300.0
"""Seconds in which a source must say what refs it has."""
BYTES_A_REF = 250
"""So long is a line of a list of refs on average, at most."""
LEAST_LISTING = 1 << 20
LOW_SPEED_TIME = 60
"""Seconds of hardly any data after which an http server counts as stalled."""

_SHALLOW = re.compile(r"(?m)^warning: rejected .* because shallow roots are not allowed")
_REDIRECTS = re.compile(r"returned error: 30[12378]")
_IS_BUSY = re.compile(r"returned error: (?:429|503)")
_STAGED_HEAD = "refs/stage/HEAD"
_OUR_PLACES = re.compile(
    r"Cloning into |From \S+$|(?:[-*+t=] )?(?:\[(?!rejected)|[0-9a-f]{7,}\.{2,3}[0-9a-f]{7,} )"
)
"""What git says about refs in the stage; the changes of the mirror are told when they are made."""


CAUSES = (
    Cause(
        r"detected dubious ownership in repository at '(?P<what>.*)'",
        "failure_invalid",
        "{what} belongs to another user, and git reads only its own user's repositories:"
        " run the worker as that user, or give the repository to the worker's user",
    ),
    Cause(r"transport '(?P<what>[^']*)' not allowed", "failure_forbidden", "{what} is not allowed"),
    Cause(
        r"could not read (?:Username|Password)|terminal prompts disabled",
        "failure_invalid",
        "the server asks for a login; many do so for a repository that does not exist",
    ),
    Cause(r"Authentication failed", "failure_invalid", "the server refuses the login"),
    Cause(
        r"lazy fetching disabled|from promisor remote",
        "failure_unsupported_feature",
        "the source is a partial clone: it does not have all objects of its history",
    ),
    Cause(
        r"possible repository corruption on the remote side|bad pack header|pack is corrupted"
        r"|did not send all necessary objects|inflate: data stream error|unable to parse object"
        r"|missing (?:blob|tree|commit|tag)|bad object|not our ref|non-existing object"
        r"|did not receive expected object|pack has bad object|SHA1 COLLISION|object corrupt"
        r"|unable to read [0-9a-f]{40}|loose object .* is corrupt",
        "failure_remote_broken",
        "the source is damaged",
    ),
    Cause(
        r"mismatched algorithms|unsupported object format|unknown object format",
        "failure_unsupported_feature",
        "the source uses another object format than the mirror",
    ),
    Cause(
        r"No space left on device|Disk quota exceeded|cannot lock ref|unable to create file"
        r"|Read-only file system|died of signal",
        "internal_failure",
        "the worker's machine is in trouble",
        by_source=False,
    ),
    Cause(r"returned error: 410", "failure_invalid", "the repository is gone for good"),
    Cause(r"returned error: 403", "failure_invalid", "the server refuses access"),
    Cause(r"returned error: 429", "failure", "the server wants fewer requests"),
    Cause(r"returned error: 5\d\d", "failure", "the server is in trouble"),
    Cause(
        r"returned error: 3\d\d",
        "failure_invalid",
        "the server redirects, which is not followed: use the address that it redirects to"
        " (for some hosts the same with .git at its end)",
    ),
    Cause(r"returned error: 4\d\d", "failure_invalid", "the server refuses the request"),
    Cause(
        r"repository '.*' not found|not valid: is this a git repository"
        r"|does not appear to be a git repository|not a git repository"
        r"|access denied or repository not exported|service not enabled",
        "failure_invalid",
        "there is no git repository at this address",
    ),
    Cause(
        r"[Cc]ould not resolve host|unable to look up",
        "failure",
        "the name of the host is not known",
    ),
    Cause(r"Operation too slow", "failure", "the server has stalled"),
    Cause(
        r"certificate",
        "failure_invalid",
        "the server's certificate is not trusted",
    ),
    Cause(
        r"gnutls_handshake|SSL|TLS|Failed to connect|unable to connect|Connection refused"
        r"|Connection timed out|Couldn't connect|Connection reset|No route to host",
        "failure",
        "there is no connection to the server",
    ),
    Cause(
        r"early EOF|unexpected disconnect|hung up unexpectedly|RPC failed|transfer closed"
        r"|expected flush",
        "failure",
        "the connection broke",
    ),
    Cause(
        r"invalid index-pack output",
        "failure",
        "what the source sends could not be stored: it may be beyond a limit of this worker",
    ),
    Cause(
        r"is not a git command|[Uu]nable to find remote helper|couldn't find remote ref",
        "failure_invalid",
        "git cannot fetch from this address",
    ),
)
"""What git's complaints mean (LC_ALL=C), the first match counts. Anything else is a ``failure``."""


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """
    return conclude(run, _mirror)


def missing_tools() -> str | None:
    """None when git is here and new enough; else one line that says what is not."""
    oldest = ".".join(map(str, OLDEST_GIT))
    version = installed_version()
    if version is None:
        return f"git {oldest} or newer is not installed"
    if version < OLDEST_GIT:
        return f"git {oldest} or newer is needed, and this is {version[0]}.{version[1]}"
    return None


def _mirror(run: Run, log: Log) -> Outcome:
    url = run.policy.check(run.source)
    store = Store(run.store)
    mirror = find_mirror(run, store, log)
    verify(run, store, mirror, Git(store, url.partition(":")[0]), log)
    with Gate(run.policy, log) as gate, _offered(run.login, url) as login:
        log(f"Asking {run.source.url} for its refs.")
        source, remote = _Source.at(url, run, store, gate, log, login).found()
        if is_up_to_date(run, mirror, remote):
            return Outcome("success_nochange", f"Nothing new: {remote.describe()}.")
        log(f"The source has {remote.describe()}.")
        supply = _Fetch(mirror, source.git, source, remote)
        return Update(run, log, store, mirror, source.git, supply).go()


@dataclass(frozen=True, slots=True)
class _Offer:
    """What makes git answer a server that asks for a login."""

    options: tuple[str, ...] = ()
    keep_open: tuple[int, ...] = ()


@contextlib.contextmanager
def _offered(login: Login | None, url: str) -> Iterator[_Offer]:
    """Have a login at hand until the end of the block, for its host alone, and the url's scheme.

    git asks the helper only for what its name fits: this scheme, host and port, wherever the server
    redirects to.
    """
    scheme = url.partition("://")[0]
    if login is None or scheme not in ("http", "https"):
        yield _Offer()
        return
    with secret_file(f"username={login.username}\npassword={login.password}\n") as secret:
        told = f'!f() {{ test "$1" = get && cat {shlex.quote(str(secret.path))}; }}; f'
        option = f"credential.{scheme}://{login.host}.helper={told}"
        yield _Offer(("-c", option), secret.keep_open)


@dataclass(frozen=True, slots=True)
class _Source:
    """The repository at a url that was checked. What it does wrong ends the run."""

    url: str
    run: Run
    store: Store
    gate: Gate
    log: Log
    login: _Offer
    route: Route
    git: Git

    @classmethod
    def at(cls, url: str, run: Run, store: Store, gate: Gate, log: Log, login: _Offer) -> _Source:
        """Find the way to a url."""
        route = find_route(url, run.policy, gate)
        git = Git(store, url.partition(":")[0], route.environment)
        return cls(url, run, store, gate, log, login, route, git)

    def found(self) -> tuple[_Source, Refs]:
        """Ask for branches, tags and HEAD; if the server redirects within its host, there."""
        try:
            return self, parse_listing(self._list().out)
        except ToolFailed as failed:
            if not _REDIRECTS.search(failed.finished.err):
                self._explain(failed)
            there = self._follow(failed)
        try:
            return there, parse_listing(there._list().out)
        except ToolFailed as failed:
            there._explain(failed)

    def _follow(self, failed: ToolFailed) -> _Source:
        """Find where the server redirects to. Ends the run unless that is the same host."""
        from .http_probe import NoAnswer, follow

        try:
            moved = follow(self.url, self.run.policy, self.gate)
        except Forbidden as refusal:
            raise Ended(
                "failure_forbidden", f"The server redirects to where nothing is fetched: {refusal}"
            ) from None
        except NoAnswer:
            moved = None
        if moved is None:
            self._explain(failed)
        if moved.same_host:
            self.log(f"The server redirects to {moved.url}, which this run uses.")
            return _Source.at(moved.url, self.run, self.store, self.gate, self.log, self.login)
        if not moved.is_repository:
            raise Ended(
                "failure_invalid",
                f"The server redirects to {moved.url}, where no repository is open to everybody.",
            )
        raise Ended(
            "failure_invalid",
            f"The repository has moved to {moved.url}. To import it from there:"
            f" code-import import set-url {self.run.target} {shlex.quote(moved.url)}",
        )

    def _explain(self, failed: ToolFailed) -> NoReturn:
        if _IS_BUSY.search(failed.finished.err):
            from .http_probe import NoAnswer, ask

            with contextlib.suppress(NoAnswer):
                if wait := ask(self.url, self.gate).wait:
                    raise Ended(
                        "failure", f"The server wants fewer requests, and none for {wait} s."
                    )
        explain(failed, CAUSES, self.gate)

    def is_git(self) -> bool:
        """Whether the answer came from git: an empty page looks like an empty repository."""
        try:
            return "packet:" in self._list(GIT_TRACE_PACKET="1").err
        except ToolFailed as failed:
            self._explain(failed)

    def clone(self, stage: Stage) -> None:
        """Fetch all of it into a new repository."""
        self._fetch(
            stage, "clone", "--bare", "--template=", "--progress", "--", self.route.url,
            str(stage.repository), repository=None,
        )  # fmt: skip
        configure(stage.repository)

    def fetch(self, stage: Stage, *, detached: bool) -> None:
        """Make the refs of a staged repository those of the source; ``detached``: HEAD too."""
        shallow = (stage.repository / "shallow").exists()
        self._fetch(
            stage, "fetch", "--no-tags", "--prune", "--force", "--no-write-fetch-head",
            "--refmap=", "--progress", *(("--unshallow", "--update-shallow") if shallow else ()),
            "--", self.route.url, f"+{BRANCHES}*:{BRANCHES}*", f"+{TAGS}*:{TAGS}*",
            *((f"+HEAD:{_STAGED_HEAD}",) if detached else ()),
            repository=stage.repository,
        )  # fmt: skip

    def _list(self, **env: str) -> Finished:
        limits = self.run.limits
        try:
            listing = self.git(
                *_network(), *self.route.options, *self.login.options,
                "ls-remote", "--symref", "--", self.route.url,
                keep_open=self.login.keep_open, timeout=PROBE_TIMEOUT, env=env,
                most_output=LEAST_LISTING + limits.refs * BYTES_A_REF,
            )  # fmt: skip
        except ToolTooLoud:
            raise Ended(
                "failure",
                f"The source's list of refs is longer than {limits.refs:,} of them need"
                " (--ref-limit).",
            ) from None
        except ToolTooSlow:
            raise Ended(
                "failure", f"The server has stalled: no refs within {PROBE_TIMEOUT:.0f} s."
            ) from None
        check_refs(listing.out.count(b"\trefs/") - listing.out.count(b"^{}\n"), limits)
        return listing

    def _tell(self, line: str) -> None:
        if not _OUR_PLACES.match(line):
            self.log(line)

    def _fetch(self, stage: Stage, *args: str, repository: Path | None) -> None:
        try:
            fetched = self.git.logged(
                *_network(), *self.route.options, *self.login.options, *args,
                log=self._tell, repository=repository,
                keep_open=(stage.fd, *self.login.keep_open),
            )  # fmt: skip
        except ToolFailed as failed:
            self._explain(failed)
        if _SHALLOW.search(fetched.err):  # git leaves such refs out and says that all is well.
            raise Ended(
                "failure_unsupported_feature",
                "The source has become shallow: it has less history than the mirror.",
            )


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The supply of an update: what a git server sends."""

    mirror: Mirror
    git: Git
    source: _Source
    remote: Refs

    def expect(self, old: Mapping[str, str] | None) -> None:
        """End the run when the source has no refs, unless that is how it has always been."""
        if self.remote:
            return
        if old or (old is None and self.mirror.exists()):
            raise Ended(
                "failure_remote_broken",
                "The source has no branches and no tags any more. The mirror keeps what it has.",
            )
        if not self.source.is_git():
            raise Ended(
                "failure_invalid", "The address answers, but there is no git repository behind it."
            )

    def fill(self, stage: Stage, *, borrows: bool) -> Refs:
        """Fetch what is new, or clone all of it."""
        return self._fetch_changes(stage) if borrows else self._fetch_all(stage)

    def _fetch_all(self, stage: Stage) -> Refs:
        self.source.clone(stage)
        values = list_refs(self.git, stage.repository)
        if self.remote and not values:
            raise Ended("failure_remote_broken", "The source's refs have gone while it was read.")
        head = read_head(stage.repository)
        return Refs(values, None if head.startswith("refs/") and head not in values else head)

    def _fetch_changes(self, stage: Stage) -> Refs:
        head = self.remote.head
        detached = head is not None and not head.startswith("refs/")
        try:
            self.source.fetch(stage, detached=detached)
        except Ended:
            if not self.mirror.exists():
                raise Lost(f"{self.mirror.path} has gone while it was in use") from None
            raise
        if detached:
            found = self.git("rev-parse", _STAGED_HEAD, repository=stage.repository)
            head = found.out.decode().strip()
        return Refs(list_refs(self.git, stage.repository), head)


def _network() -> list[str]:
    """Options of every command that speaks with a server."""
    options = {
        "core.bigFileThreshold": "1m",  # Large files stay on disk instead of in memory.
        "fetch.unpackLimit": "1",  # A pack, however small: limits on file sizes mean something.
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": str(LOW_SPEED_TIME),
        "transfer.fsckObjects": "false",
    }
    return [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
