"""The git importer against real git servers on the loopback: what it mirrors, and what it survives.

No database is needed: an importer gets a run, and says how it went.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from code_import import journal
from code_import import mirror as mirror_module
from code_import.importers import (
    Outcome,
    RunLost,
    git,
    http_probe,
    process,
    publish,
    route,
    update,
)
from code_import.importers.gate import Gate
from code_import.importers.http_probe import MOST_HOPS
from code_import.journal import as_changes
from code_import.mirror import STATE, Store, read_state
from code_import.policy import Policy
from code_import.refs import FEW_COMMITS, Terms
from harness.git_servers import answer, free_port, serve_git, serve_http, stall
from harness.waiting import eventually
from harness.worlds import TARGET, Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.git_servers import HttpServer


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture
def source(world: World) -> Repository:
    """Three commits, two branches, and a tag of either kind."""
    repository = world.new_source()
    for number in range(3):
        repository.commit(content=f"{number}\n")
    repository.set("refs/heads/dev", "main~1")
    repository.git("tag", "light", "main~1")
    repository.git("tag", "-a", "-m", "a release", "v1", "main")
    return repository


@pytest.fixture
def url(source: Repository) -> str:
    return f"file://{source.path}"


@pytest.fixture
def http(world: World) -> Iterator[HttpServer]:
    (world.root / "sources").mkdir(exist_ok=True)
    with serve_http(world.root / "sources") as server:
        yield server


def assert_same(source: Repository, mirror: Repository) -> None:
    """A clone of the mirror is a clone of the source: refs, HEAD, and every object."""
    seen = []
    for number, repository in enumerate((source, mirror)):
        copy = mirror.path.parent / f"copy{number}"
        run(["git", "clone", "-q", "--bare", f"file://{repository.path}", copy])
        clone = Repository(copy)
        objects = clone.git(
            "rev-list", "--objects", "--all", "HEAD" if has_head(clone) else "--all"
        )
        seen.append((clone.refs(), read_head(clone), sorted(objects.split("\n"))))
        shutil.rmtree(copy)
    assert seen[0] == seen[1]
    mirror.git("fsck", "--strict")
    shown = mirror.git("ls-remote", str(mirror.path))
    assert not re.search("refs/(?!heads|tags)", shown)


def has_head(repository: Repository) -> bool:
    with contextlib.suppress(subprocess.CalledProcessError):
        return bool(repository.git("rev-parse", "-q", "--verify", "HEAD"))
    return False


def read_head(repository: Repository) -> str:
    return mirror_module.read_head(repository.path)


def run(argv: list[object]) -> None:
    subprocess.run([str(word) for word in argv], check=True, capture_output=True)


def leftovers(world: World) -> list[str]:
    """What a finished run must not leave: stages, locks, half-written files."""
    found = [str(path) for path in (world.store / ".code-import/stage").glob("*")]
    for folder, _, files in os.walk(world.store):
        if not folder.endswith(".code-import/locks"):
            found += [f"{folder}/{name}" for name in files if re.search(r"\.lock$|tmp_", name)]
    return found


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, byte by byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- what is mirrored --------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["file", "git", "http"])
def test_a_mirror_is_a_copy_of_its_source_over_every_transport(
    world: World, source: Repository, transport: str
) -> None:
    folder = source.path.parent
    with contextlib.ExitStack() as stack:
        base = {
            "file": lambda: f"file://{folder}",
            "git": lambda: stack.enter_context(serve_git(folder)),
            "http": lambda: stack.enter_context(serve_http(folder)).url,
        }[transport]()
        url = f"{base}/source.git"
        outcome = world.run(1, url)
        assert (outcome.status, outcome.refs) == ("success", 4)
        assert_same(source, world.mirror)
        assert world.run(2, url).status == "success_nochange"
        source.commit()
        outcome = world.run(3, url)
        assert (outcome.status, outcome.refs, outcome.commits) == ("success", 1, 1)
        assert_same(source, world.mirror)
        assert world.run(4, url).status == "success_nochange"
    assert leftovers(world) == []


def test_dumb_http_is_mirrored_too(world: World, source: Repository, http: HttpServer) -> None:
    source.git("update-server-info")
    source.git("config", "http.uploadpack", "false")
    http.serve_files = True
    assert world.run(1, f"{http.url}/source.git").status == "success"
    assert_same(source, world.mirror)
    source.commit()
    source.git("update-server-info")
    assert world.run(2, f"{http.url}/source.git").status == "success"
    assert_same(source, world.mirror)
    assert world.run(3, f"{http.url}/source.git").status == "success_nochange"


def test_an_unchanged_source_costs_what_asking_it_costs(
    world: World, source: Repository, http: HttpServer
) -> None:
    url = f"{http.url}/source.git"
    world.run(1, url)
    http.requests.clear()
    run(["git", "ls-remote", "--symref", url])
    asked = http.requests.copy()
    http.requests.clear()
    assert world.run(2, url).status == "success_nochange"
    assert http.requests == asked


def test_tags_of_anything_and_lone_tags_are_mirrored(world: World, source: Repository) -> None:
    lone = source.git("commit-tree", "-m", "on no branch", "main^{tree}")
    source.set("refs/tags/lone", lone)
    source.set("refs/tags/tree", "main^{tree}")
    source.set("refs/tags/blob", "main:file")
    source.git("tag", "-a", "-m", "x", "tag-of-blob", "main:file")
    source.git("tag", "-a", "-m", "x", "tag-of-tag", "v1")
    url = f"file://{source.path}"
    assert world.run(1, url).status == "success"
    assert_same(source, world.mirror)
    source.set("refs/tags/later", source.git("commit-tree", "-m", "later", "main^{tree}"))
    source.set("refs/tags/blob", source.git("hash-object", "-w", "--stdin", text="another"))
    outcome = world.run(2, url)
    assert (outcome.status, outcome.refs, outcome.commits) == ("success", 2, 1)
    assert_same(source, world.mirror)


@pytest.mark.parametrize(
    "name",
    [
        "zürich",
        "caf\udce9",
        "日本/語",
        "emoji-🐍",
        "a'b\"c$d&e;f|g",
        "%2e%2e",
        "-x",
        "@{"[:1] + "x",
    ],
)
def test_names_of_any_bytes_are_mirrored(world: World, source: Repository, name: str) -> None:
    url = f"file://{source.path}"
    source.set(f"refs/heads/{name}", "main~1")
    world.run(1, url)
    assert_same(source, world.mirror)
    source.set(f"refs/heads/{name}", "main")
    source.set(f"refs/tags/{name}", "main")
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)
    source.delete(f"refs/heads/{name}")
    assert world.run(3, url).status == "success"
    assert_same(source, world.mirror)
    assert all(line.encode() for line in world.log)


def test_only_branches_and_tags_are_mirrored(world: World, source: Repository, url: str) -> None:
    source.set("refs/pull/1/head")
    source.set("refs/notes/commits")
    world.run(1, url)
    source.set("refs/pull/2/head")
    assert world.run(2, url).status == "success_nochange"
    assert world.mirror.names() == source.names("refs/heads", "refs/tags")


def test_changes_of_every_kind_are_published_and_old_values_kept(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    before = {name: value for value, name in (line.split(" ") for line in source.refs())}
    source.commit()
    source.commit("dev", parent="")
    source.commit("new")
    source.delete("refs/tags/light")
    source.git("tag", "-f", "-a", "-m", "again", "v1", "main~1")
    outcome = world.run(7, url)
    assert outcome.status == "success"
    assert outcome.summary == "Published: 1 new, 1 updated, 2 rewritten, 1 deleted; 3 new commits."
    assert_same(source, world.mirror)
    assert world.mirror.refs("refs/keep") == [
        f"{before['refs/heads/dev']} refs/keep/7/heads/dev",
        f"{before['refs/tags/light']} refs/keep/7/tags/light",
        f"{before['refs/tags/v1']} refs/keep/7/tags/v1",
    ]
    assert world.run(8, url).status == "success_nochange"


def test_a_source_that_goes_back_is_followed(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    source.commit()
    world.run(2, url)
    source.set("refs/heads/main", "main~1")
    assert world.run(3, url).status == "success"
    assert_same(source, world.mirror)


def test_a_branch_may_become_a_folder_and_a_folder_a_branch(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    source.delete("refs/heads/dev")
    source.set("refs/heads/dev/sub")
    source.set("refs/heads/dev/sub2")
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)
    source.delete("refs/heads/dev/sub", "refs/heads/dev/sub2")
    source.set("refs/heads/dev", "main~1")
    assert world.run(3, url).status == "success"
    assert_same(source, world.mirror)


def test_many_refs_are_packed(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    lines = "".join(f"create refs/tags/t{number} main\n" for number in range(300))
    source.git("update-ref", "--stdin", text=lines)
    outcome = world.run(2, url)
    assert (outcome.status, outcome.refs) == ("success", 300)
    assert_same(source, world.mirror)
    assert not list((world.mirror.path / "refs/tags").iterdir())
    assert world.run(3, url).status == "success_nochange"


def test_packs_stay_few(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_PACKS", 3)
    for job_id in range(1, 9):
        source.commit()
        assert world.run(job_id, url).status == "success"
        assert len(list((world.mirror.path / "objects/pack").glob("*.pack"))) <= 3
    assert_same(source, world.mirror)
    assert world.run(9, url).status == "success_nochange"


def test_packs_that_cannot_be_put_together_are_no_failure(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_PACKS", 1)
    real = process.run

    def run_without_room(argv: list[str], **more: Any) -> process.Finished:
        return process.Finished(128, b"", "no room") if "repack" in argv else real(argv, **more)

    monkeypatch.setattr("code_import.importers.gittool.run", run_without_room)
    world.run(1, url)
    source.commit()
    assert world.run(2, url).status == "success"
    assert "git repack failed (128): no room" in world.log[-2]
    assert_same(source, world.mirror)


def test_a_git_that_knows_no_geometry_puts_all_packs_into_one(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_PACKS", 1)
    real = process.run

    def run_old(argv: list[str], **more: Any) -> process.Finished:
        unknown = "--geometric=2" in argv
        return process.Finished(129, b"", "usage: git repack") if unknown else real(argv, **more)

    monkeypatch.setattr("code_import.importers.gittool.run", run_old)
    for job_id in (1, 2, 3):
        world.run(job_id, url)
        source.commit("dev", parent="")  # What is kept must survive.
    world.run(4, url)
    assert len(list((world.mirror.path / "objects/pack").glob("*.pack"))) == 1
    assert len(world.mirror.names("refs/keep")) == 3
    assert_same(source, world.mirror)


def test_sha256_repositories_are_mirrored(world: World) -> None:
    source = world.new_source("sha256", "--object-format=sha256")
    source.commit()
    url = f"file://{source.path}"
    assert world.run(1, url).status == "success"
    source.commit()
    source.set("refs/heads/other")
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)
    assert world.run(3, url).status == "success_nochange"


def test_another_object_format_is_not_for_this_mirror(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    before = world.mirror.refs()
    shutil.rmtree(source.path)
    world.new_source("source", "--object-format=sha256").commit()
    assert world.run(2, url).status == "failure_unsupported_feature"
    assert world.mirror.refs() == before


def test_a_checkout_and_a_worktree_are_sources(world: World) -> None:
    checkout = world.root / "checkout"
    run(["git", "init", "-q", "-b", "main", checkout])
    run(["git", "-C", checkout, "commit", "-q", "--allow-empty", "-m", "1"])
    run(["git", "-C", checkout, "worktree", "add", "-q", "-b", "side", world.root / "tree"])
    assert world.run(1, f"file://{checkout}").status == "success"
    assert read_head(world.mirror) == "refs/heads/main"
    assert world.mirror.names() == ["refs/heads/main", "refs/heads/side"]
    assert world.run(2, f"file://{world.root}/tree").status == "success"
    assert read_head(world.mirror) == "refs/heads/side"


def test_a_shallow_source_is_mirrored_as_deep_as_it_is(world: World, source: Repository) -> None:
    shallow = Repository(world.root / "shallow.git")
    run(["git", "clone", "-q", "--bare", "--depth=1", f"file://{source.path}", shallow.path])
    url = f"file://{shallow.path}"
    assert world.run(1, url).status == "success"
    assert_same(shallow, world.mirror)
    shallow.commit()
    assert world.run(2, url).status == "success"
    assert_same(shallow, world.mirror)
    shallow.git("fetch", "-q", "--unshallow", f"file://{source.path}")
    assert world.run(3, url).status == "success"
    assert_same(shallow, world.mirror)
    assert world.run(4, url).status == "success_nochange"


def test_a_source_that_has_become_shallow_takes_no_history_away(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    before = world.mirror.refs()
    source.commit()
    source.commit()
    run(["git", "clone", "-q", "--mirror", "--depth=1", url, world.root / "shallow.git"])
    assert world.run(2, f"file://{world.root}/shallow.git").status == "failure_unsupported_feature"
    assert world.mirror.refs() == before
    assert world.run(3, url).status == "success"


# --- HEAD --------------------------------------------------------------------------------------


def _detach(source: Repository, value: str) -> None:
    source.git("update-ref", "--no-deref", "HEAD", value)


HEADS: dict[str, Callable[[Repository], None]] = {
    "another branch": lambda source: _symref(source, "refs/heads/dev"),
    "detached at a branch": lambda source: _detach(source, source.git("rev-parse", "dev")),
    "detached in a history": lambda source: _detach(source, source.git("rev-parse", "main~2")),
    "detached elsewhere": lambda source: _detach(
        source, source.git("commit-tree", "-m", "lone", "main^{tree}")
    ),
    "outside of the branches": lambda source: _symref(source, "refs/pull/1/head", "main~2"),
    "a branch that is not there": lambda source: _symref(source, "refs/heads/nowhere"),
}


def _symref(source: Repository, ref: str, value: str | None = None) -> None:
    if value:
        source.set(ref, value)
    source.git("symbolic-ref", "HEAD", ref)


@pytest.mark.parametrize("case", HEADS)
def test_a_first_mirror_has_the_head_of_its_source(
    world: World, source: Repository, url: str, case: str
) -> None:
    HEADS[case](source)
    assert world.run(1, url).status == "success"
    assert_same(source, world.mirror)
    assert world.run(2, url).status == "success_nochange"


@pytest.mark.parametrize("case", HEADS)
def test_a_head_that_moves_is_followed(
    world: World, source: Repository, url: str, case: str
) -> None:
    world.run(1, url)
    HEADS[case](source)
    if case == "a branch that is not there":
        # Its name is not told. The mirror keeps a HEAD that leads somewhere.
        assert world.run(2, url).status == "success_nochange"
        assert read_head(world.mirror) == "refs/heads/main"
    else:
        assert world.run(2, url).status == "success"
        assert_same(source, world.mirror)
    assert world.run(3, url).status == "success_nochange"
    source.git("symbolic-ref", "HEAD", "refs/heads/main")
    source.commit()
    assert world.run(4, url).status == "success"
    assert_same(source, world.mirror)


def test_a_renamed_default_branch_is_followed(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    source.set("refs/heads/trunk")
    source.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    source.delete("refs/heads/main")
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)


def test_a_detached_head_that_moves_on_stays_reachable(
    world: World, source: Repository, url: str
) -> None:
    lone = source.git("commit-tree", "-m", "lone", "main^{tree}")
    _detach(source, lone)
    world.run(1, url)
    source.git("symbolic-ref", "HEAD", "refs/heads/main")
    world.run(2, url)
    assert world.mirror.refs("refs/keep") == [f"{lone} refs/keep/2/HEAD"]


# --- empty sources and the guard ---------------------------------------------------------------


@pytest.mark.parametrize("transport", ["file", "http"])
def test_an_empty_repository_is_a_fact(world: World, http: HttpServer, transport: str) -> None:
    source = world.new_source("empty")
    url = f"file://{source.path}" if transport == "file" else f"{http.url}/empty.git"
    assert world.run(1, url).status == "success"
    assert world.mirror.names() == []
    assert world.run(2, url).status == "success_nochange"
    source.commit()
    assert world.run(3, url).status == "success"
    assert_same(source, world.mirror)


def test_an_empty_mirror_takes_whatever_format_its_source_begins_with(world: World) -> None:
    source = world.new_source("s", "--object-format=sha256")
    url = f"file://{source.path}"
    world.run(1, url)
    source.commit()
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)


@pytest.mark.parametrize("body", [b"", b"<html>parked</html>", b"<html>\nparked\n</html>\n"])
def test_a_page_is_not_an_empty_repository(world: World, http: HttpServer, body: bytes) -> None:
    http.faults["/"] = answer(200, body)
    assert world.run(1, f"{http.url}/source.git").status == "failure_invalid"
    assert not world.mirror.path.exists()


@pytest.mark.parametrize("body", [b"", b"<html>parked</html>"])
def test_a_page_does_not_empty_a_mirror(
    world: World, source: Repository, http: HttpServer, body: bytes
) -> None:
    world.run(1, f"{http.url}/source.git")
    http.faults["/"] = answer(200, body)
    outcome = world.run(2, f"{http.url}/source.git")
    assert outcome.status == "failure_remote_broken"
    assert_same(source, world.mirror)


def test_a_source_without_refs_does_not_empty_a_mirror(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    before = snapshot(world.mirror.path)
    source.delete(*source.names())
    terms = Terms(100, accepted=dict.fromkeys(world.mirror.names()))
    for job_id in (2, 3):
        outcome = world.run(job_id, url, terms=terms)
        assert outcome.status == "failure_remote_broken"
        assert "keeps what it has" in outcome.summary
    assert snapshot(world.mirror.path) == before


def _many(source: Repository, kind: str, count: int) -> list[str]:
    names = [f"refs/{kind}/many/{number}" for number in range(count)]
    for name in names:
        source.set(name, source.git("commit-tree", "-m", name, "main^{tree}"))
    return names


@pytest.mark.parametrize("kind", ["heads", "tags"])
def test_mass_deletions_wait_for_a_person(
    world: World, source: Repository, url: str, kind: str
) -> None:
    names = _many(source, kind, 12)
    world.run(1, url)
    before = world.mirror.refs(f"refs/{kind}/many")
    source.delete(*names)
    source.commit()
    source.set(f"refs/{kind}/many")  # In the way of what is held.
    source.set(f"refs/{kind}/new")
    outcome = world.run(2, url)
    assert outcome.status == "failure_remote_broken"
    assert outcome.summary.startswith(
        f"Held back: 13 refs are gone, rewritten or in conflict (refs/{kind}/"
    )
    assert world.mirror.refs(f"refs/{kind}/many") == before
    assert world.mirror.git("rev-parse", "main") == source.git("rev-parse", "main")
    assert f"refs/{kind}/new" in world.mirror.names()
    outcome = world.run(3, url)
    assert (outcome.status, outcome.refs) == ("failure_remote_broken", 0)
    held = as_changes(world.journal().held or [])
    assert len(held) == 13
    terms = Terms(accepted={change.name: change.new for change in held})
    assert world.run(4, url, terms=terms).status == "success"
    assert world.journal().held == []
    assert_same(source, world.mirror)
    assert len(world.mirror.names("refs/keep/4")) == 12


def test_a_history_written_anew_waits_for_a_person(
    world: World, source: Repository, url: str
) -> None:
    for _ in range(FEW_COMMITS + 1):
        source.commit()
    world.run(1, url)
    before = world.mirror.git("rev-parse", "main")
    source.commit(parent="")
    source.set("refs/heads/new")
    outcome = world.run(2, url)
    assert outcome.status == "failure_remote_broken"
    assert "refs/heads/main" in outcome.summary
    assert world.mirror.git("rev-parse", "main") == before
    assert "refs/heads/new" in world.mirror.names()
    # To keep it is to be content with it, run after run.
    terms = Terms(kept=frozenset(["refs/heads/main"]))
    assert world.run(3, url, terms=terms).status == "success_nochange"
    source.commit()
    outcome = world.run(4, url, terms=terms)
    assert outcome.status == "success_nochange", outcome
    assert world.run(5, url, terms=terms).status == "success_nochange"
    assert world.mirror.git("rev-parse", "main") == before
    [held] = world.journal().held or []
    assert (held["ref"], held["new"]) == ("refs/heads/main", source.git("rev-parse", "main"))
    # To accept it is to follow.
    terms = Terms(accepted={"refs/heads/main": source.git("rev-parse", "main")})
    assert world.run(6, url, terms=terms).status == "success"
    assert_same(source, world.mirror)
    assert world.mirror.refs("refs/keep") == [f"{before} refs/keep/6/heads/main"]


def test_a_mirror_may_be_told_to_lose_nothing(world: World, source: Repository, url: str) -> None:
    source.commit("dev")
    world.run(1, url)
    before = world.mirror.refs("refs/heads/dev")
    source.delete("refs/heads/dev")
    assert world.run(2, url, terms=Terms(0)).status == "failure_remote_broken"
    assert world.mirror.refs("refs/heads/dev") == before
    assert world.run(3, url, terms=Terms(100)).status == "success"
    assert_same(source, world.mirror)


def test_what_refs_were_is_kept_for_a_time(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = source.commit("dev")
    world.run(1, url)
    source.delete("refs/heads/dev")
    world.run(2, url)
    hour, begin = 3_600, time.time()
    for passed, stays in [(23, True), (25, False)]:
        monkeypatch.setattr(time, "time", lambda passed=passed: begin + passed * hour)
        outcome = world.run(3 + passed, url, ref_retention=24 * hour)
        assert outcome.status == "success_nochange", outcome
        assert world.mirror.names("refs/keep") == ["refs/keep/2/heads/dev"] * stays
    with pytest.raises(subprocess.CalledProcessError):
        world.mirror.git("cat-file", "-e", lost)
    world.mirror.git("fsck", "--strict")
    assert_same(source, world.mirror)


def test_the_time_of_a_kept_ref_that_was_forgotten_begins_again(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    source.delete("refs/heads/dev")
    world.run(2, url)
    (world.mirror.path / STATE).unlink()
    world.run(3, url)
    state = read_state(world.mirror.path)
    assert state is not None
    assert time.time() - 60 < state.kept["2"] <= time.time()


def test_the_journal_says_what_was_made(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    first = as_changes(world.journal().changes)
    assert {(change.name, change.new) for change in first} == {
        ("HEAD", "ref: refs/heads/main"),
        *((name, value) for value, name in (line.split() for line in source.refs())),
    }
    assert {change.kind for change in first} == {"new"}
    old = source.git("rev-parse", "main")
    new = source.commit()
    source.delete("refs/heads/dev")
    source.git("symbolic-ref", "HEAD", "refs/heads/other")
    source.set("refs/heads/other")
    world.run(2, url, told=1)
    lines = {(line["ref"], line["kind"], line["old"], line["new"], line["job_id"])
             for line in world.journal().changes}  # fmt: skip
    assert ("refs/heads/main", "updated", old, new, 2) in lines
    assert ("HEAD", "updated", "ref: refs/heads/main", "ref: refs/heads/other", 2) in lines
    assert {(ref, kind) for ref, kind, *_ in lines} == {
        ("HEAD", "updated"), ("refs/heads/main", "updated"), ("refs/heads/dev", "deleted"),
        ("refs/heads/other", "new"),
    }  # fmt: skip


def test_a_run_that_could_not_tell_is_told_of_by_the_next(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    source.commit()
    world.run(2, url, told=1)
    new = source.commit("dev")
    world.run(3, url, told=1)
    assert [line["job_id"] for line in world.journal().changes] == [2, 3]
    world.run(4, url, told=3)
    source.commit()
    world.run(5, url, told=3)
    assert [line["job_id"] for line in world.journal().changes] == [5]
    assert world.mirror.git("rev-parse", "dev") == new


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_dies_has_made_what_is_there(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whether it dies before or after the refs have changed, the journal knows."""
    world.run(1, url)
    source.commit()
    change = publish.Publisher._change

    def die(self: Any, *args: Any) -> None:
        if after:
            change(self, *args)
        raise MemoryError

    monkeypatch.setattr(publish.Publisher, "_change", die)
    with pytest.raises(MemoryError):
        world.run(2, url, told=1)
    monkeypatch.undo()
    source.commit("dev")
    world.run(3, url, told=1)
    told = [(line["job_id"], line["ref"]) for line in world.journal().changes]
    if after:
        assert told == [(2, "refs/heads/main"), (3, "refs/heads/dev")]
    else:
        assert sorted(told) == [(3, "refs/heads/dev"), (3, "refs/heads/main")]


