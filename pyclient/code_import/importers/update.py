"""From a source to its mirror: what the runs of all importers have in common.

A run builds in a repository of its own beside the mirror, its stage, which borrows the mirror's
objects, and publishes from there under the mirror's lock. A first mirror is a stage that is renamed
into place, and so is one that replaces a damaged mirror. How a stage is filled is the importer's
part: its :class:`Supply`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from code_import.importers import Outcome
from code_import.journal import Journal
from code_import.mirror import STATE, BadTarget, Busy, Lost, Store, Superseded, read_head
from code_import.policy import Forbidden
from code_import.redaction import clean
from code_import.refs import Refs, make_plan

from .process import ToolFailed, ToolTooSlow, gist
from .publish import Publisher, all_new, link, list_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from code_import.importers import Run, RunStatus
    from code_import.limits import Limits
    from code_import.mirror import Lock, Mirror, Stage
    from code_import.refs import Change

    from .gate import Gate
    from .gittool import Git
    from .publish import Published

    Log = Callable[[str], None]


_FLAWED = 1 | 4
"""How git's fsck ends when it finds fault with objects, loose or packed, be they as they were made;
of what is worse it says "error:", or ends otherwise."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What a complaint of a tool means. ``by_source`` says that the source may have worded it."""

    pattern: str
    status: RunStatus
    meaning: str
    by_source: bool = True


_LIMITS = (
    Cause(
        r"[Ff]ile too large|signal 25\b|SIGXFSZ|file size limit",
        "failure",
        "the source makes a larger file than a run may write (--write-limit)",
        by_source=False,
    ),
    Cause(
        r"[Oo]ut of memory|malloc failed|MemoryError|bad_alloc",
        "failure",
        "the source makes a tool need more memory than a run may have (--memory-limit)",
        by_source=False,
    ),
    Cause(r"^bwrap: ", "internal_failure", "the sandbox cannot be made", by_source=False),
)
"""What any tool says at a limit of this worker, before all that it says of its own."""
_FILE_SIZE_EXCEEDED = (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)


class Ended(Exception):
    """The run is over: there is nothing to publish, and this is why."""

    def __init__(self, status: RunStatus, summary: str) -> None:
        super().__init__(summary)
        self.outcome = Outcome(status, clean(summary))


def conclude(run: Run, mirror: Callable[[Run, Log], Outcome]) -> Outcome:
    """Do what one run has to do, and return how it went, failures of the source included.

    ``mirror`` gets the run and a log that takes anybody's words. Raises RunLost when the run has
    ended without us, before anything was published.
    """

    def log(line: str) -> None:
        run.log(clean(line))

    try:
        outcome = mirror(run, log)
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


def check_refs(count: int, limits: Limits) -> None:
    """End the run when its source has more refs than it may have."""
    if count > limits.refs:
        raise Ended(
            "failure",
            f"The source has more refs than a run takes: over {limits.refs:,} (--ref-limit).",
        )


def find_mirror(run: Run, store: Store, log: Log) -> Mirror:
    """Return the mirror of a run, brought to its place; what killed runs have left is removed."""
    mirror = store.mirror(run.target, run.code_import_id, run.job_id)
    store.settle(mirror, run.confirm, log)
    with store.lock(run.code_import_id, log) as lock:
        store.sweep(lock)
    return mirror


def is_up_to_date(run: Run, mirror: Mirror, refs: Refs) -> bool:
    """Whether the mirror is in line with these very refs, nobody has touched it since, and there
    is nothing to forget.

    A shallow source may get more history without a change of its refs, so it is always asked.
    """
    state = mirror.state()
    return (
        state is not None
        and state.fingerprint == refs.fingerprint()
        and not run.terms.accepted
        and not (mirror.path / "shallow").exists()
        and mirror.is_sealed()
        and all(start >= time.time() - run.ref_retention for start in state.kept.values())
    )


def verify(run: Run, store: Store, mirror: Mirror, git: Git, log: Log) -> None:
    """Read and check all of a mirror, if that is due. A damaged one is replaced later in this run.

    What was found is written into the journal.
    """
    if not (run.verify and mirror.exists()):
        return
    log("Reading and checking all of the mirror.")
    damage = _damage_of_all(mirror, git, log)
    with store.lock(run.code_import_id, log):
        store.check(mirror)
        if damage is not None:
            log(f"The mirror is damaged: {damage}")
            mirror.condemn(damage)
        file = store.journal(run.code_import_id)
        journal = Journal.read(file)
        journal.verify(run.job_id, damage)
        journal.write(file)


def _damage_of_all(mirror: Mirror, git: Git, log: Log) -> str | None:
    """What is wrong with a mirror, but for the flaws that old histories have of themselves."""
    try:
        git.logged("fsck", "--full", "--no-dangling", "--progress", log=log, repository=mirror.path)
    except ToolFailed as failed:
        lines = failed.finished.err.splitlines()
        wrong = [line for line in lines if line.startswith(("error: ", "fatal: "))]
        if wrong or failed.finished.code & ~_FLAWED:
            return gist("\n".join(wrong) or "something is missing")
    return None


