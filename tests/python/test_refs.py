"""Refs: what a listing says, what a plan does with it, and what it holds back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from code_import.refs import (
    FEW_COMMITS,
    FEW_REFS,
    Plan,
    Refs,
    Terms,
    make_plan,
    parse_listing,
    parse_refs,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

A, B, C = ("a" * 40, "b" * 40, "c" * 40)


@dataclass
class Counted:
    """A history where B is a descendant of A and nothing else is of anything, and losses count."""

    lost: int = 0
    before: int = 1_000

    def is_ancestor(self, old: str, new: str) -> bool:
        return (old, new) == (A, B)

    def count_lost(self, old: Iterable[str], still: Iterable[str]) -> int:
        return self.lost if list(still) else self.before


def plan(
    old: dict[str, str],
    new: dict[str, str],
    *,
    accept: bool = False,
    terms: Terms | None = None,
    lost: int = 0,
) -> Plan:
    """A plan; ``accept`` says that a person accepts whatever the source has."""
    accepted = {name: new.get(name) for name in old} if accept else {}
    return make_plan(old, new, Counted(lost), terms or Terms(accepted=accepted))


def test_a_listing_gives_branches_tags_and_head_and_nothing_else() -> None:
    listing = (
        f"ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n{B}\trefs/pull/1/head\n"
        f"{B}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n{C}\trefs/notes/commits\n"
    )
    refs = parse_listing(listing.encode())
    assert refs == Refs({"refs/heads/main": A, "refs/tags/v1": B}, "refs/heads/main")
    assert refs.describe() == "1 branch and 1 tag"


def test_head_without_a_name_is_a_branch_where_there_is_one() -> None:
    both = f"{A}\trefs/heads/a\n{A}\trefs/heads/master\n"
    assert parse_listing(f"{A}\tHEAD\n{both}".encode()).head == "refs/heads/master"
    assert parse_listing(f"{A}\tHEAD\n{A}\trefs/heads/z\n".encode()).head == "refs/heads/z"
    assert parse_listing(f"{B}\tHEAD\n{both}".encode()).head == B
    assert parse_listing(both.encode()).head is None
    elsewhere = f"ref: refs/pull/1/head\tHEAD\n{A}\tHEAD\n{both}"
    assert parse_listing(elsewhere.encode()).head == A


def test_nothing_is_listed_as_nothing() -> None:
    assert parse_listing(b"") == Refs()
    assert not parse_listing(b"")


def test_names_of_any_bytes_survive() -> None:
    [(name, value)] = parse_refs(A.encode() + b" refs/heads/caf\xe9\n").items()
    assert name.encode("utf-8", "surrogateescape") == b"refs/heads/caf\xe9"
    assert Refs({name: value}).fingerprint()


def test_a_fingerprint_tells_every_difference_and_no_order() -> None:
    one = Refs({"refs/heads/a": A, "refs/heads/b": B}, "refs/heads/a")
    assert (
        one.fingerprint()
        == Refs({"refs/heads/b": B, "refs/heads/a": A}, "refs/heads/a").fingerprint()
    )
    others = [
        Refs(one.values, "refs/heads/b"),
        Refs(one.values),
        Refs({"refs/heads/a": A}, one.head),
        Refs({"refs/heads/a": B, "refs/heads/b": A}, one.head),
        Refs(),
    ]
    assert len({refs.fingerprint() for refs in [one, *others]}) == 6


def test_changes_have_their_kinds() -> None:
    made = plan(
        {"refs/heads/same": A, "refs/heads/on": A, "refs/heads/back": B, "refs/heads/gone": A,
         "refs/tags/moved": A},
        {"refs/heads/same": A, "refs/heads/on": B, "refs/heads/back": A, "refs/heads/new": A,
         "refs/tags/moved": B},
    )  # fmt: skip
    assert {change.name: change.kind for change in made.changes} == {
        "refs/heads/on": "updated",
        "refs/heads/back": "rewritten",
        "refs/heads/gone": "deleted",
        "refs/heads/new": "new",
        "refs/tags/moved": "rewritten",
    }
    assert made.describe() == "1 new, 1 updated, 2 rewritten, 1 deleted"
    assert not made.held


def test_no_difference_is_no_change() -> None:
    assert plan({"refs/heads/a": A}, {"refs/heads/a": A}).describe() == "none changed"


def values(kind: str, count: int) -> dict[str, str]:
    return {f"refs/{kind}/{number}": f"{number:040x}" for number in range(1, count + 1)}


def test_where_the_guard_begins() -> None:
    rest = {"refs/heads/main": A}
    for kind in ("heads", "tags"):
        few, many = values(kind, FEW_REFS), values(kind, FEW_REFS + 1)
        assert not plan({**rest, **few}, rest).held
        assert len(plan({**rest, **many}, rest).held) == len(many)
        left = {f"{name}-left": value[::-1] for name, value in many.items()}
        assert not plan({**rest, **many, **left}, {**rest, **left}).held
        assert not plan({**rest, **many}, rest, accept=True).held


def test_the_last_branch_is_held_and_an_empty_source_takes_nothing() -> None:
    old = {"refs/heads/a": A, "refs/tags/t": A}
    assert [change.name for change in plan(old, {"refs/tags/t": A}).held] == ["refs/heads/a"]
    assert not plan(old, {"refs/tags/t": A}, accept=True).held
    for accept in (False, True):
        assert len(plan(old, {}, accept=accept).held) == 2


def test_a_history_that_loses_too_much_is_held() -> None:
    old = {"refs/heads/main": A, "refs/heads/dev": A, "refs/tags/v1": A}
    new = {"refs/heads/main": C, "refs/heads/dev": B, "refs/heads/new": C, "refs/tags/v1": A}
    for lost, percent, held in [
        (FEW_COMMITS, 1, False), (501, 50, True), (500, 50, False), (1_000, 100, False),
        (1, 0, True), (0, 0, False),
    ]:  # fmt: skip
        made = plan(old, new, terms=Terms(percent), lost=lost)
        assert [change.name for change in made.held] == ["refs/heads/main"] * held
        assert len(made.changes) == 3 - held


def test_who_may_lose_nothing_loses_no_ref() -> None:
    old = {"refs/heads/main": A, "refs/heads/dev": C}
    assert not plan(old, {"refs/heads/main": A}).held
    assert len(plan(old, {"refs/heads/main": A}, terms=Terms(0)).held) == 1


def test_to_accept_is_to_accept_what_was_seen() -> None:
    terms = Terms(0, accepted={"refs/heads/a": None, "refs/heads/b": B})
    old = {"refs/heads/main": A, "refs/heads/a": C, "refs/heads/b": C}
    made = plan(old, {"refs/heads/main": A, "refs/heads/b": A}, terms=terms, lost=1)
    assert [change.name for change in made.held] == ["refs/heads/b"]
    assert [change.name for change in made.changes] == ["refs/heads/a"]


def test_what_is_kept_stays_and_counts_for_nothing() -> None:
    many = values("heads", 40)
    old = {"refs/heads/main": A, "refs/heads/dev": C, **many}
    terms = Terms(kept=frozenset(many))
    made = plan(old, {"refs/heads/main": B}, terms=terms)
    assert {change.name for change in made.kept} == set(many)
    assert {change.name for change in made.changes} == {"refs/heads/main", "refs/heads/dev"}
    assert not made.held
    back = plan(old, {"refs/heads/main": A, "refs/heads/dev": C, **many}, terms=terms)
    assert not [*back.kept, *back.changes]


def test_new_refs_in_the_way_of_held_ones_are_held() -> None:
    old = {f"refs/heads/{number}/x": f"{number:040x}" for number in range(1, 20)}
    new = {"refs/heads/1": A, "refs/heads/2/x/y": A, "refs/heads/3/y": A, "refs/heads/main": A}
    made = plan(old, new)
    assert {change.name for change in made.changes} == {"refs/heads/3/y", "refs/heads/main"}
    assert len(made.held) == 21


names = st.sampled_from(
    [f"refs/{kind}/{name}" for kind in ("heads", "tags") for name in "abcdefghijklmnopqrstuvwxyz"]
)
some_refs = st.dictionaries(names, st.sampled_from([A, B, C]))


@given(old=some_refs, new=some_refs, accept=st.booleans())
def test_a_plan_is_whole_and_never_empties(
    old: dict[str, str], new: dict[str, str], accept: bool
) -> None:
    made = plan(old, new, accept=accept)
    after = dict(old)
    for change in made.changes:
        assert change.old == after.pop(change.name, None)
        if change.new is not None:
            after[change.name] = change.new
    if not made.held:
        assert after == new
    assert not old or after
    for change in made.held:
        assert after.get(change.name) == change.old
    expected = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    assert {change.name for change in [*made.changes, *made.held]} == expected
