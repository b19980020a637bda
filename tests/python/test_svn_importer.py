"""Subversion: what becomes of its folders, revisions and mistakes."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from code_import.importers import svn
from code_import.policy import allow_path
from harness.svn_servers import Subversion, grow, serve_svn
from harness.worlds import Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    assert Repository(other).refs() == world.mirror.refs()


def test_in_steps_it_comes_out_as_in_one_go(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued many times, while the source grows, over another protocol, in another store."""
    source.change("mkdir", "old", "mkdir", "old/inner")
    source.put("old/inner/first", "1\n")
    source.change("mkdir", "branches", "mkdir", "tags", "mv", "old/inner", "trunk", "rm", "old")
    grow(source, 7)
    with monkeypatch.context() as patched, serve_svn(source.path.parent) as url:
        patched.setattr(svn, "RUN_SECONDS", 0)
        patched.setattr(svn, "FIRST_WINDOW", 3)
        statuses = []
        for job_id in range(1, 40):
            if job_id == 4:
                grow(source, 6, 7)
            outcome = world.run(job_id, f"{url}/repo")
            statuses.append(outcome.status)
            if outcome.status != "success_partial":
                break
    assert statuses[-1] == "success", (outcome, world.log)
    assert len(statuses) > 8
    assert set(statuses[:-1]) == {"success_partial"}
    with new_world(svn) as other:
        allow_path(source.path, config_dir=other.root / "config")
        assert other.run(1, source.url).status == "success", other.log
        in_one_go = other.mirror.refs("refs/heads", "refs/tags")
    assert world.mirror.refs("refs/heads", "refs/tags") == in_one_go
    world.mirror.git("fsck", "--strict")


def from_elsewhere(source: Subversion) -> str:
    """Trunk comes from a folder outside of the layout, some revisions before that folder goes."""
    source.change("mkdir", "old", "mkdir", "old/inner", "mkdir", "branches", "mkdir", "tags")
    for number in range(3):
        source.put("old/inner/file", f"{number}\n")
    source.change("cp", "HEAD", "old/inner", "trunk")
    source.change("rm", "old")
    source.put("trunk/file", "last\n")
    return ""


def away_and_back(source: Subversion) -> str:
    """A project's folder is moved away, changed there, and moved back."""
    source.change("mkdir", "proj")
    source.change("mkdir", "proj/branches", "mkdir", "proj/tags")
    source.put("proj/trunk/file", "0\n", "mkdir", "proj/trunk")
    source.put("proj/trunk/file", "1\n")
    source.change("mv", "proj", "aside")
    source.put("aside/trunk/file", "2\n")
    source.change("mv", "aside", "proj")
    source.put("proj/trunk/file", "3\n")
    source.change("cp", "HEAD", "proj/trunk", "proj/branches/dev")
    return "/proj"


@pytest.mark.parametrize("history", [from_elsewhere, away_and_back])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_where_windows_end_makes_no_difference(
    world: World,
    source: Subversion,
    monkeypatch: pytest.MonkeyPatch,
    history: Callable[[Subversion], str],
    window: int,
) -> None:
    """Not to what is before a copy, nor to a folder that has not always been where it is."""
    url = source.url + history(source)
    assert world.run(1, url).status == "success", world.log
    whole = world.mirror.refs("refs/heads", "refs/tags")
    assert int(world.mirror.git("rev-list", "--count", "trunk")) >= 5
    monkeypatch.setattr(svn, "LARGEST_WINDOW", window)
    assert world.run(2, url, code_import_id=2, target="in/windows").status == "success"
    mirror = Repository(world.store / "in/windows.git")
    assert mirror.refs("refs/heads", "refs/tags") == whole


def test_a_folder_that_goes_and_comes_between_runs(world: World, source: Subversion) -> None:
    """It comes out as if it had been converted only then."""
    away_and_back(source)
    world.run(1, f"{source.url}/proj")
    source.change("mv", "proj", "aside")
    assert world.run(2, f"{source.url}/proj").status == "failure_invalid"
    source.change("mv", "aside", "proj")
    assert world.run(3, f"{source.url}/proj").status == "success", world.log
    assert any("starts anew" in line for line in world.log)
    world.run(4, f"{source.url}/proj", code_import_id=2, target="afresh")
    fresh = Repository(world.store / "afresh.git")
    assert world.mirror.refs("refs/heads") == fresh.refs("refs/heads")


def test_what_is_deleted_goes_and_what_comes_again_is_there(
    world: World, source: Subversion
) -> None:
    """A branch, a tag, and one that is replaced by something of the same name."""
    source.make_standard()
    for name in ("branches/a", "branches/b", "branches/c", "tags/t", "tags/u"):
        source.change("cp", "HEAD", "trunk", name)
    assert world.run(1, source.url).status == "success"
    source.change("rm", "branches/a", "rm", "tags/t")
    assert world.run(2, source.url).status == "success"
    names = ["refs/heads/b", "refs/heads/c", "refs/heads/trunk", "refs/tags/u"]
    assert world.mirror.names("refs/heads", "refs/tags") == names
    source.put("trunk/file", "new\n")
    source.change("rm", "branches/b", "cp", "HEAD", "trunk", "branches/b")
    source.change("cp", "HEAD", "trunk", "branches/a")
    assert world.run(3, source.url).status == "success"
    assert world.mirror.git("show", "b:file") == "new"
    assert world.mirror.git("show", "a:file") == "new"


