"""From the revisions of files to commits, branches and tags.

CVS keeps a history for each file. Which revisions were one change has to be found out: those with
the same commit id, or, from before there were any, with the same author and message within
``FUZZ`` seconds. Revisions are taken in the order of their dates, and never before the one that
they came from, so that a commit depends on nothing that is younger: a history that grows keeps the
commits that it had.

A branch and a tag have the very files that CVS has for them. Where no commit has these, one is made
that has: on top of the earliest commit that has most of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cvs_log import File, Number, Revision

FUZZ = 300
"""Seconds between two revisions of one change, when only author and message say that it is one."""
NOBODY = b"nobody"
"""Who has made the commits that CVS does not have."""
AUTOMATIC = b"Initial revision\n"
"""The message of the first revision that ``cvs import`` puts below the ones it imports."""

Files = dict[bytes, "Revision"]
Change = tuple[bytes, "Revision | None"]
"""What becomes of a path; None: it goes."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit changes on top of its parent."""

    parent: int | None
    changes: list[Change]
    author: bytes
    date: int
    log: bytes


@dataclass(slots=True)
class History:
    """Commits, each after its parent, and at which of them branches and tags are."""

    commits: list[Commit] = field(default_factory=list)
    trunk: list[int] = field(default_factory=list)
    """What the trunk has been at, the oldest first."""
    branches: dict[str, list[int]] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Line:
    """A line of development: the trunk, or a branch."""

    name: str | None
    begins_with: Files = field(default_factory=dict)
    """What it had before its first change."""
    root: int | None = None
    started: bool = False
    commits: list[int] = field(default_factory=list)
    files: Files = field(default_factory=dict)
    """What it has now."""
    counts: list[int] = field(default_factory=list)
    """How many files it had at each place; place 0 is its begin, 1 is after its first commit."""
    past: dict[bytes, list[tuple[int, Revision | None]]] = field(default_factory=dict)
    """For each path, from which place on it was which revision."""
    index: dict[tuple[bytes, Number], int] = field(default_factory=dict)
    """Where in the past of its path a revision is."""

    def begin(self, root: int | None) -> None:
        self.started = True
        self.root = root
        self.files = dict(self.begins_with)
        self.counts = [len(self.files)]
        self._note(self.files.items())

    def change(self, changes: Iterable[Change], commit: int) -> None:
        self.commits.append(commit)
        for path, revision in changes:
            if revision is None:
                del self.files[path]
            else:
                self.files[path] = revision
        self._note(changes)
        self.counts.append(len(self.files))

    def _note(self, changes: Iterable[Change]) -> None:
        for path, revision in changes:
            past = self.past.setdefault(path, [])
            if revision is not None:
                self.index[path, revision.number] = len(past)
            past.append((len(self.commits), revision))

    def tip(self) -> int | None:
        return self.commits[-1] if self.commits else self.root

    def tips(self) -> list[int]:
        return self.commits if self.root is None else [self.root, *self.commits]

    def commit_at(self, place: int) -> int | None:
        return self.root if place == 0 else self.commits[place - 1]

    def files_at(self, place: int) -> Files:
        found = {}
        for path, past in self.past.items():
            at = bisect_right(past, place, key=lambda entry: entry[0])
            revision = past[at - 1][1] if at else None
            if revision is not None:
                found[path] = revision
        return found

    def best_place(self, wanted: Files) -> tuple[int | None, bool]:
        """The earliest place that has most of the wanted files, and whether it has no others.

        Of several places that have all of them, it is the first that has no others.
        """
        changes: Counter[int] = Counter()
        for path, revision in wanted.items():
            at = self.index.get((path, revision.number))
            if at is not None:
                past = self.past[path]
                changes[past[at][0]] += 1
                if at + 1 < len(past):
                    changes[past[at + 1][0]] -= 1
        best, place_of_best, count = 0, None, 0
        for place in sorted(changes):
            count += changes[place]
            if count > best:
                best, place_of_best = count, place
        if place_of_best is None or best < len(wanted):
            return place_of_best, False
        ends = (each for each, change in changes.items() if each > place_of_best and change < 0)
        end = min(ends, default=len(self.counts))
        exact = (each for each in range(place_of_best, end) if self.counts[each] == best)
        found = next(exact, None)
        return (place_of_best, False) if found is None else (found, True)


@dataclass(slots=True, eq=False)
class _Group:
    """Revisions of one change, on one line."""

    line: _Line
    order: int
    last: int
    """When its youngest revision was made."""
    revisions: dict[bytes, Revision] = field(default_factory=dict)


def build(files: Iterable[File]) -> History:
    """Find the history that the revisions of files come from."""
    # One that is in the Attic and outside of it too is the one outside.
    paths = {file.path: file for file in sorted(files, key=lambda file: not file.attic)}
    return _Builder([paths[path] for path in sorted(paths)]).build()


