"""From a stage into the mirror: what every importer does last.

Readers of a mirror see each transaction of refs as a whole. There are two of them, deletions first,
because git cannot delete ``dev`` and create ``dev/sub`` in one. What a killed run leaves is a
mirror with old refs, or with some of the new ones, and never one with refs to objects that are not
there: objects come first. The next run finds the mirror without a seal and puts it right.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_import.journal import Journal, ref_text
from code_import.mirror import read_head
from code_import.refs import BRANCHES, KEEP, TAGS, Change, Plan, Refs, make_plan, parse_refs

from .process import ToolFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from code_import.importers import Run
    from code_import.mirror import Lock, Mirror, Stage

    from .gittool import Git

MOST_PACKS = 50
"""A mirror with more packs than this is repacked. Each run that fetches adds one."""
MOST_LOOSE_REFS = 200
"""A run that changes more refs than this packs them afterwards."""
MOST_LINES = 100
"""Changes that are logged one by one."""

_USAGE_ERROR = 129


@dataclass(frozen=True, slots=True)
class Published:
    """What one run has changed for others to see, and what it has held back."""

    plan: Plan
    beyond: bool
    """Whether HEAD has moved, or a shallow history has got another depth."""
    commits: int

    @property
    def refs(self) -> int:
        return len(self.plan.changes) + self.beyond


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes into the mirror of a run, whose lock it has."""

    run: Run
    git: Git
    mirror: Mirror
    lock: Lock
    journal_file: Path
    log: Callable[[str], None]

    def publish(self, stage: Stage, new: Refs) -> Published:
        """Make the mirror's refs those of the stage, as far as the plan allows.

        The run is confirmed right before anything changes, and not at all if nothing does.
        """
        link(stage.repository, self.mirror.path)
        old = self.refs()
        plan = make_plan(old, new.values, _History(self.git, stage), self.run.terms)
        final = _after(old, plan)
        head = new.head if new.head in final or not _is_branch(new.head) else None
        old_head = read_head(self.mirror.path)
        head_moves = head is not None and head != old_head
        commits = self._count_commits(stage, old, plan)
        deeper = _shallow(stage.repository) != _shallow(self.mirror.path)
        kept = Kept.of(self.git, self.mirror, self.run.ref_retention)
        journal = self._journal({**old, "HEAD": _head_value(old_head)}, plan)
        if plan.changes or head_moves or deeper or kept.outdated:
            self.run.confirm()
            journal.intend(self.mirror.job_id, _all_changes(plan, old_head, head, head_moves))
            journal.write(self.journal_file)
            self._change(stage, plan, head if head_moves else None, old_head)
            self._forget(kept)
            journal.done()
        journal.write(self.journal_file)
        # What is held is news to each run, until a person has decided.
        in_line = Refs(final, new.head) if plan.held else new
        self.mirror.finish(in_line.fingerprint(), kept.after(self.mirror.job_id, plan))
        return Published(plan, head_moves or deeper, commits)

    def refs(self) -> dict[str, str]:
        """The branches and tags that the mirror has now."""
        return list_refs(self.git, self.mirror.path)

    def tidy(self) -> None:
        """Keep the number of packs within bounds. Geometric: only as much work as came in lately.

        git before 2.32 cannot do that, and puts all packs into one.
        """
        packs = list((self.mirror.path / "objects/pack").glob("*.pack"))
        state = self.mirror.state()
        if len(packs) <= MOST_PACKS or state is None or state.fingerprint is None:
            return
        self.log(f"Putting {len(packs)} packs together.")
        try:
            self._tool("repack", "-d", "-q", "--no-write-bitmap-index", "--geometric=2")
        except ToolFailed as failed:
            if failed.finished.code != _USAGE_ERROR:
                raise
            self._tool("repack", "-a", "-d", "-q")
        self._tool("pack-refs", "--all")
        self.mirror.finish(state.fingerprint)

    def _journal(self, present: Mapping[str, str], plan: Plan) -> Journal:
        """What the database has not been told yet, and what this run holds back."""
        journal = Journal.read(self.journal_file)
        journal.settle(self.run.told, present)
        journal.hold(self.mirror.job_id, [*plan.held, *plan.kept])
        return journal

    def _change(self, stage: Stage, plan: Plan, head: str | None, old_head: str) -> None:
        self.mirror.begin()
        self.mirror.clear_litter()
        move_objects(stage.repository, self.mirror.path)
        self._move_shallow(stage)
        self._check_connected(plan)
        keep = f"{KEEP}{self.mirror.job_id}/"
        first, second = deletions(plan, keep), updates(plan)
        if head is not None and not _is_branch(old_head):
            first.append(_create(f"{keep}HEAD", old_head))
        if head is not None and not _is_branch(head):
            second += [b"option no-deref\0", _update("HEAD", head, None)]
        self._write(first)
        self._write(second)
        if _is_branch(head):
            self._tool("symbolic-ref", "HEAD", str(head))
        if len(plan.changes) > MOST_LOOSE_REFS:
            self._tool("pack-refs", "--all")
        self._tell(plan)

    def _check_connected(self, plan: Plan) -> None:
        """Make sure that nothing is missing which the new refs need. Raises ToolFailed."""
        new = {change.new for change in plan.changes if change.new}
        if new:
            text = "".join(f"{value}\n" for value in new)
            self._tool(
                "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all", text=text.encode()
            )

    def _forget(self, kept: Kept) -> None:
        """Let go of what refs were, when that is long ago, and of what only they needed."""
        if kept.outdated:
            self._write([_line("delete", name, "") for name in kept.outdated])
            self._tool("repack", "-a", "-d", "-q")
            self.log(f"Forgot what {len(kept.outdated)} refs were long ago.")

    def _write(self, lines: Sequence[bytes]) -> None:
        write_refs(self.git, self.mirror, self.lock, lines)

    def _tool(self, *args: str, text: bytes | None = None) -> None:
        self.git(*args, repository=self.mirror.path, text=text, keep_open=(self.lock.fd,))

    def _move_shallow(self, stage: Stage) -> None:
        """A mirror of a shallow repository is as shallow as that is now."""
        new, old = stage.repository / "shallow", self.mirror.path / "shallow"
        if new.exists():
            new.replace(old)
        else:
            old.unlink(missing_ok=True)

    def _count_commits(self, stage: Stage, old: Mapping[str, str], plan: Plan) -> int:
        there = set(old.values())
        new = {change.new for change in plan.changes if change.new} - there
        if not new:
            return 0
        text = "".join([f"{value}\n" for value in new] + [f"^{value}\n" for value in there])
        counted = self.git(
            "rev-list", "--count", "--stdin", repository=stage.repository, text=text.encode()
        )
        return int(counted.out)

    def _tell(self, plan: Plan) -> None:
        for change in plan.changes[:MOST_LINES]:
            self.log(f"{change.kind:>9} {change.name} {_short(change.old)} {_short(change.new)}")
        if len(plan.changes) > MOST_LINES:
            self.log(f"and {len(plan.changes) - MOST_LINES} more refs")


