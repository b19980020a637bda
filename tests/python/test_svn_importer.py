"""Subversion: what becomes of its folders, revisions and mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from code_import.importers import svn
from harness.svn_servers import Subversion, serve_svn
from harness.worlds import World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(svn.missing_tools() is not None, reason="no git svn here")


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(svn) as made:
        yield made


@pytest.fixture
def source(world: World) -> Subversion:
    return Subversion.create(world.root / "sources" / "repo")


def test_a_standard_layout_becomes_branches_and_tags(world: World, source: Subversion) -> None:
    """Each by its name, trunk as HEAD; and then there is nothing new."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    source.put("branches/dev/file", "two\n")
    source.change("cp", "HEAD", "trunk", "tags/1.0")
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert world.mirror.names() == ["refs/heads/dev", "refs/heads/trunk", "refs/tags/1.0"]
    assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert world.mirror.git("show", "dev:file") == "two"
    assert world.mirror.git("merge-base", "dev", "trunk") == world.mirror.git("rev-parse", "trunk")
    assert world.run(2, source.url).status == "success_nochange"
    source.put("trunk/file", "three\n")
    outcome = world.run(3, source.url)
    assert (outcome.status, outcome.commits) == ("success", 1)


def test_any_other_folder_is_one_line_of_history(world: World, source: Subversion) -> None:
    """The root, and one within a standard layout."""
    source.put("file", "one\n")
    assert world.run(1, source.url).status == "success", world.log
    assert world.mirror.names() == ["refs/heads/trunk"]
    source.put("trunk/file", "two\n", "mkdir", "trunk")
    outcome = world.run(2, f"{source.url}/trunk", code_import_id=2, target="two")
    assert outcome.status == "success", world.log


def test_over_svn(world: World, source: Subversion) -> None:
    """The same commits as from the disk, by whatever port it is reached."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    world.run(1, source.url)
    with serve_svn(source.path.parent) as url:
        outcome = world.run(2, f"{url}/repo")
        assert outcome.status == "success_nochange", world.log
        source.put("trunk/file", "two\n")
        assert world.run(3, f"{url}/repo").status == "success"
        outcome = world.run(4, f"{url}/repo", code_import_id=2, target="other")
        assert outcome.status == "success", world.log
    other = world.store / "other.git"
    assert type(world.mirror)(other).refs() == world.mirror.refs()