class _Builder:
    def __init__(self, files: list[File]) -> None:
        self._history = History()
        self._files = files
        self._made: dict[Revision, int] = {}  # When a revision counts as made.
        self._trunk = _Line(None)
        self._on_trunk: set[Revision] = set()
        self._lines: dict[str, _Line] = {}
        self._names: dict[tuple[bytes, Number], list[str]] = {}  # Of the branches of a file.
        self._changes: list[tuple[_Line, Revision]] = []

    def build(self) -> History:
        for file in self._files:
            self._read_trunk(file)
        for name in self._find_branches():
            self._read_branch(name)
        self._commit()
        for line in self._lines.values():
            self._start(line)
        self._name_branches()
        self._make_tags()
        self._count_nameless()
        return self._history

    # --- lines ---

    def _read_trunk(self, file: File) -> None:
        revisions = _on_trunk(file)
        self._on_trunk.update(revisions)
        self._follow(self._trunk, revisions, 0)

    def _follow(self, line: _Line, revisions: Iterable[Revision], made: int) -> None:
        """Put the revisions of a file on a line, each made no earlier than the one before."""
        for revision in revisions:
            made = max(revision.date, made)
            self._made.setdefault(revision, made)
            self._changes.append((line, revision))

    def _find_branches(self) -> list[str]:
        """The names of all branches, those of the trunk's revisions before those of others."""
        depths: dict[str, int] = {}
        for file in self._files:
            for name, number in file.symbols.items():
                branch = _branch(number)
                if branch is not None:
                    depths[name] = max(len(branch), depths.get(name, 0))
                    self._names.setdefault((file.path, branch), []).append(name)
        return sorted(depths, key=lambda name: (depths[name], name))

    def _read_branch(self, name: str) -> None:
        line = self._lines[name] = _Line(name)
        roots: list[Revision] = []
        begin: list[Revision] = []
        for file in self._files:
            number = file.symbols.get(name)
            if number is None:
                continue
            branch = _branch(number)
            root = _root(file, number if branch is None else branch[:-1])
            revisions = [each for each in _in_order(file) if each.number[:-1] == branch]
            self._follow(line, revisions, self._made_at(root))
            begin += revisions[:1]
            if root is not None and not _was_added(revisions, root):
                roots.append(root)
        first = min((self._made[revision] for revision in begin), default=None)
        for root in roots:
            if root.dead:
                continue
            made = self._made_at(root)
            if first is None or made <= first:
                line.begins_with[root.path] = root
            else:  # The branch was there when the file came to it.
                late = replace(root, log=f"Add files to branch {name}\n".encode())
                self._made[late] = made
                self._changes.append((line, late))

    def _made_at(self, revision: Revision | None) -> int:
        return 0 if revision is None else self._made.get(revision, revision.date)

    # --- commits ---

    def _commit(self) -> None:
        for group in self._groups():
            line = group.line
            if not line.started:
                self._start(line)
            changes: list[Change] = []
            for path, revision in sorted(group.revisions.items()):
                if not revision.dead:
                    changes.append((path, revision))
                elif path in line.files:
                    changes.append((path, None))
            if changes:
                one = next(iter(group.revisions.values()))
                commit = Commit(line.tip(), changes, one.author, group.last, one.log)
                line.change(changes, self._add(commit))

    def _groups(self) -> list[_Group]:
        """Revisions that were one change, in the order in which the changes began."""
        orders = {line: at for at, line in enumerate([self._trunk, *self._lines.values()])}
        self._changes.sort(
            key=lambda change: (
                self._made[change[1]], orders[change[0]], change[1].path, change[1].number,
            )
        )  # fmt: skip
        groups: list[_Group] = []
        open_groups: dict[tuple[object, ...], _Group] = {}
        latest: dict[tuple[_Line, bytes], int] = {}
        for line, revision in self._changes:
            made = self._made[revision]
            key: tuple[object, ...] = (line, revision.author, revision.log, revision.commit_id)
            group = open_groups.get(key)
            if (
                group is None
                or revision.path in group.revisions
                or latest.get((line, revision.path), -1) > group.order
                or (not revision.commit_id and made > group.last + FUZZ)
            ):
                group = open_groups[key] = _Group(line, len(groups), made)
                groups.append(group)
            group.last = max(group.last, made)
            group.revisions[revision.path] = revision
            latest[line, revision.path] = group.order
        return groups

    def _add(self, commit: Commit) -> int:
        self._history.commits.append(commit)
        return len(self._history.commits) - 1

    def _start(self, line: _Line) -> None:
        """Begin a branch where its files were, as far as there is such a commit."""
        if line.started:
            return
        line.started = True  # Also for a branch that would come from itself.
        root = None
        if line.begins_with:
            parent = self._home(line.begins_with, but=line)
            root = self._find(parent, line.begins_with, f"Create branch {line.name}\n")
        line.begin(root)

    def _home(self, files: Files, but: _Line | None = None) -> _Line:
        """The line that most of the revisions were made on; a branch comes before the trunk."""
        aside = [each for each in files.values() if each not in self._on_trunk]
        if not aside and all(len(each.number) > 2 for each in files.values()):
            aside = list(files.values())  # A release as it was imported.
        found = Counter(
            self._lines[name]
            for each in aside
            for name in self._names.get((each.path, each.number[:-1]), ())
            if self._lines[name] is not but
        )
        line = min(found, key=lambda each: (-found[each], each.name), default=self._trunk)
        if not line.started:
            self._start(line)
        return line

    def _find(self, line: _Line, wanted: Files, log: str) -> int | None:
        """The commit that has these very files, which is made if there is none."""
        place, exact = line.best_place(wanted)
        parent = None if place is None else line.commit_at(place)
        if exact and parent is not None:
            return parent
        present = {} if place is None else line.files_at(place)
        changes: list[Change] = [
            (path, wanted.get(path))
            for path in sorted(present.keys() | wanted.keys())
            if not _same(present.get(path), wanted.get(path))
        ]
        date = max((self._made_at(revision) for revision in wanted.values()), default=0)
        if parent is not None:
            date = max(date, self._history.commits[parent].date)
        return self._add(Commit(parent, changes, NOBODY, date, log.encode()))

    # --- names ---

    def _name_branches(self) -> None:
        self._history.trunk = self._trunk.tips()
        for name, line in self._lines.items():
            if tips := line.tips():
                self._history.branches[name] = tips

    def _make_tags(self) -> None:
        tags: dict[str, Files] = {}
        for file in self._files:
            for name, number in file.symbols.items():
                revision = file.revisions.get(number)
                if name not in self._lines and revision is not None and not revision.dead:
                    tags.setdefault(name, {})[file.path] = revision
        for name in sorted(tags):
            line = self._home(tags[name])
            commit = self._find(line, tags[name], f"Create tag {name}\n")
            if commit is not None:
                self._history.tags[name] = commit

    def _count_nameless(self) -> None:
        count = sum(
            1
            for file in self._files
            for number in file.revisions
            if len(number) > 2 and (file.path, number[:-1]) not in self._names
            and number[:-1] != file.default_branch
        )  # fmt: skip
        if count:
            self._history.left_out.append(f"{count:,} revisions on branches that have no name")


