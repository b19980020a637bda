"""Git: mirror a repository, its branches and tags, into a bare repository of the store.

A run asks the source what refs it has. If that is what the mirror has, and the mirror's files are
those that the last run left, there is nothing to do. Otherwise it fetches into a repository of its
own beside the mirror, its stage, which borrows the mirror's objects, and publishes from there
under the mirror's lock. A first mirror is a plain clone that is renamed into place.

What is received is checked as git always does it: each object against its hash, and that nothing
which the refs need is missing. ``fsckObjects`` is off: first mirrors of 50,000 commits took 1.4 to
2.4 times as long with it, depending on what was in them, and it refuses harmless flaws of old
histories, while the names that it looks for are refused again by every git that checks them out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from code_import.importers import Outcome
from code_import.mirror import (
    ACCEPT_DELETIONS,
    STATE,
    BadTarget,
    Busy,
    Lost,
    Store,
    Superseded,
    read_head,
)
from code_import.policy import Forbidden
from code_import.refs import BRANCHES, TAGS, Refs, make_plan, parse_listing

from .gittool import Git
from .process import ToolFailed, ToolTooSlow, clean, gist
from .publish import Publisher, link, list_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from code_import.importers import Run, RunStatus
    from code_import.mirror import Lock, Mirror, Stage
    from code_import.refs import Change

    from .process import Finished
    from .publish import Published

    _Log = Callable[[str], None]

OLDEST_GIT = (2, 30)

PROBE_TIMEOUT = 300.0
"""Seconds in which a source must say what refs it has."""
LOW_SPEED_TIME = 60
"""Seconds of hardly any data after which an http server counts as stalled."""

_SHALLOW = re.compile(r"(?m)^warning: rejected .* because shallow roots are not allowed")
_STAGED_HEAD = "refs/stage/HEAD"
_OUR_PLACES = re.compile(
    r"Cloning into |From \S+$|(?:[-*+t=] )?(?:\[(?!rejected)|[0-9a-f]{7,}\.{2,3}[0-9a-f]{7,} )"
)
"""What git says about refs in the stage; the changes of the mirror are told when they are made."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What a complaint of git means. ``by_source`` says that the source may have worded it."""

    pattern: str
    status: RunStatus
    meaning: str
    by_source: bool = True


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
        r"No space left on device|Disk quota exceeded|Out of memory|out of memory, malloc failed"
        r"|cannot lock ref|unable to create file|Read-only file system|died of signal",
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