@dataclass(frozen=True, slots=True)
class Kept:
    """What refs of a mirror were, kept under the runs that have changed them."""

    since: Mapping[str, float]
    """By job id, for those that stay."""
    outdated: Sequence[str] = ()
    """The names of the refs that have been kept for long enough."""

    @classmethod
    def of(cls, git: Git, mirror: Mirror, retention: float) -> Kept:
        """Look through a mirror. What it does not remember the time of, begins now."""
        state = mirror.state()
        known = state.kept if state is not None else {}
        listing = git("for-each-ref", "--format=%(refname)", KEEP, repository=mirror.path).out
        names = listing.decode("utf-8", "surrogateescape").split()
        time_now = time.time()
        since = {job: known.get(job, time_now) for job in {name.split("/")[2] for name in names}}
        stays = {job: start for job, start in since.items() if start >= time_now - retention}
        return cls(stays, [name for name in names if name.split("/")[2] not in stays])

    def after(self, job_id: int, plan: Plan) -> dict[str, float]:
        """Since when what is kept after a run with this plan."""
        new = {str(job_id): time.time()} if plan.of("deleted", "rewritten") else {}
        return {**new, **self.since}


@dataclass(frozen=True, slots=True)
class _History:
    """The commits of a stage: those of the mirror, which it borrows, and the new ones."""

    git: Git
    stage: Stage

    def is_ancestor(self, old: str, new: str) -> bool:
        return self.git.succeeds(
            "merge-base", "--is-ancestor", old, new, repository=self.stage.repository
        )

    def count_lost(self, old: Iterable[str], still: Iterable[str]) -> int:
        text = "".join([*(f"{value}\n" for value in old), *(f"^{value}\n" for value in still)])
        counted = self.git(
            "rev-list", "--count", "--stdin", repository=self.stage.repository, text=text.encode()
        )
        return int(counted.out)