def test_a_mirror_is_read_as_a_whole_when_it_is_due(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url, verify=True)
    assert world.journal().verified_by == 0
    assert world.run(2, url, verify=True).status == "success_nochange"
    found = world.journal()
    assert (found.verified_by, found.damage) == (2, None)
    [pack] = (world.mirror.path / "objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(data)
    assert world.run(3, url).status == "success_nochange"
    assert world.run(4, url, verify=True).status == "success"
    found = world.journal()
    assert found.verified_by == 4
    assert found.damage
    world.mirror.git("fsck", "--strict")
    assert_same(source, world.mirror)
    assert world.run(5, url, verify=True).status == "success_nochange"
    assert world.journal().damage is None


def test_a_mirror_is_read_though_its_source_is_gone(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    shutil.rmtree(source.path)
    assert world.run(2, url, verify=True).status == "failure_invalid"
    assert world.journal().verified_by == 2


def test_flaws_that_a_history_was_made_with_are_no_damage(
    world: World, source: Repository, url: str
) -> None:
    tree = source.git("rev-parse", "main^{tree}")
    text = f"tree {tree}\nauthor A<a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nold\n"
    made = source.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", text=text)
    source.set("refs/heads/flawed", made)
    world.run(1, url)
    assert world.run(2, url, verify=True).status == "success_nochange"
    assert world.journal().damage is None


def test_held_deletions_are_forgotten_when_the_refs_come_back(
    world: World, source: Repository, url: str
) -> None:
    names = _many(source, "heads", 12)
    world.run(1, url)
    before = source.refs("refs/heads/many")
    source.delete(*names)
    assert world.run(2, url).status == "failure_remote_broken"
    for line in before:
        value, name = line.split(" ")
        source.set(name, value)
    assert world.run(3, url).status == "success_nochange"
    assert_same(source, world.mirror)


def test_the_last_branch_waits_for_a_person(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    source.delete("refs/heads/main", "refs/heads/dev")
    assert world.run(2, url).status == "failure_remote_broken"
    assert world.mirror.names("refs/heads") == ["refs/heads/dev", "refs/heads/main"]


def test_tidying_up_is_not_a_mass_deletion(world: World, source: Repository, url: str) -> None:
    names = _many(source, "heads", 10)
    world.run(1, url)
    source.delete(*names)
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)


def test_renaming_is_not_deleting(world: World, source: Repository, url: str) -> None:
    names = _many(source, "heads", 12)
    world.run(1, url)
    for name in names:
        source.set(name.replace("many", "renamed"), name)
    source.delete(*names)
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)


# --- who may publish ---------------------------------------------------------------------------


def lost() -> None:
    raise RunLost("reclaimed")


@pytest.mark.parametrize("moment", ["first", "update", "move"])
def test_a_run_that_has_ended_without_us_changes_nothing(
    world: World, source: Repository, url: str, moment: str
) -> None:
    if moment != "first":
        world.run(1, url)
        source.commit()
    before = snapshot(world.store)
    with pytest.raises(RunLost):
        world.run(2, url, confirm=lost, target="moved" if moment == "move" else TARGET)
    after = snapshot(world.store)
    assert {name: data for name, data in after.items() if "/locks/" not in name} == {
        name: data for name, data in before.items() if "/locks/" not in name
    }
    assert leftovers(world) == []


def test_a_run_is_confirmed_right_before_refs_move(
    world: World, source: Repository, url: str
) -> None:
    seen: list[object] = []

    def confirm() -> None:
        seen.append(world.mirror.path.exists() and world.mirror.refs())

    world.run(1, url, confirm=confirm)
    assert seen == [False]
    old = world.mirror.refs()
    source.commit()
    world.run(2, url, confirm=confirm)
    assert seen == [False, old]
    world.run(3, url, confirm=confirm)
    assert seen == [False, old]


@pytest.mark.parametrize("moment", ["first", "update"])
def test_a_run_that_slept_does_not_overwrite_its_successor(
    world: World, source: Repository, url: str, moment: str
) -> None:
    if moment == "update":
        world.run(1, url)
    source.commit()
    asleep, awake = threading.Event(), threading.Event()

    def sleep_at_fetch(line: str) -> None:
        if line.startswith("The source has"):
            asleep.set()
            assert awake.wait(30)

    outcomes: list[Outcome] = []
    sleeper = threading.Thread(
        target=lambda: outcomes.append(world.run(5, url, log=sleep_at_fetch))
    )
    sleeper.start()
    assert asleep.wait(30)
    source.commit("later")
    assert world.run(6, url).status == "success"
    after = snapshot(world.mirror.path)
    source.delete("refs/heads/later")
    awake.set()
    sleeper.join()
    # The database says that run 5 lives, which cannot be; the mirror knows better.
    assert outcomes[0].status == "internal_failure"
    assert "run 6 has changed" in outcomes[0].summary
    assert snapshot(world.mirror.path) == after


def test_a_run_that_slept_and_is_lost_stops_quietly(
    world: World, source: Repository, url: str
) -> None:
    world.run(6, url)
    source.commit()
    after = snapshot(world.mirror.path)
    with pytest.raises(RunLost):
        world.run(5, url, confirm=lost)
    assert snapshot(world.mirror.path) == after


def test_runs_in_their_order_follow_each_other(world: World, source: Repository, url: str) -> None:
    world.run(5, url)
    source.commit()
    assert world.run(6, url).status == "success"
    state = read_state(world.mirror.path)
    assert state is not None
    assert state.job_id == 6


def test_a_successor_that_was_overtaken_builds_on_what_it_finds(
    world: World, source: Repository, url: str
) -> None:
    """Run 6 clones a first mirror; run 5 wakes up, is still alive, and puts its own in place."""
    started, go_on = threading.Event(), threading.Event()

    def wait_at_fetch(line: str) -> None:
        if line.startswith("The source has"):
            started.set()
            assert go_on.wait(30)

    outcomes: list[Outcome] = []
    later = threading.Thread(target=lambda: outcomes.append(world.run(6, url, log=wait_at_fetch)))
    later.start()
    assert started.wait(30)
    assert world.run(5, url).status == "success"
    source.commit()
    go_on.set()
    later.join()
    assert outcomes[0].status == "success"
    assert_same(source, world.mirror)
    assert not list(world.store.glob(".code-import/damaged/*"))


def test_a_mirror_that_somebody_holds_is_waited_for_and_then_left(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(1, url)
    source.commit()
    monkeypatch.setattr(mirror_module, "LOCK_WAIT", 0.05)
    with Store(world.store).lock(1, world.log.append):
        outcome = world.run(2, url)
    assert outcome.status == "internal_failure"
    assert "another run holds the lock" in outcome.summary
    assert world.run(3, url).status == "success"


# --- targets -----------------------------------------------------------------------------------


def test_a_new_target_moves_the_mirror(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    assert world.run(2, url, target="elsewhere/deep").status == "success_nochange"
    assert_same(source, Repository(world.store / "elsewhere/deep.git"))
    assert not (world.store / "project").exists()


def test_a_mirror_moves_even_when_its_source_is_away(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    shutil.rmtree(source.path)
    assert world.run(2, url, target="elsewhere").status == "failure_invalid"
    assert (world.store / "elsewhere.git").exists()


def test_two_imports_swap_targets(world: World, source: Repository, url: str) -> None:
    other = world.new_source("other")
    other.commit()
    world.run(1, url, target="a", code_import_id=1)
    world.run(2, f"file://{other.path}", target="b", code_import_id=2)
    assert world.run(3, url, target="b", code_import_id=1).status == "success_nochange"
    outcome = world.run(4, f"file://{other.path}", target="a", code_import_id=2)
    assert outcome.status == "success_nochange"
    assert_same(source, Repository(world.store / "b.git"))
    assert_same(other, Repository(world.store / "a.git"))


def test_a_target_registered_anew_starts_afresh(world: World, source: Repository, url: str) -> None:
    other = world.new_source("other")
    other.commit()
    world.run(1, url)
    assert world.run(2, f"file://{other.path}", code_import_id=2).status == "success"
    assert_same(other, world.mirror)
    assert_same(source, Repository(world.store / ".code-import/aside/1.1.git"))


def test_a_target_that_is_none_is_our_own_fault(world: World, url: str) -> None:
    assert world.run(1, url, target="../out").status == "internal_failure"
    assert not world.store.exists() or not list(world.store.glob("*.git"))


# --- killed runs -------------------------------------------------------------------------------


STEPS = (
    (process, "_start"),
    (mirror_module, "write_whole"),
    (journal, "write_whole"),
    (mirror_module, "_rename"),
    (shutil, "move"),
)
"""What changes the disk, in this process or by a tool."""


def _run_and_die(world: World, url: str, job_id: int, step: int, alone: bool, late: bool) -> None:
    """Run until a step, counted from 1, and die there; with all tools, or alone."""
    os.setsid()
    count = 0

    def deadly(work: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count == step and not late:
                os.killpg(0, signal.SIGKILL)
            done = work(*args, **more)
            if count == step:
                os.kill(os.getpid() if alone else -os.getpid(), signal.SIGKILL)
            return done

        return wrapped

    for module, name in STEPS:
        setattr(module, name, deadly(getattr(module, name)))
    world.run(job_id, url)


def _spawn(target: Callable[..., None], *args: object) -> tuple[int, int | None]:
    """Run something in a process of its own; return its id and its exit code."""
    child = get_context("fork").Process(target=target, args=args)
    child.start()
    child.join()
    assert child.pid is not None
    return child.pid, child.exitcode


def is_gone(group: int) -> bool:
    """Whether a process group has no living member."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state not in "ZX":
                return False
    return True


def assert_right(source: Repository, mirror: Repository) -> None:
    """The mirror has the refs, HEAD and objects of its source; quicker than two clones."""
    assert mirror.refs("refs/heads", "refs/tags") == source.refs()
    assert read_head(mirror) == read_head(source)
    mirror.git("fsck", "--connectivity-only")


def _change(source: Repository) -> None:
    """Something of every kind."""
    source.commit()
    source.commit("new")
    source.commit("topic", parent="")
    source.delete("refs/heads/dev", "refs/tags/light")
    source.set("refs/heads/dev/sub", "main~1")
    source.git("symbolic-ref", "HEAD", "refs/heads/new")


@pytest.mark.parametrize("moment", ["first", "update"])
@pytest.mark.parametrize("way", ["before", "after", "alone"])
def test_a_run_may_be_killed_at_any_step(
    world: World, source: Repository, url: str, moment: str, way: str
) -> None:
    source.commit("topic")
    if moment == "update":
        world.run(1, url)
        _change(source)
    kept = world.root / "kept"
    if world.store.exists():
        shutil.copytree(world.store, kept)
    step = 0
    while True:
        step += 1
        shutil.rmtree(world.store, ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, world.store)
        alone, late = way == "alone", way != "before"
        group, code = _spawn(_run_and_die, world, url, 2, step, alone, late)
        if code == 0:
            break
        if world.mirror.path.exists():
            world.mirror.git("fsck", "--connectivity-only")
        # Orphaned tools may still be at it: the mirror must be right all the same.
        assert world.run(3, url).status in ("success", "success_nochange"), world.log[-5:]
        assert_right(source, world.mirror)
        eventually(lambda group=group: is_gone(group))  # type: ignore[misc]
        assert world.run(4, url).status == "success_nochange"
        assert leftovers(world) == []
    assert step > 5


def _run_alone(world: World, url: str) -> None:
    os.setsid()
    world.run(2, url)


@pytest.mark.parametrize("moment", ["first", "update"])
def test_a_run_may_be_killed_at_any_time(
    world: World, source: Repository, url: str, moment: str
) -> None:
    for number in range(20):
        source.commit(content="x" * 100_000 + str(number))
    if moment == "update":
        world.run(1, url)
        _change(source)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for job_id in range(2, 18, 2):
        child = get_context("fork").Process(target=_run_alone, args=(world, url))
        child.start()
        child.join(chance.uniform(0.005, 0.12))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid or 0, signal.SIGKILL)
        child.kill()
        child.join()
        eventually(lambda group=child.pid: is_gone(group))  # type: ignore[misc]
        if world.mirror.path.exists():
            world.mirror.git("fsck", "--connectivity-only")
        assert world.run(job_id + 1, url).status in ("success", "success_nochange"), seed
        assert_right(source, world.mirror)
        assert leftovers(world) == []
        source.commit(content="x" * 100_000 + str(seed + job_id))


@pytest.mark.parametrize("moment", ["first", "update"])
def test_a_run_that_is_told_to_stop_leaves_nothing(
    world: World, source: Repository, url: str, moment: str
) -> None:
    if moment == "update":
        world.run(1, url)
        source.commit()
    before = snapshot(world.mirror.path)

    def stop(line: str) -> None:
        if line.startswith("remote:"):
            raise SystemExit  # As a signal handler does, in the middle of a fetch.

    with pytest.raises(SystemExit):
        world.run(2, url, log=stop)
    assert snapshot(world.mirror.path) == before
    assert leftovers(world) == []


def test_what_killed_tools_left_in_a_mirror_is_in_nobodys_way(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    litter = ["packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"]
    for name in litter:
        (world.mirror.path / name).touch()
    source.commit()
    source.delete("refs/tags/light")
    source.git("symbolic-ref", "HEAD", "refs/heads/dev")
    assert world.run(2, url).status == "success"
    assert_same(source, world.mirror)
    assert leftovers(world) == []


# --- damaged mirrors ---------------------------------------------------------------------------


def _harm(pattern: str, how: Callable[[Path], None]) -> Callable[[Repository], None]:
    def harm(mirror: Repository) -> None:
        for file in mirror.path.glob(pattern):
            file.chmod(0o644)
            how(file)

    return harm


DAMAGE: dict[str, Callable[[Repository], None]] = {
    "a pack is lost": _harm("objects/pack/*.pack", Path.unlink),
    "a pack is cut": _harm("objects/pack/*.pack", lambda file: os.truncate(file, 200)),
    "an index is empty": _harm("objects/pack/*.idx", lambda file: os.truncate(file, 0)),
    "the refs are lost": _harm("packed-refs", Path.unlink),
    "the refs are zeros": _harm("packed-refs", lambda file: _zero(file)),
    "HEAD is empty": _harm("HEAD", lambda file: os.truncate(file, 0)),
    "the config is lost": _harm("config", Path.unlink),
    "a ref was moved": lambda mirror: mirror.set("refs/heads/main", "main~1"),
    "a ref was added": lambda mirror: mirror.set("refs/heads/pushed", "main"),
    "a ref was deleted": lambda mirror: mirror.delete("refs/heads/dev"),
    "it forgot whose it is": _harm(STATE, Path.unlink),
}


def _zero(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_mirror_is_not_unchanged_but_put_right(
    world: World, source: Repository, url: str, case: str
) -> None:
    world.run(1, url)
    DAMAGE[case](world.mirror)
    outcome = world.run(2, url)
    if case == "it forgot whose it is":
        assert outcome.status == "success_nochange"
    else:
        assert outcome.status == "success"
    assert_same(source, world.mirror)
    assert world.run(3, url).status == "success_nochange"


def test_a_replaced_mirror_is_not_lost(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    DAMAGE["a pack is lost"](world.mirror)
    world.run(2, url)
    [place] = (world.store / ".code-import/damaged").iterdir()
    assert Repository(place).names() == source.names()


def test_the_guard_holds_for_damaged_mirrors_too(
    world: World, source: Repository, url: str
) -> None:
    names = _many(source, "heads", 12)
    world.run(1, url)
    DAMAGE["a pack is lost"](world.mirror)
    source.delete(*names)
    before = snapshot(world.mirror.path)
    assert world.run(2, url).status == "failure_remote_broken"
    assert snapshot(world.mirror.path) == before


def test_maintenance_by_somebody_else_is_no_damage(
    world: World, source: Repository, url: str
) -> None:
    world.run(1, url)
    source.commit()
    world.run(2, url)
    world.mirror.git("gc", "-q")
    assert world.run(3, url).status == "success_nochange"
    assert not list(world.store.glob(".code-import/damaged/*"))


# --- failures, each from its real cause --------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        (answer(404), "failure_invalid", "no git repository"),
        (answer(410), "failure_invalid", "gone for good"),
        (answer(403), "failure_invalid", "refuses access"),
        (answer(401, WWW_Authenticate='Basic realm="x"'), "failure_invalid", "login"),
        (answer(429, Retry_After="60"), "failure", "fewer requests, and none for 60 s"),
        (answer(429), "failure", "fewer requests"),
        (answer(503, Retry_After="7"), "failure", "none for 7 s"),
        (answer(500), "failure", "in trouble"),
        (answer(503), "failure", "in trouble"),
        (answer(301, Location="/other.git/info/refs"), "failure_invalid", "redirects"),
        (answer(302), "failure_invalid", "redirects"),
        (answer(200, b"<html>\nhello\n"), "failure_invalid", "no git repository"),
    ],
)
def test_answers_of_http_servers(
    world: World, http: HttpServer, fault: Callable[..., None], status: str, word: str
) -> None:
    http.faults["/"] = fault
    outcome = world.run(1, f"{http.url}/p.git")
    assert outcome.status == status
    assert word in outcome.summary
    assert len(http.requests) <= 1 + MOST_HOPS
    assert leftovers(world) == []


def test_a_busy_server_may_say_until_when(world: World, http: HttpServer) -> None:
    later = formatdate(time.time() + 100, usegmt=True)
    http.faults["/"] = answer(429, Retry_After=later)
    outcome = world.run(1, f"{http.url}/p.git")
    assert outcome.status == "failure"
    assert re.search(r"none for (9\d|10\d) s", outcome.summary)


# --- redirects ---------------------------------------------------------------------------------


def test_a_redirect_within_its_host_is_followed(
    world: World, source: Repository, http: HttpServer
) -> None:
    http.faults["/old"] = answer(301, Location="/second.git/info/refs?service=git-upload-pack")
    http.faults["/second"] = answer(302, Location=f"{http.url}/source.git/info/refs")
    assert world.run(1, f"{http.url}/old.git").status == "success"
    assert_same(source, world.mirror)
    assert f"The server redirects to {http.url}/source.git, which this run uses." in world.log
    assert world.run(2, f"{http.url}/old.git").status == "success_nochange"


def test_a_server_that_does_not_redirect_is_asked_once(
    world: World, source: Repository, http: HttpServer
) -> None:
    world.run(1, f"{http.url}/source.git")
    before = len(http.requests)
    assert world.run(2, f"{http.url}/source.git").status == "success_nochange"
    assert len(http.requests) - before == 2  # git's own: the service, and its refs.


def test_a_repository_that_moved_to_another_host_waits_for_a_person(
    world: World, source: Repository, http: HttpServer
) -> None:
    world.policy = replace(world.policy, allow_hosts=("127.0.0.1", "localhost"))
    there = http.url.replace("127.0.0.1", "localhost")
    http.faults["/old"] = answer(301, Location=f"{there}/source.git/info/refs")
    outcome = world.run(1, f"{http.url}/old.git")
    assert outcome.status == "failure_invalid"
    assert outcome.summary == (
        f"The repository has moved to {there}/source.git. To import it from there:"
        f" code-import import set-url {TARGET} {there}/source.git"
    )
    assert not world.mirror.path.exists()


def test_a_move_is_told_fit_for_a_shell(world: World, http: HttpServer) -> None:
    world.policy = replace(world.policy, allow_hosts=("127.0.0.1", "localhost"))
    there = http.url.replace("127.0.0.1", "localhost") + "/$(id);'x"
    http.faults["/old"] = answer(301, Location=f"{there}/info/refs")
    http.faults["/$"] = answer(200)
    summary = world.run(1, f"{http.url}/old.git").summary
    assert shlex.split(summary.partition(" there: ")[2])[-1] == there


@pytest.mark.parametrize(
    ("location", "status", "word"),
    [
        ("http://127.0.0.2/p/info/refs", "failure_forbidden", "this machine"),
        ("http://169.254.169.254/latest/info/refs", "failure_forbidden", "this machine"),
        ("http://10.0.0.1/p/info/refs", "failure_forbidden", "private network"),
        ("http://2130706433/p/info/refs", "failure_forbidden", "this machine"),
        ("file:///etc/passwd/info/refs", "failure_forbidden", "not on the list"),
        ("ftp://192.0.2.1/info/refs", "failure_forbidden", "ftp"),
        ("ext::sh/info/refs", "failure_forbidden", "started"),
        ("http://u:secret@127.0.0.1/info/refs", "failure_forbidden", "password"),
        ("/users/sign_in", "failure_invalid", "sign_in, where no repository"),
        ("/gone.git/info/refs", "failure_invalid", "no git repository"),
    ],
)
def test_a_redirect_leads_nowhere_else(
    world: World, http: HttpServer, location: str, status: str, word: str
) -> None:
    http.faults["/old"] = answer(302, Location=location)
    outcome = world.run(1, f"{http.url}/old.git")
    assert outcome.status == status
    assert word in outcome.summary
    assert "secret" not in outcome.summary + "".join(world.log)


def test_a_hop_on_the_way_back_is_checked_too(world: World, http: HttpServer) -> None:
    """A host that may be asked hands on to one that may not."""
    world.policy = replace(world.policy, allow_hosts=("127.0.0.1", "localhost"))
    there = http.url.replace("127.0.0.1", "localhost")
    http.faults["/old"] = answer(302, Location=f"{there}/hop/info/refs")
    http.faults["/hop"] = answer(302, Location="http://127.0.0.3/p/info/refs")
    assert world.run(1, f"{http.url}/old.git").status == "failure_forbidden"
    assert http.requests[-1].startswith("GET /hop")


@pytest.mark.parametrize(
    ("hops", "same_host"),
    [
        (["https://a.example/new"], True),
        (["http://a.example/new"], True),
        (["https://a.example/new", "http://a.example/new"], False),
        (["https://b.example/new"], False),
        (["https://b.example/x", "https://a.example/new"], False),
        (["http://a.example:8080/new"], False),
    ],
)
def test_what_counts_as_the_same_host(
    monkeypatch: pytest.MonkeyPatch, hops: list[str], same_host: bool
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_a, **_k: [(0, 1, 6, "", ("192.0.2.1", 0))])
    answers = [*(http_probe.Answer(301, f"{hop}/info/refs", None) for hop in hops),
               http_probe.Answer(200, None, None)]  # fmt: skip
    monkeypatch.setattr(http_probe, "ask", lambda *_a: answers.pop(0))
    with Gate(Policy(), print) as gate:
        moved = http_probe.follow("http://a.example/old", Policy(), gate)
    assert moved == http_probe.Moved(hops[-1], True, same_host)


# --- names, and what they mean -----------------------------------------------------------------


def mean(monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> list[str]:
    """Make names mean these addresses, one set a question; to git they mean nothing."""
    asked: list[str] = []

    def resolve(host: str, port: object, *_a: object, **_k: object) -> list[Any]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(0, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("way", ["http", "http by an old git", "git"])
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.2", "::1", "127.0.0.1")])
@pytest.mark.parametrize("host", ["source.invalid", "Source.INVALID."])
def test_git_connects_to_what_was_checked(
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    source: Repository,
    way: str,
    addresses: tuple[str, ...],
    host: str,
) -> None:
    """The name means nothing to git: what it gets to, it was told."""
    if "old" in way:
        monkeypatch.setattr(route, "KNOWS_CURLOPT_RESOLVE", (99, 0))
    world.policy = replace(world.policy, allow_hosts=("source.invalid",))
    with contextlib.ExitStack() as stack:
        if way == "git":
            base = stack.enter_context(serve_git(source.path.parent))
        else:
            base = stack.enter_context(serve_http(source.path.parent)).url
        mean(monkeypatch, addresses)
        url = base.replace("127.0.0.1", host) + "/source.git"
        assert world.run(1, url).status == "success", world.log
        assert_same(source, world.mirror)
        source.commit()
        assert world.run(2, url).status == "success"


@pytest.mark.parametrize("way", ["http", "git"])
@pytest.mark.parametrize("later", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("10.0.0.1",)])
def test_a_name_that_changes_what_it_means_after_the_check_is_refused(
    monkeypatch: pytest.MonkeyPatch, world: World, http: HttpServer, way: str, later: tuple[str]
) -> None:
    asked = mean(monkeypatch, ("8.8.8.8",), later)
    url = http.url.replace("http://127.0.0.1", f"{way}://rebinds.invalid")
    assert world.run(1, f"{url}/source.git").status == "failure_forbidden"
    assert asked == ["rebinds.invalid"] * 2
    assert http.requests == []


def test_a_server_of_many_names_is_asked_by_its_own(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    """A git daemon with virtual hosts gets the name, not the address."""
    monkeypatch.setattr(git, "PROBE_TIMEOUT", 5)
    mean(monkeypatch, ("127.0.0.1",))
    world.policy = replace(world.policy, allow_hosts=("source.invalid",))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said: list[bytes] = []

        def listen() -> None:
            connection, _ = server.accept()
            with connection:
                said.append(connection.recv(4, socket.MSG_WAITALL))
                said.append(connection.recv(int(said[0], 16) - 4, socket.MSG_WAITALL))

        thread = threading.Thread(target=listen)
        thread.start()
        world.run(1, f"git://source.invalid:{port}/p.git")
        thread.join()
    assert f"git-upload-pack /p.git\0host=source.invalid:{port}\0".encode() in said[1]


@pytest.mark.parametrize("way", ["http", "git"])
def test_a_name_that_means_nothing(monkeypatch: pytest.MonkeyPatch, world: World, way: str) -> None:
    def fail(*_a: object, **_k: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr("socket.getaddrinfo", fail)
    outcome = world.run(1, f"{way}://nowhere.invalid/p.git")
    assert outcome.status == "failure"
    assert "name of the host is not known" in outcome.summary


@pytest.mark.parametrize("way", ["http by an old git", "git"])
def test_what_the_gate_could_not_reach_is_what_is_told(
    monkeypatch: pytest.MonkeyPatch, world: World, way: str
) -> None:
    monkeypatch.setattr(route, "KNOWS_CURLOPT_RESOLVE", (99, 0))
    mean(monkeypatch, ("127.0.0.1", "127.0.0.1", "127.0.0.2"))
    world.policy = replace(world.policy, allow_hosts=("source.invalid",))
    outcome = world.run(1, f"{way.split()[0]}://source.invalid:{free_port()}/p.git")
    assert outcome.status == "failure"
    assert "There is no connection to source.invalid" in outcome.summary


def test_a_server_does_not_send_git_for_objects_elsewhere(
    world: World, source: Repository, http: HttpServer
) -> None:
    """The dumb protocol has a list of other servers."""
    http.serve_files = True
    source.git("update-server-info")
    objects = source.path / "objects"
    shutil.rmtree(objects / source.git("rev-parse", "main")[:2])
    with serve_http(source.path.parent) as other:
        listed = f"{other.url.replace('127.0.0.1', 'localhost')}/elsewhere.git/objects/\n"
        (objects / "info" / "http-alternates").write_text(listed)
        assert world.run(1, f"{http.url}/source.git").status.startswith("failure")
        assert other.requests == []
    assert any("http-alternates" in request for request in http.requests)


def test_a_private_network_is_not_asked(world: World) -> None:
    outcome = world.run(1, "http://10.0.0.1/p.git")
    assert outcome.status == "failure_forbidden"
    assert "--allow-host" in outcome.summary


# --- servers that are silent, absent, or break off ---------------------------------------------


def test_a_stalled_http_server(
    world: World, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    http.faults["/"] = stall(over)
    monkeypatch.setattr(git, "LOW_SPEED_TIME", 1)
    outcome = world.run(1, f"{http.url}/p.git")
    over.set()
    assert outcome.status == "failure"
    assert "stalled" in outcome.summary


def test_a_server_that_never_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "PROBE_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = world.run(1, f"git://127.0.0.1:{silent.getsockname()[1]}/p")
    assert outcome.status == "failure"
    assert "stalled" in outcome.summary


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_nobody_listens(world: World, scheme: str) -> None:
    outcome = world.run(1, f"{scheme}://127.0.0.1:{free_port()}/p")
    assert outcome.status == "failure"
    assert "no connection" in outcome.summary


def test_a_connection_that_breaks(world: World, source: Repository, http: HttpServer) -> None:
    source.commit(content="".join(map(str, range(10_000))))
    http.cut_after = 5_000
    outcome = world.run(1, f"{http.url}/source.git")
    assert outcome.status == "failure"
    assert "connection broke" in outcome.summary
    assert not world.mirror.path.exists()
    http.cut_after = None
    assert world.run(2, f"{http.url}/source.git").status == "success"


def test_a_repository_that_is_not_there(world: World, source: Repository) -> None:
    outcome = world.run(1, f"file://{world.root}/nowhere")
    assert outcome.status == "failure_invalid"
    with serve_git(source.path.parent) as base:
        outcome = world.run(2, f"{base}/nowhere.git")
    assert outcome.status == "failure_invalid"
    assert "no git repository" in outcome.summary


def test_a_damaged_source(world: World, source: Repository, url: str) -> None:
    world.run(1, url)
    tip = source.commit()
    blob = source.git("rev-parse", f"{tip}:file")
    file = source.path / "objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    os.truncate(file, 0)
    before = world.mirror.refs()
    assert world.run(2, url).status == "failure_remote_broken"
    assert world.mirror.refs() == before
    assert world.run(3, url, code_import_id=2, target="fresh").status == "failure_remote_broken"


def test_a_partial_clone_is_no_source(world: World, source: Repository, url: str) -> None:
    source.git("config", "uploadpack.allowFilter", "true")
    partial = world.root / "partial.git"
    run(["git", "clone", "-q", "--bare", "--filter=blob:none", url, partial])
    outcome = world.run(1, f"file://{partial}")
    assert outcome.status == "failure_unsupported_feature"
    assert "partial clone" in outcome.summary


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_somebody_elses_repository(world: World, source: Repository, url: str) -> None:
    for folder, _, _ in os.walk(source.path):
        os.chown(folder, 12345, 12345)
    outcome = world.run(1, url)
    assert outcome.status == "failure_invalid"
    assert "belongs to another user" in outcome.summary


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@127.0.0.1/p",
        "ext::sh -c true",
        "ftp://127.0.0.1/p",
        "file:///etc",
        "http://127.0.0.2/p",
    ],
)
def test_what_the_policy_refuses_is_not_touched(world: World, url: str) -> None:
    outcome = world.run(1, url)
    assert outcome.status == "failure_forbidden"
    assert not world.store.exists()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("fatal: unable to access 'https://h/p/': Could not resolve host: h", "failure"),
        ("fatal: unable to look up h (port 9418) (Name or service not known)", "failure"),
        ("fatal: unable to access 'https://h/': SSL certificate problem", "failure_invalid"),
        ("fatal: unable to access 'https://h/': gnutls_handshake() failed: x", "failure"),
        ("fatal: transport 'ssh' not allowed", "failure_forbidden"),
        ("fatal: remote error: upload-pack: not our ref 0123", "failure_remote_broken"),
        ("fatal: write error: No space left on device", "internal_failure"),
        ("remote: fatal: write error: No space left on device", "failure"),
        ("fatal: remote error: No space left on device", "failure"),
        ("fatal: something that nobody has seen", "failure"),
        ("", "failure"),
    ],
)  # fmt: skip
def test_what_complaints_mean(said: str, status: str) -> None:
    failed = process.ToolFailed("git fetch", process.Finished(128, b"", said))
    with pytest.raises(update.Ended) as ended:
        update.explain(failed, git.CAUSES)
    assert ended.value.outcome.status == status


def test_a_pack_beyond_the_limit_on_file_sizes(world: World, source: Repository) -> None:
    source.commit(content="".join(str(random.random()) for _ in range(20_000)))
    _, code = _spawn(_run_with_small_files, world, f"file://{source.path}")
    assert code == 0


def _run_with_small_files(world: World, url: str) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    outcome = world.run(1, url)
    assert outcome.status == "failure"
    assert "beyond a limit" in outcome.summary
    assert leftovers(world) == []
    assert not world.mirror.path.exists()


# --- nothing leaks in or out -------------------------------------------------------------------


def test_nothing_of_the_users_configuration_or_environment_matters(
    world: World, source: Repository, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = world.root / "home"
    hooks, mark = home / "hooks", home / "mark"
    hooks.mkdir(parents=True)
    for name in ("reference-transaction", "post-checkout", "post-update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n[url "file:///nowhere"]\n\tinsteadOf = file://\n'
    )
    hostile = {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_TEMPLATE_DIR": str(home),
        "GIT_DIR": "/nowhere",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
    }
    for job_id in (1, 2):
        source.commit()
        with monkeypatch.context() as patch:
            for name, value in hostile.items():
                patch.setenv(name, value)
            assert world.run(job_id, url).status == "success"
    assert not mark.exists()
    assert not (world.mirror.path / "hooks").exists()
    assert_same(source, world.mirror)


def test_a_users_name_reaches_neither_the_log_nor_the_server(
    world: World, source: Repository, http: HttpServer
) -> None:
    address = http.url.replace("http://", "http://s3cret@")
    assert world.run(1, f"{address}/source.git").status == "success"
    http.faults["/"] = answer(401, WWW_Authenticate='Basic realm="x"')
    outcome = world.run(2, f"{address}/source.git")
    assert "s3cret" not in "\n".join([*world.log, outcome.summary])
    assert "http://***@127.0.0.1" in world.log[0]


def test_a_flood_of_words_does_not_fill_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    finished = process.run_logged(
        ["sh", "-c", "yes flood | head -n 100000 >&2; printf '1%%\\r2%%\\r' >&2; exit 3"],
        env=process.closed_environment(tmp_path), cwd=tmp_path, log=lines.append,
    )  # fmt: skip
    assert finished.code == 3
    assert len(lines) == process.MOST_LINES + 1
    assert len(finished.err) <= process.TAIL


def test_git_must_be_there_and_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git.missing_tools() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in str(git.missing_tools())
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho git version 2.29.2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "2.30 or newer is needed" in str(git.missing_tools())