class Supply(Protocol):
    """What an update is made from."""

    def expect(self, old: Mapping[str, str] | None) -> None:
        """Look before anything is fetched; ``old`` are the mirror's refs, None if it has none.

        Raises Ended when the source must not be published over them.
        """

    def fill(self, stage: Stage, *, borrows: bool) -> Refs:
        """Bring all that is to be published into a stage, and return its refs.

        ``borrows`` says that the stage is a repository that has the mirror's objects and refs;
        else there is none yet, and one is to be made. Raises Ended.
        """


@dataclass(frozen=True, slots=True)
class Update:
    """One change of a mirror: what has to be fetched, from where, and how it is published."""

    run: Run
    log: Log
    store: Store
    mirror: Mirror
    git: Git
    supply: Supply

    def go(self) -> Outcome:
        """Carry it out. Raises what :func:`conclude` makes an outcome of."""
        with contextlib.ExitStack() as stack:
            with self._lock() as lock:
                self.store.check(self.mirror)
                old = self._present_refs()
                self.supply.expect(old)
                replaces = self.mirror.exists() and not old
                stage = stack.enter_context(self.store.stage(lock, self.run.job_id))
                if old:
                    _borrow(stage.repository, self.mirror, old)
            new = self.supply.fill(stage, borrows=bool(old))
            check_refs(len(new.values), self.run.limits)
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
        state = self.mirror.state()
        if state is not None and state.damage is not None:
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

    def _put_away(self, new: Refs) -> None:
        """Make room for the mirror that replaces a damaged one, if it has as much to offer."""
        try:
            old = list_refs(self.git, self.mirror.path)
        except ToolFailed:
            old = {}
        if held := make_plan(old, new.values, _Unknown(), self.run.terms).held:
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
        journal_file = self.store.journal(self.run.code_import_id)
        journal = Journal.read(journal_file)
        journal.settle(self.run.told, {})
        journal.hold(self.run.job_id, ())
        journal.intend(self.run.job_id, all_new(new, read_head(stage.repository)))
        journal.write(journal_file)
        self.store.install(stage, self.mirror, new.fingerprint())
        journal.done()
        journal.write(journal_file)
        if not new:
            return Outcome("success", "The source is an empty repository, and so is its mirror.")
        return Outcome("success", f"Mirrored {new.describe()}.", len(new.values), None)

    def _publish(self, stage: Stage, new: Refs, lock: Lock) -> Outcome:
        journal_file = self.store.journal(self.run.code_import_id)
        publisher = Publisher(self.run, self.git, self.mirror, lock, journal_file, self.log)
        published = publisher.publish(stage, new)
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
        if plan.kept:
            summary += f" Kept, as was decided: {clean(_names(plan.kept))}."
        return Outcome("success", summary, published.refs, commits)

    def _held(self, published: Published) -> Outcome:
        """What became of a run whose deletions are held back.

        A failure of the source: date_last_successful stays, the import is tried ever more rarely,
        and in the end it is ``failing``, so that a person looks. As ``success_partial`` it would
        run again at once, for ever; as a success nobody would know.
        """
        held, plan = published.plan.held, published.plan
        self.log(
            "So great a loss at once looks like an accident at the source. It waits for a person:"
            f" `code-import mirror accept {self.run.target}` lets the mirror follow,"
            f" `code-import mirror keep {self.run.target}` lets it stay as it is."
            " Until then each run counts as failed; what is new is published all the same."
        )
        return Outcome(
            "failure_remote_broken",
            clean(f"Held back: {len(held)} refs are gone, rewritten or in conflict"
                  f" ({_names(held)}). Published: {plan.describe()}."),
            published.refs,
            published.commits,
        )  # fmt: skip


class _Unknown:
    """The history of a mirror that cannot be read."""

    def is_ancestor(self, old: str, new: str) -> bool:
        return False

    def count_lost(self, old: Iterable[str], still: Iterable[str]) -> int:
        return 0


def configure(repository: Path) -> None:
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


def look_at(gate: Gate) -> None:
    """End a run that has failed by what came in its way, if the gate knows of anything."""
    if gate.refused:
        raise Forbidden(gate.refused[0])
    if gate.unreached:
        raise Ended("failure", f"{gate.unreached[:1].upper()}{gate.unreached[1:]}.")


def explain(failed: ToolFailed, causes: Iterable[Cause], gate: Gate | None = None) -> NoReturn:
    """End the run with the status that the complaints of a tool stand for.

    What the gate has refused or could not reach says more than the tool. Then the first cause that
    fits counts; a complaint that fits none is a ``failure``.
    """
    if gate is not None:
        look_at(gate)
    lines = failed.finished.err.splitlines()
    if failed.finished.code in _FILE_SIZE_EXCEEDED:
        lines.append("file size limit exceeded")
    own = [line for line in lines if "remote error:" not in line and line[:7] != "remote:"]
    for cause in (*_LIMITS, *causes):
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