def list_refs(git: Git, repository: Path) -> dict[str, str]:
    """Return the branches and tags of a repository of the store."""
    listing = git(
        "for-each-ref",
        "--format=%(objectname) %(refname)",
        BRANCHES,
        TAGS,
        repository=repository,
    )
    return parse_refs(listing.out)


def link(repository: Path, mirror: Path) -> None:
    """Let a staged repository borrow the objects of a mirror."""
    objects = repository / "objects"
    (objects / "info").mkdir(parents=True, exist_ok=True)
    # Relative, so that nothing in the name of the store can be misread.
    borrowed = os.path.relpath(mirror / "objects", objects)
    (objects / "info/alternates").write_text(f"{borrowed}\n")


def move_objects(repository: Path, mirror: Path) -> None:
    """Move all objects of a staged repository into a mirror: an index after its pack."""
    source, target = repository / "objects", mirror / "objects"
    for folder in sorted(source.iterdir()):
        if folder.name == "info":
            continue
        (target / folder.name).mkdir(exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: (file.suffix == ".idx", file.name)):
            if not file.name.startswith("tmp_") and file.suffix != ".keep":
                place = target / folder.name / file.name
                if not place.exists():
                    shutil.move(file, place)


def _after(old: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """The refs of a mirror when a plan has been carried out."""
    final = dict(old)
    for change in plan.changes:
        if change.new is None:
            del final[change.name]
        else:
            final[change.name] = change.new
    return final


def write_refs(git: Git, mirror: Mirror, lock: Lock, lines: Sequence[bytes]) -> None:
    """Change refs of a mirror, all of them or none. ``lines`` are those of git's update-ref."""
    # "start" and "commit" make it one thing even when this process dies in the middle of it.
    if lines:
        text = b"".join([b"start\0", *lines, b"commit\0"])
        git(
            "update-ref", "-z", "--stdin",
            repository=mirror.path, text=text, keep_open=(lock.fd,),
        )  # fmt: skip


def deletions(plan: Plan, keep: str) -> list[bytes]:
    """Lines that delete what goes, and keep what it was, and what rewritten refs were."""
    lines = []
    for change in plan.of("deleted", "rewritten"):
        lines.append(_create(keep + change.name.removeprefix("refs/"), str(change.old)))
        if change.kind == "deleted":
            lines.append(_line("delete", change.name, str(change.old)))
    return lines


def updates(plan: Plan) -> list[bytes]:
    """Lines that make what is new, and move what moves."""
    return [
        _create(change.name, str(change.new))
        if change.old is None
        else _update(change.name, str(change.new), change.old)
        for change in plan.of("new", "updated", "rewritten")
    ]


def _create(name: str, value: str) -> bytes:
    return _line("create", name, value)


def _update(name: str, value: str, old: str | None) -> bytes:
    return _line("update", name, value, old or "")


def _line(command: str, name: str, *values: str) -> bytes:
    return "\0".join([f"{command} {name}", *values, ""]).encode("utf-8", "surrogateescape")


def all_new(refs: Refs, head: str) -> list[Change]:
    """The changes that a first mirror is made of."""
    new = [Change(name, None, value, "new") for name, value in refs.values.items()]
    return [*new, Change("HEAD", None, _head_value(head), "new")]


def _all_changes(plan: Plan, old_head: str, head: str | None, head_moves: bool) -> list[Change]:
    """What a plan changes, and HEAD if it moves."""
    if head is None or not head_moves:
        return list(plan.changes)
    return [
        *plan.changes,
        Change("HEAD", _head_value(old_head), _head_value(head), "updated"),
    ]


def _head_value(head: str) -> str:
    return f"ref: {ref_text(head)}" if _is_branch(head) else head


def _shallow(repository: Path) -> bytes:
    file = repository / "shallow"
    return file.read_bytes() if file.exists() else b""


def _is_branch(head: str | None) -> bool:
    return head is not None and head.startswith("refs/")


def _short(value: str | None) -> str:
    return value[:12] if value else "-"
