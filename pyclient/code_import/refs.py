"""Refs: what a repository says it has, what changed, and what of it may be published.

A mirror has the branches and the tags of its source, and its HEAD. It has no other refs: a clone of
the source gets none of them either, and on some hosts ``refs/pull`` and its like outnumber the
branches by far. What a branch or a tag was before it was rewritten or deleted stays in the mirror
under ``refs/keep/<job id>/``, which it shows to nobody, for as long as the journal is kept.

Names are ``str`` with surrogate escapes: git allows any bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
KEEP = "refs/keep/"

FEW_REFS = 10
"""So many branches, or tags, may go at once from any mirror that may lose something at all."""
FEW_COMMITS = 100
"""So many commits may be lost at once from any mirror that may lose something at all."""

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
class Terms:
    """What people have decided about one mirror."""

    maximum_loss_percent: int = 50
    """A run that would lose more of the branches, the tags or the commits holds it back."""
    accepted: Mapping[str, str | None] = field(default_factory=dict)
    """Changes that were held and may be published: the new value by the ref's name."""
    kept: frozenset[str] = frozenset()
    """Refs that stay as they are in the mirror, whatever the source loses of them."""

    def decides(self, change: Change) -> bool:
        """Whether a person has spoken about this very change."""
        return change.name in self.kept or self.accepts(change)

    def accepts(self, change: Change) -> bool:
        return change.name in self.accepted and self.accepted[change.name] == change.new


class History(Protocol):
    """What is asked about commits, old ones of the mirror and new ones of its source."""

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` has all of the history of ``old``."""

    def count_lost(self, old: Iterable[str], still: Iterable[str]) -> int:
        """How many commits can be reached from ``old``, and from nothing in ``still``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes to publish, and those that are not: ``held`` ones until a person has looked,
    ``kept`` ones because a person wants it so."""

    changes: Sequence[Change]
    held: Sequence[Change] = ()
    kept: Sequence[Change] = ()

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
    old: Mapping[str, str], new: Mapping[str, str], history: History, terms: Terms
) -> Plan:
    """Compare what a mirror has with what its source has, and decide what to publish.

    Changes are held back when they would lose so much that they look like an accident or an
    attack: the last branch; more than ``maximum_loss_percent`` of the branches, or of the tags, and
    more than ``FEW_REFS`` (a ref whose value goes on under another name is not counted); or more
    than that of the commits, and more than ``FEW_COMMITS``. Tidying up after merges stays below
    that; a host that answers with an empty or somebody else's repository does not, nor does a
    history that was written anew. New refs that cannot be beside a held one are held too. What
    people have decided comes first; but a mirror is never emptied.
    """
    changes = [_change(name, old.get(name), new.get(name), history) for name in {**old, **new}]
    changes = [change for change in changes if change.old != change.new]
    losses = [change for change in changes if change.kind in ("deleted", "rewritten")]
    open_losses = [change for change in losses if not terms.decides(change)]
    if not new:
        held = [change for change in losses if change.name not in terms.kept]
    else:
        held = _too_many(old, new, open_losses, terms)
        rest = [change for change in open_losses if change not in held]
        held += _too_much(old, new, rest, history, terms)
    kept = [change for change in losses if change.name in terms.kept]
    held += _in_the_way([*held, *kept], changes)
    refused = {change.name for change in [*held, *kept]}
    return Plan([change for change in changes if change.name not in refused], held, kept)


def _change(name: str, old: str | None, new: str | None, history: History) -> Change:
    if new is None:
        return Change(name, old, None, "deleted")
    if old is None:
        return Change(name, None, new, "new")
    if old == new:
        return Change(name, old, new, "updated")
    grows = name.startswith(BRANCHES) and history.is_ancestor(old, new)
    return Change(name, old, new, "updated" if grows else "rewritten")


def _too_many(
    old: Mapping[str, str], new: Mapping[str, str], losses: Iterable[Change], terms: Terms
) -> list[Change]:
    """The deletions of branches and of tags, each of them if they are too many."""
    still_there = set(new.values())
    held: list[Change] = []
    for prefix in (BRANCHES, TAGS):
        going = [each for each in losses if each.kind == "deleted" and each.name.startswith(prefix)]
        lost = sum(change.old not in still_there for change in going)
        before = sum(name.startswith(prefix) for name in old)
        after = sum(name.startswith(prefix) for name in new)
        is_last = prefix == BRANCHES and going and not after
        if is_last or _is_beyond(lost, before, FEW_REFS, terms):
            held += going
    return held


def _too_much(
    old: Mapping[str, str],
    new: Mapping[str, str],
    losses: Sequence[Change],
    history: History,
    terms: Terms,
) -> list[Change]:
    """Whatever loses commits, if it loses too many of them."""
    if not losses or terms.maximum_loss_percent == 100:
        return []
    lost = history.count_lost([str(change.old) for change in losses], new.values())
    if lost <= _few(FEW_COMMITS, terms):
        return []
    before = history.count_lost(old.values(), ())
    return list(losses) if _is_beyond(lost, before, FEW_COMMITS, terms) else []


def _is_beyond(lost: int, before: int, few: int, terms: Terms) -> bool:
    return lost > _few(few, terms) and lost * 100 > before * terms.maximum_loss_percent


def _few(few: int, terms: Terms) -> int:
    return few if terms.maximum_loss_percent else 0


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
