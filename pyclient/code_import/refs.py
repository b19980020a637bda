"""Refs: what a repository says it has, what changed, and what of it may be published.

A mirror has the branches and the tags of its source, and its HEAD. It has no other refs: a clone of
the source gets none of them either, and on some hosts ``refs/pull`` and its like outnumber the
branches by far. What a branch or a tag was before it was rewritten or deleted stays in the mirror
under ``refs/keep/<job id>/``, which it shows to nobody.

Names are ``str`` with surrogate escapes: git allows any bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
KEEP = "refs/keep/"

FEW_DELETIONS = 10
"""So many branches, or tags, may go at once from any mirror without a question."""

Kind = Literal["new", "updated", "rewritten", "deleted"]


@dataclass(frozen=True, slots=True)
class Refs:
    """The branches and tags of a repository, by their full names, and its HEAD.

    ``head`` is the full name of a branch, an object id when HEAD is detached, or None when it is
    not known: a source does not tell the name of a branch that has no commit.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None

    def __bool__(self) -> bool:
        return bool(self.values)

    def count(self, prefix: str) -> int:
        return sum(name.startswith(prefix) for name in self.values)

    def fingerprint(self) -> str:
        """A hash of all of it: equal when and only when the refs and HEAD are."""
        lines = [f"{value} {name}" for name, value in self.values.items()]
        text = "\n".join([*sorted(lines), f"HEAD {self.head}"])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def describe(self) -> str:
        branches, tags = self.count(BRANCHES), self.count(TAGS)
        return f"{counted(branches, 'branch', 'branches')} and {counted(tags, 'tag', 'tags')}"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one ref. ``old`` is None when it is new, ``new`` when it goes."""

    name: str
    old: str | None
    new: str | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes to publish, and those that are held back until a person has looked."""

    changes: Sequence[Change]
    held: Sequence[Change] = ()

    def of(self, *kinds: Kind) -> list[Change]:
        return [change for change in self.changes if change.kind in kinds]

    def describe(self) -> str:
        """``2 new, 1 updated``; nothing that is nought is mentioned."""
        kinds: tuple[Kind, ...] = ("new", "updated", "rewritten", "deleted")
        counts = [(len(self.of(kind)), kind) for kind in kinds]
        return ", ".join(f"{count} {kind}" for count, kind in counts if count) or "none changed"


def parse_listing(listing: bytes) -> Refs:
    """Read the refs from what ``git ls-remote --symref`` prints.

    Where HEAD is not said to be a branch, but is where some branches are, it counts as one of
    them, and as the same one that git takes in a clone. An old server does not say more.
    """
    values: dict[str, str] = {}
    head: str | None = None
    symref: str | None = None
    for line in listing.decode("utf-8", "surrogateescape").split("\n"):
        value, _, name = line.partition("\t")
        if name == "HEAD":
            if value.startswith("ref: "):
                symref = value.removeprefix("ref: ")
            else:
                head = value
        elif name.startswith((BRANCHES, TAGS)) and not name.endswith("^{}"):
            values[name] = value
    if symref is None:
        return Refs(values, _branch_at(values, head) or head)
    return Refs(values, symref if symref.startswith(BRANCHES) and symref in values else head)


def parse_refs(listing: bytes) -> dict[str, str]:
    """Read lines of an object id, a space, and a name."""
    lines = listing.decode("utf-8", "surrogateescape").split("\n")
    pairs = (line.partition(" ") for line in lines if line)
    return {name: value for value, _, name in pairs}


def _branch_at(values: Mapping[str, str], head: str | None) -> str | None:
    there = sorted(
        name for name, value in values.items() if value == head and name.startswith(BRANCHES)
    )
    master = BRANCHES + "master"
    return master if master in there else next(iter(there), None)


def make_plan(
    old: Mapping[str, str],
    new: Mapping[str, str],
    is_ancestor: Callable[[str, str], bool],
    *,
    accept_deletions: bool = False,
) -> Plan:
    """Compare what a mirror has with what its source has, and decide what to publish.

    Deletions are held back when there are so many that they look like an accident or an attack:
    the last branch, or more than half of the branches or of the tags and more than
    ``FEW_DELETIONS`` (a ref whose value goes on under another name is not counted). Tidying up
    after merges stays below that; a host that answers with an empty or somebody else's repository
    does not. New refs that cannot be beside a held one are held too. ``accept_deletions`` says
    that a person has looked; even then, a mirror is never emptied.
    """
    changes = [_change(name, old.get(name), new.get(name), is_ancestor) for name in {**old, **new}]
    changes = [change for change in changes if change.old != change.new]
    gone = [change for change in changes if change.kind == "deleted"]
    held = [] if accept_deletions and new else _too_many(old, new, gone)
    if held:
        held += _in_the_way(held, changes)
    refused = {change.name for change in held}
    return Plan([change for change in changes if change.name not in refused], held)


def _change(
    name: str, old: str | None, new: str | None, is_ancestor: Callable[[str, str], bool]
) -> Change:
    if new is None:
        return Change(name, old, None, "deleted")
    if old is None:
        return Change(name, None, new, "new")
    if old == new:
        return Change(name, old, new, "updated")
    grows = name.startswith(BRANCHES) and is_ancestor(old, new)
    return Change(name, old, new, "updated" if grows else "rewritten")


def _too_many(
    old: Mapping[str, str], new: Mapping[str, str], gone: Iterable[Change]
) -> list[Change]:
    if not new:
        return list(gone)
    still_there = set(new.values())
    held: list[Change] = []
    for prefix in (BRANCHES, TAGS):
        going = [change for change in gone if change.name.startswith(prefix)]
        lost = sum(change.old not in still_there for change in going)
        before = sum(name.startswith(prefix) for name in old)
        after = sum(name.startswith(prefix) for name in new)
        many = lost > FEW_DELETIONS and lost * 2 > before
        if many or (prefix == BRANCHES and going and not after):
            held += going
    return held


def _in_the_way(held: Iterable[Change], changes: Iterable[Change]) -> list[Change]:
    """New refs that would be a folder of a held one, or be inside of one."""
    names = {change.name for change in held}
    folders = {parent for name in names for parent in _parents(name)}
    return [
        change
        for change in changes
        if change.kind == "new"
        and (change.name in folders or not names.isdisjoint(_parents(change.name)))
    ]


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(3, len(parts))]


def counted(count: int, one: str, many: str) -> str:
    """``1 branch``, ``2 branches``."""
    return f"{count} {one if count == 1 else many}"
