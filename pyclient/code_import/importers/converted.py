"""What the importers of other systems have in common: a conversion that goes on where it stopped.

A conversion grows in a workspace, which belongs to one import and lasts: the tool's own state and a
repository with what has been converted so far. From there the mirror is updated like any other.
Nothing but a conversion reads a workspace, so it may be thrown away and made anew at any time, and
comes out the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from code_import.importers import Outcome
from code_import.mirror import Store
from code_import.refs import Refs, counted

from .gittool import Git
from .update import Ended, Update, configure, find_mirror, is_up_to_date, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from code_import.importers import Run
    from code_import.mirror import Stage, Workspace

    from .update import Log

_STAGED = "refs/stage/"


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion has come to.

    ``repository`` has all objects of ``refs``, whose names are the ones to publish. ``upstream``
    says in words how far the source has been read; ``more``, that there is more to read at once;
    ``left_out``, one line each, what git cannot express or the import does not ask for.
    """

    repository: Path
    refs: Refs
    upstream: str
    more: bool = False
    left_out: Sequence[str] = field(default_factory=list)


class Conversion(Protocol):
    """The part of an importer that reads its source, after the policy was asked."""

    def __call__(self, run: Run, log: Log, work: Workspace) -> Converted:
        """Go on with the conversion. Raises Ended when the source does not let it."""


def convert(run: Run, log: Log, conversion: Conversion) -> Outcome:
    """Go on with a conversion and publish what it has come to.

    Raises what :func:`update.conclude` makes an outcome of.
    """
    store = Store(run.store)
    mirror = find_mirror(run, store, log)
    # "file" is how git reads a repository on disk, here the workspace's.
    git = Git(store, "file")
    verify(run, store, mirror, git, log)
    with store.workspace(run.code_import_id, log) as work:
        converted = conversion(run, log, work)
        for line in converted.left_out:
            log(f"Left out: {line}")
        if is_up_to_date(run, mirror, converted.refs):
            nothing_new = f"Nothing new: {converted.refs.describe()}."
            return _outcome(converted, Outcome("success_nochange", nothing_new))
        supply = _Take(git, converted)
        return _outcome(converted, Update(run, log, store, mirror, git, supply).go())


def _outcome(converted: Converted, outcome: Outcome) -> Outcome:
    """What an update has come to, in view of what is left at the source."""
    words = [outcome.summary, f"Read {converted.upstream}."]
    if converted.left_out:
        words.append(f"Left out: {counted(len(converted.left_out), 'thing', 'things')}.")
    is_good = outcome.status in ("success", "success_nochange")
    if converted.more and is_good:
        outcome = replace(outcome, status="success_partial")
        words.append("More to come.")
    return replace(outcome, summary=" ".join(words))


@dataclass(frozen=True, slots=True)
class _Take:
    """The supply of an update: what a conversion has made."""

    git: Git
    converted: Converted

    def expect(self, old: Mapping[str, str] | None) -> None:
        """End the run when a source that had something has nothing any more."""
        if old and not self.converted.refs:
            raise Ended(
                "failure_remote_broken",
                "The source has no branches and no tags any more. The mirror keeps what it has.",
            )

    def fill(self, stage: Stage, *, borrows: bool) -> Refs:
        """Take the objects that are not there yet; in a new repository also the refs."""
        refs = self.converted.refs
        if not borrows:
            self.git("init", "--bare", "--quiet", "--template=", str(stage.repository))
            configure(stage.repository)
        values = sorted(set(refs.values.values()))
        if values:
            self._fetch(stage, values)
        if not borrows:
            self._name(stage, refs)
        return refs

    def _fetch(self, stage: Stage, values: Sequence[str]) -> None:
        """Fetch by object id: names that are in each other's way cannot be so in the stage."""
        lines = (f"+{value}:{_STAGED}{number}\n" for number, value in enumerate(values))
        self.git(
            "-c", "fetch.unpackLimit=1",  # A pack, however small: that is what a seal covers.
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--stdin",
            "--", str(self.converted.repository),
            repository=stage.repository, text="".join(lines).encode(), keep_open=(stage.fd,),
        )  # fmt: skip

    def _name(self, stage: Stage, refs: Refs) -> None:
        staged = self.git("for-each-ref", "--format=delete %(refname)", _STAGED,
                          repository=stage.repository).out  # fmt: skip
        names = "".join(f"create {name} {value}\n" for name, value in refs.values.items())
        self.git("update-ref", "--stdin", repository=stage.repository,
                 text=staged + names.encode("utf-8", "surrogateescape"))  # fmt: skip
        if refs.head is not None:
            self.git("symbolic-ref", "HEAD", refs.head, repository=stage.repository)
        self.git("pack-refs", "--all", repository=stage.repository)
