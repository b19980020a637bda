"""Names of other systems as refs: each is one that git takes, and none is lost unsaid."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_import.importers.refnames import escape, name_refs


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("v1.0", "v1.0"),
        ("release/1", "release/1"),
        ("a b", "a%20b"),
        ("a..b", "a.%2Eb"),
        ("x.lock", "x%2Elock"),
        ("x.lock/y", "x%2Elock/y"),
        (".hidden/.x", "%2Ehidden/%2Ex"),
        ("@{now}", "@%7Bnow}"),
        ("a//b/", "a/%2Fb%2F"),
        ("end.", "end%2E"),
        ("ü", "ü"),
    ],
)
def test_what_git_does_not_take_is_written_as_in_urls(name: str, escaped: str) -> None:
    assert escape(name) == escaped


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), max_size=8))
def test_git_takes_every_name(names: list[str]) -> None:
    named, left_out = name_refs("refs/tags/", dict.fromkeys(names, "oid"))
    assert len(named) + len(left_out) == len(set(names))
    for ref in named:
        checked = subprocess.run(["git", "check-ref-format", ref], check=False)
        assert checked.returncode == 0, ref
        assert not any(other.startswith(f"{ref}/") for other in named)


def test_a_name_that_would_be_in_the_folder_of_another_is_left_out() -> None:
    values = {"a": "1", "a/b": "2", "a-b": "3", "a b": "4", "a%20b": "5"}
    named, left_out = name_refs("refs/heads/", values)
    assert named == {"refs/heads/a": "1", "refs/heads/a%20b": "4", "refs/heads/a-b": "3"}
    assert left_out == ["a%20b", "a/b"]