def test_a_deleted_trunk_leaves_the_branches(world: World, source: Subversion) -> None:
    """And an emptied source leaves the mirror alone."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    world.run(1, source.url)
    source.change("rm", "trunk")
    assert world.run(2, source.url).status == "success", world.log
    assert world.mirror.names("refs/heads", "refs/tags") == ["refs/heads/dev"]
    source.change("rm", "branches", "rm", "tags")
    outcome = world.run(3, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert world.mirror.names("refs/heads", "refs/tags") == ["refs/heads/dev"]


# fmt: off
ODD = ["with space", "50%", "a..b", ".hidden", "end.", "x.lock", "at@{1}", "@", "q?*[", "c:d",
       "tilde~1^2", "Über-日本", "dev@7", "-dash", "back\\slash", "plus+", "a&b", "a#b"]
# fmt: on


def test_odd_names(world: World, source: Subversion) -> None:
    """All are there, with the characters that git has not written as in a url."""
    source.make_standard()
    for name in ODD:
        source.change("cp", "HEAD", "trunk", f"branches/{quote(name)}")
        source.put(f"branches/{quote(name)}/{quote(name)}", "odd\n")
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert "Left out" not in outcome.summary, world.log
    assert len(world.mirror.names()) == len(ODD) + 1, world.mirror.names()
    assert "refs/heads/with%20space" in world.mirror.names()
    assert world.mirror.git("show", "Über-日本:Über-日本") == "odd"
    world.mirror.git("fsck", "--strict")


def test_an_empty_repository(world: World, source: Subversion) -> None:
    """Its mirror is empty too, until there is something, whatever its layout."""
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert world.mirror.names() == []
    assert world.run(2, source.url).status == "success_nochange"
    source.make_standard()
    assert world.run(3, source.url).status == "success"
    assert world.mirror.names() == ["refs/heads/trunk"]


def test_killed_at_any_moment_it_goes_on(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its tools, again and again; what comes out is what one run makes."""
    source.make_standard()
    grow(source, 12)
    monkeypatch.setattr(svn, "LARGEST_WINDOW", 7)
    moments = random.Random(7)
    job_ids = itertools.count(1)
    while run_killed(world, next(job_ids), source.url, after=moments.uniform(0.4, 1.6)):
        pass
    assert next(job_ids) > 4
    outcome = world.run(100, source.url)
    assert outcome.status in ("success", "success_nochange"), (outcome, world.log[-30:])
    outcome = world.run(101, source.url, code_import_id=2, target="other")
    assert outcome.status == "success"
    other = Repository(world.store / "other.git")
    assert world.mirror.refs("refs/heads", "refs/tags") == other.refs("refs/heads", "refs/tags")


def run_killed(world: World, job_id: int, url: str, *, after: float) -> bool:
    """Run in a process group of its own, and kill it; returns whether it was still at it."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            world.run(job_id, url)
        finally:
            os._exit(0)
    time.sleep(after)
    if os.waitpid(child, os.WNOHANG)[0]:
        return False
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def test_a_rewritten_source_is_no_hybrid(world: World, source: Subversion) -> None:
    """Rolled back and grown again, shrunk, or another one in its place."""
    source.make_standard()
    shutil.copytree(source.path, world.root / "before")
    source.put("trunk/file", "two\n")
    world.run(1, source.url)
    before = world.mirror.refs()
    shutil.rmtree(source.path)
    shutil.copytree(world.root / "before", source.path)
    outcome = world.run(2, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "ends at r1" in outcome.summary
    source.put("trunk/other", "other\n", message="another")
    source.put("trunk/more", "more\n")
    outcome = world.run(3, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "r2 is not what it was" in outcome.summary
    shutil.rmtree(source.path)
    Subversion.create(source.path).make_standard()
    outcome = world.run(4, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "another repository" in outcome.summary
    assert world.mirror.refs() == before


def test_another_folder_or_layout_is_converted_anew(world: World, source: Subversion) -> None:
    """Nothing of the old conversion is beneath it."""
    source.put("file", "one\n")
    world.run(1, source.url)
    source.make_standard()
    assert world.run(2, source.url).status == "success", world.log
    assert any("starts anew" in line for line in world.log)
    assert world.mirror.git("ls-tree", "--name-only", "trunk") == "file"
    source.put("trunk/sub/file", "one\n", "mkdir", "trunk/sub")
    assert world.run(3, f"{source.url}/trunk/sub").status == "success"
    assert world.mirror.git("rev-list", "--count", "trunk") == "1"
    other = Subversion.create(world.root / "sources" / "other")
    other.make_standard()
    assert world.run(4, other.url).status == "success"
