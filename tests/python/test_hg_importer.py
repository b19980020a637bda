"""The Mercurial importer against real repositories and ``hg serve`` on the loopback."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from code_import.importers import Source, hg
from harness.git_servers import answer, serve_http
from harness.hg_servers import Mercurial, need_hg, serve_hg
from harness.worlds import World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

if reason := need_hg():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(hg) as made:
        yield made


@pytest.fixture
def source(world: World) -> Mercurial:
    """Two changesets, a tag, a named branch, a bookmark."""
    made = Mercurial.create(world.root / "sources/hg")
    made.commit("first", file="one\n", dir__other="x\n")
    made.hg("tag", "-d", "9 0", "-u", "ada", "v1")
    made.hg("branch", "-q", "stable")
    made.commit("fix", file="two\n")
    made.hg("update", "-q", "default")
    made.commit("more", file="three\n", dir__other=None)
    made.hg("bookmark", "-r", "stable", "wip")
    return made


@pytest.fixture
def url(source: Mercurial) -> Iterator[str]:
    with serve_hg(source.path) as served:
        yield served


def names(world: World) -> list[str]:
    return world.mirror.names("refs/heads", "refs/tags")


def test_a_repository_is_mirrored(world: World, source: Mercurial, url: str) -> None:
    outcome = world.run(1, url)
    assert outcome.status == "success", world.log
    assert names(world) == [
        "refs/heads/default", "refs/heads/stable", "refs/heads/wip", "refs/tags/v1",
    ]  # fmt: skip
    mirror = world.mirror
    assert mirror.git("symbolic-ref", "HEAD") == "refs/heads/default"
    assert mirror.git("show", "default:file") == "three"
    assert mirror.git("ls-tree", "-r", "--name-only", "default").split() == [".hgtags", "file"]
    assert mirror.git("log", "-1", "--format=%an %ae %ad %s", "--date=raw", "stable") == (
        "Ada ada@example.org 2 +0200 fix"
    )
    mirror.git("fsck", "--strict")
    assert world.run(2, url).status == "success_nochange"
    source.commit("new")
    outcome = world.run(3, url)
    assert (outcome.status, outcome.commits) == ("success", 1)


def test_a_path_is_mirrored_too(world: World, source: Mercurial) -> None:
    assert world.run(1, f"file://{source.path}").status == "success", world.log


def test_no_head_is_dropped_silently(world: World, source: Mercurial, url: str) -> None:
    source.hg("update", "-q", "-r", "0")
    other = source.commit("another head", more="1\n")
    source.hg("update", "-q", "-r", "0")
    source.hg("branch", "-q", "dead")
    dead = source.commit("to be closed", dead="1\n")
    source.hg("commit", "--close-branch", "-m", "closed", "-d", "9 0", "-u", "ada")
    closed = source.hg("id", "-i", "--debug", "-r", ".")
    outcome = world.run(1, url)
    assert outcome.status == "success", world.log
    assert "Left out: 1 thing." in outcome.summary
    assert f"Left out: a closed head of dead: {closed[:12]}" in world.log
    newest = source.hg("id", "-i", "-r", "default")
    assert newest in other
    older = [name for name in names(world) if name.startswith("refs/heads/heads/default/")]
    assert len(older) == 1
    assert "refs/heads/dead" not in names(world)
    assert dead


def test_however_often_it_goes_on_it_is_the_same(
    world: World, source: Mercurial, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        source.commit(f"{number}")
    assert world.run(1, url, target="whole", code_import_id=2).status == "success"
    whole = world.mirror.path.parents[1] / "whole.git"
    monkeypatch.setattr(hg, "WINDOW", 4)
    monkeypatch.setattr(hg, "RUN_SECONDS", 0.0)
    statuses = []
    while not statuses or statuses[-1] == "success_partial":
        statuses.append(world.run(len(statuses) + 2, url).status)
    assert statuses[-1] == "success"
    assert len(statuses) == 6
    one, two = world.mirror.refs("refs/heads", "refs/tags"), ""
    two = type(world.mirror)(whole).refs("refs/heads", "refs/tags")
    assert one == two


def test_what_was_stripped_goes(world: World, source: Mercurial, url: str) -> None:
    source.commit("mistake")
    world.run(1, url)
    source.hg("--config", "extensions.strip=", "strip", "--no-backup", "-r", "tip")
    source.commit("better", file="better\n")
    outcome = world.run(2, url)
    assert outcome.status == "success", world.log
    assert world.mirror.git("show", "default:file") == "better"
    assert not [name for name in names(world) if "/heads/heads/" in name]


def test_another_repository_is_not_taken_for_it(world: World, source: Mercurial) -> None:
    url = f"file://{source.path}"
    world.run(1, url)
    before = world.mirror.refs()
    shutil.rmtree(source.path)
    other = Mercurial.create(source.path)
    other.commit("unrelated", unrelated="1\n")
    assert world.run(2, url).status == "failure_remote_broken", world.log
    shutil.rmtree(source.path)
    Mercurial.create(source.path)
    assert world.run(3, url).status == "failure_remote_broken", world.log
    assert world.mirror.refs() == before


def test_what_is_missing_or_refused_is_told(world: World, source: Mercurial, url: str) -> None:
    assert world.run(1, f"{url}/nowhere").status == "failure_invalid", world.log
    assert world.run(1, "http://127.0.0.1:1/x").status == "failure", world.log
    assert world.run(1, "http://10.0.0.1/x").status == "failure_forbidden"
    assert world.run(1, Source("hg", "ssh://example.org/x")).status == "failure_forbidden"


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, b"", "failure_invalid"),
        (200, b"<html>parked</html>", "failure_invalid"),
        (401, b"", "failure_invalid"),
        (503, b"", "failure"),
    ],
)
def test_a_page_is_no_repository(world: World, code: int, body: bytes, status: str) -> None:
    with serve_http(world.root) as http:
        http.faults["/"] = answer(code, body)
        assert world.run(1, f"{http.url}/x").status == status, world.log


def test_an_empty_page_empties_nothing(world: World, source: Mercurial) -> None:
    with serve_http(world.root) as http, serve_hg(source.path) as url:
        world.run(1, url)
        before = world.mirror.refs()
        http.faults["/"] = answer(200, b"")
        assert world.run(2, f"{http.url}/x").status in ("failure_invalid", "failure_remote_broken")
    assert world.mirror.refs() == before


def test_an_empty_repository_has_an_empty_mirror(world: World) -> None:
    source = Mercurial.create(world.root / "sources/empty")
    url = f"file://{source.path}"
    assert world.run(1, url).status == "success", world.log
    source.commit()
    assert world.run(2, url).status == "success", world.log
    assert names(world) == ["refs/heads/default"]