def _same(one: Revision | None, other: Revision | None) -> bool:
    """Whether two revisions of a path are the same content."""
    return one is other or (one is not None and other is not None and one.number == other.number)


def _branch(number: Number) -> Number | None:
    """The branch that a symbol stands for: 1.2.0.4 is 1.2.4, and 1.1.1 is what it is."""
    if len(number) % 2:
        return number if len(number) > 1 else None
    if len(number) > 2 and number[-2] == 0:
        return (*number[:-2], number[-1])
    return None


def _root(file: File, number: Number) -> Revision | None:
    """The revision that a branch begins with; none if cvs import has made it for the purpose."""
    root = file.revisions.get(number)
    return None if root is not None and root.number == _automatic(file) else root


def _was_added(revisions: list[Revision], root: Revision) -> bool:
    """Whether a file came to the branch only by a change there: cvs add notes that it had gone
    when the branch began."""
    return bool(revisions) and revisions[0].dead and revisions[0].date == root.date


def _in_order(file: File) -> list[Revision]:
    return [file.revisions[number] for number in sorted(file.revisions)]


def _on_trunk(file: File) -> list[Revision]:
    """What HEAD has been: the trunk, and before its first change what was imported."""
    trunk = [revision for revision in _in_order(file) if len(revision.number) == 2]
    vendor = file.default_branch or (1, 1, 1)
    imported = [each for each in _in_order(file) if each.number[:-1] == vendor]
    if file.default_branch is None:
        if _automatic(file) is None or len(trunk) < 2:
            return trunk
        imported = [each for each in imported if each.date <= trunk[1].date]
    if _automatic(file) is not None:
        return [*imported, *trunk[1:]]
    first = [each for each in trunk if each.number <= vendor[:-1]]
    return [*first, *imported, *trunk[len(first) :]]


def _automatic(file: File) -> Number | None:
    """The number of the first revision, if it only is there because one was imported."""
    first, imported = file.revisions.get((1, 1)), file.revisions.get((1, 1, 1, 1))
    if first is None or imported is None or first.log != AUTOMATIC:
        return None
    return first.number if abs(first.date - imported.date) <= 1 else None