class Ended(Exception):
    """The run is over: there is nothing to publish, and this is why."""

    def __init__(self, status: RunStatus, summary: str) -> None:
        super().__init__(summary)
        self.outcome = Outcome(status, clean(summary))


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """

    def log(line: str) -> None:
        run.log(clean(line))

    try:
        outcome = _mirror(run, log)
    except Ended as end:
        outcome = end.outcome
    except Forbidden as refusal:
        outcome = Outcome("failure_forbidden", clean(f"Refused by this worker's policy: {refusal}"))
    except Superseded as err:
        run.confirm()
        outcome = Outcome("internal_failure", _behind(str(err)))
    except (BadTarget, Busy, Lost, ToolFailed, ToolTooSlow) as err:
        outcome = Outcome("internal_failure", clean(str(err)))
    log(outcome.summary)
    return outcome


def missing_tools() -> str | None:
    """None when git is here and new enough; else one line that says what is not."""
    import subprocess

    oldest = ".".join(map(str, OLDEST_GIT))
    try:
        said = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"git {oldest} or newer is not installed"
    version = re.search(r"(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_GIT:
        return f"git {oldest} or newer is needed, and this is {clean(said)}"
    return None


def _mirror(run: Run, log: _Log) -> Outcome:
    url = run.policy.check(run.source)
    store = Store(run.store)
    mirror = store.mirror(run.target, run.code_import_id, run.job_id)
    store.settle(mirror, run.confirm, log)
    with store.lock(run.code_import_id, log) as lock:
        store.sweep(lock)
    git = Git(store, url.partition(":")[0])
    source = _Source(git, url, log)
    log(f"Asking {run.source.url} for its refs.")
    remote = source.probe()
    if _is_up_to_date(mirror, remote):
        return Outcome("success_nochange", f"Nothing new: {remote.describe()}.")
    log(f"The source has {remote.describe()}.")
    return _Update(run, log, store, mirror, git, source, remote).go()


def _is_up_to_date(mirror: Mirror, remote: Refs) -> bool:
    """Whether the mirror has these very refs, and nobody has touched it since.

    A shallow source may get more history without a change of its refs, so it is always asked.
    """
    state = mirror.state()
    return (
        state is not None
        and state.fingerprint == remote.fingerprint()
        and not (mirror.path / "shallow").exists()
        and mirror.is_sealed()
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """The repository at a url. What it does wrong ends the run."""

    git: Git
    url: str
    log: _Log

    def probe(self) -> Refs:
        """Ask for branches, tags and HEAD."""
        try:
            return parse_listing(self._list().out)
        except ToolFailed as failed:
            _explain(failed)

    def is_git(self) -> bool:
        """Whether the answer came from git: an empty page looks like an empty repository."""
        try:
            return "packet:" in self._list(GIT_TRACE_PACKET="1").err
        except ToolFailed as failed:
            _explain(failed)

    def clone(self, stage: Stage) -> None:
        """Fetch all of it into a new repository."""
        self._fetch(
            stage, "clone", "--bare", "--template=", "--progress", "--", self.url,
            str(stage.repository), repository=None,
        )  # fmt: skip
        _configure(stage.repository)

    def fetch(self, stage: Stage, *, detached: bool) -> None:
        """Make the refs of a staged repository those of the source; ``detached``: HEAD too."""
        shallow = (stage.repository / "shallow").exists()
        self._fetch(
            stage, "fetch", "--no-tags", "--prune", "--force", "--no-write-fetch-head",
            "--refmap=", "--progress", *(("--unshallow", "--update-shallow") if shallow else ()),
            "--", self.url, f"+{BRANCHES}*:{BRANCHES}*", f"+{TAGS}*:{TAGS}*",
            *((f"+HEAD:{_STAGED_HEAD}",) if detached else ()),
            repository=stage.repository,
        )  # fmt: skip

    def _list(self, **env: str) -> Finished:
        try:
            return self.git(
                *_network(), "ls-remote", "--symref", "--", self.url, timeout=PROBE_TIMEOUT, env=env
            )
        except ToolTooSlow:
            raise Ended(
                "failure", f"The server has stalled: no refs within {PROBE_TIMEOUT:.0f} s."
            ) from None

    def _tell(self, line: str) -> None:
        if not _OUR_PLACES.match(line):
            self.log(line)

    def _fetch(self, stage: Stage, *args: str, repository: Path | None) -> None:
        try:
            fetched = self.git.logged(
                *_network(), *args, log=self._tell, repository=repository, keep_open=(stage.fd,)
            )
        except ToolFailed as failed:
            _explain(failed)
        if _SHALLOW.search(fetched.err):  # git leaves such refs out and says that all is well.
            raise Ended(
                "failure_unsupported_feature",
                "The source has become shallow: it has less history than the mirror.",
            )


@dataclass(frozen=True, slots=True)
class _Update:
    """One change of a mirror: what has to be fetched, from where, and how it is published."""

    run: Run
    log: _Log
    store: Store
    mirror: Mirror
    git: Git
    source: _Source
    remote: Refs

    def go(self) -> Outcome:
        with contextlib.ExitStack() as stack:
            with self._lock() as lock:
                self.store.check(self.mirror)
                old = self._present_refs()
                self._expect_something(old)
                replaces = self.mirror.exists() and not old
                stage = stack.enter_context(self.store.stage(lock, self.run.job_id))
                if old:
                    _borrow(stage.repository, self.mirror, old)
            new = self._fetch(stage, bool(old))
            with self._lock() as lock:
                self.store.check(self.mirror)
                if replaces:
                    self._put_away(new)
                if not self.mirror.exists():
                    return self._install(stage, new)
                return self._publish(stage, new, lock)

    def _lock(self) -> contextlib.AbstractContextManager[Lock]:
        return self.store.lock(self.mirror.code_import_id, self.log)

    def _present_refs(self) -> dict[str, str] | None:
        """The refs of a mirror that can be built upon; None when it is not there or damaged."""
        if not self.mirror.exists():
            return None
        if not self.mirror.is_sealed():
            self.log("The mirror is not as the last run has left it: checking what is there.")
            self.mirror.clear_litter()
            if damage := self._damage():
                self.log(f"The mirror is damaged and will be replaced: {damage}")
                return None
        return list_refs(self.git, self.mirror.path)

    def _damage(self) -> str | None:
        if not (self.mirror.path / "config").exists():
            return "it has no configuration"
        try:
            self.git.logged(
                "fsck", "--connectivity-only", "--no-dangling", "--progress",
                log=self.log, repository=self.mirror.path,
            )  # fmt: skip
        except ToolFailed as failed:
            return gist(failed.finished.err)
        return None

    def _expect_something(self, old: Mapping[str, str] | None) -> None:
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

    def _fetch(self, stage: Stage, borrows: bool) -> Refs:
        """Fill a stage, and return the refs in it."""
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

    def _put_away(self, new: Refs) -> None:
        """Make room for the mirror that replaces a damaged one, if it has as much to offer."""
        try:
            old = list_refs(self.git, self.mirror.path)
        except ToolFailed:
            old = {}
        if held := make_plan(old, new.values, lambda _old, _new: False).held:
            raise Ended(
                "failure_remote_broken",
                f"The mirror is damaged, and {len(held)} of its refs have gone from the source"
                f" ({_names(held)}): it stays as it is until a person has looked.",
            )
        self.run.confirm()
        place = self.store.put_away(self.mirror)
        if old:
            self.log(f"The damaged mirror is now in {place}.")

    def _install(self, stage: Stage, new: Refs) -> Outcome:
        self.run.confirm()
        self.store.install(stage, self.mirror, new.fingerprint())
        if not new:
            return Outcome("success", "The source is an empty repository, and so is its mirror.")
        return Outcome("success", f"Mirrored {new.describe()}.", len(new.values), None)

    def _publish(self, stage: Stage, new: Refs, lock: Lock) -> Outcome:
        publisher = Publisher(self.git, self.mirror, lock, self.log)
        published = publisher.publish(stage, new, self.run.confirm)
        if published.refs:
            try:
                publisher.tidy()
            except ToolFailed as failed:  # What is published stays published.
                self.log(f"The packs stay as they are: {failed}")
        if published.plan.held:
            return self._held(published)
        if not published.refs:
            return Outcome("success_nochange", f"Nothing new: {new.describe()}.")
        plan, commits = published.plan, published.commits
        summary = f"Published: {plan.describe()}; {commits} new commit{'s' * (commits != 1)}."
        return Outcome("success", summary, published.refs, commits)

    def _held(self, published: Published) -> Outcome:
        """What became of a run whose deletions are held back.

        A failure of the source: date_last_successful stays, the import is tried ever more rarely,
        and in the end it is ``failing``, so that a person looks. As ``success_partial`` it would
        run again at once, for ever; as a success nobody would know.
        """
        held, plan = published.plan.held, published.plan
        self.log(
            "So many deletions at once look like an accident at the source. They wait for a person:"
            f" to let them go, create {self.mirror.path / ACCEPT_DELETIONS} and request a run."
            " Until then each run counts as failed; what is new is published all the same."
        )
        return Outcome(
            "failure_remote_broken",
            clean(f"Held back: {len(held)} refs are gone or in conflict ({_names(held)})."
                  f" Published: {plan.describe()}."),
            published.refs,
            published.commits,
        )  # fmt: skip


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


def _configure(repository: Path) -> None:
    """Make a clone a mirror: it forgets where it came from, and shows nobody what it keeps."""
    file = repository / "config"
    sections = re.split(r"(?m)^(?=\[)", file.read_text("utf-8", "surrogateescape"))
    kept = [section for section in sections if not section.startswith('[remote "')]
    ours = "[transfer]\n\thideRefs = refs/keep\n[gc]\n\tauto = 0\n"
    file.write_text("".join(kept) + ours, "utf-8", "surrogateescape")


def _borrow(repository: Path, mirror: Mirror, refs: Mapping[str, str]) -> None:
    """Make a repository with the objects, refs and shallowness of a mirror, without a copy."""
    (repository / "refs").mkdir(parents=True)
    link(repository, mirror.path)
    (repository / "HEAD").write_text("ref: refs/heads/none\n")
    sha256 = len(next(iter(refs.values()))) == 64
    config = f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tbare = true\n"
    extension = "[extensions]\n\tobjectFormat = sha256\n" if sha256 else ""
    (repository / "config").write_text(config + extension)
    lines = "".join(f"{value} {name}\n" for name, value in refs.items())
    (repository / "packed-refs").write_bytes(lines.encode("utf-8", "surrogateescape"))
    shallow = mirror.path / "shallow"
    if shallow.exists():
        shutil.copyfile(shallow, repository / "shallow")


def _explain(failed: ToolFailed) -> NoReturn:
    """End the run with the status that the complaints of git stand for."""
    lines = failed.finished.err.splitlines()
    own = [line for line in lines if "remote error:" not in line and line[:7] != "remote:"]
    for cause in CAUSES:
        for line in lines if cause.by_source else own:
            if found := re.search(cause.pattern, line):
                meaning = cause.meaning.format(what=found.groupdict().get("what"))
                said = clean(line).removeprefix("fatal: ")
                raise Ended(cause.status, f"{meaning[:1].upper()}{meaning[1:]}. ({said})")
    raise Ended("failure", f"{failed.what} failed: {gist(failed.finished.err)}")


def _behind(why: str) -> str:
    return clean(
        f"Refused: {why}. The store has seen later runs than the database: it was restored from an"
        f" older copy, or another database's workers use this store. Nothing was changed; remove"
        f" {STATE} from the mirror to have it taken over."
    )


def _names(changes: Sequence[Change], most: int = 5) -> str:
    names = ", ".join(change.name for change in changes[:most])
    return f"{names} and {len(changes) - most} more" if len(changes) > most else names
