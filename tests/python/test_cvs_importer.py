"""The CVS importer against real servers on the loopback: what it mirrors, and what it survives."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from code_import.importers import Login, Outcome, Run, RunLost, Source, converted, cvs
from code_import.importers.cvs_client import scramble
from code_import.importers.cvs_history import build
from code_import.importers.cvs_log import File, Revision
from harness.cvs_servers import CvsRepository, PServer, need_cvs, serve_cvs, serve_rsync
from harness.git_servers import free_port
from harness.worlds import TARGET, Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

_missing = need_cvs()
pytestmark = pytest.mark.skipif(_missing is not None, reason=str(_missing))


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(cvs) as made:
        yield made


@pytest.fixture
def source(world: World) -> CvsRepository:
    """Two commits and a tag."""
    made = CvsRepository(world.root / "served/cvs")
    made.commit("first", a="1\n", dir__b="b\n", bin=b"\0\1\n\xff")
    made.cvs("-q", "tag", "v1")
    made.commit("second", a="2\n", c="c\n")
    return made


@pytest.fixture
def server(source: CvsRepository) -> Iterator[PServer]:
    with serve_cvs(source.path) as told:
        yield told


def at(server: PServer | str, module: str = "module") -> Source:
    root = server if isinstance(server, str) else server.root()
    return Source("cvs", cvs_root=root, cvs_module=module)


def assert_same_as_cvs(world: World, source: CvsRepository) -> None:
    """Every branch and every tag has the files that CVS has for it, and everything is there."""
    mirror = world.mirror
    mirror.git("fsck", "--strict")
    names = {"HEAD": "refs/heads/main"}
    for ref in mirror.names("refs/heads", "refs/tags"):
        if ref != "refs/heads/main":
            names[ref.split("/", 2)[2]] = ref
    log = source.cvs("-q", "rlog", "-h", source.module)
    symbols = set(re.findall(r"(?m)^\t([^:\s]+): ", log))
    place = world.root / "export"
    for name in {"HEAD", *symbols}:
        wanted = source.export(name, place)
        if name in names:
            assert tree_of(mirror, names[name]) == wanted, name
        else:
            assert wanted == {}, name


def tree_of(repository: Repository, ref: str) -> dict[str, bytes]:
    files = {}
    for line in repository.git("ls-tree", "-r", "-z", ref).split("\0"):
        if line:
            about, path = line.split("\t")
            done = subprocess.run(
                ["git", f"--git-dir={repository.path}", "cat-file", "blob", about.split()[2]],
                capture_output=True, check=True,
            )  # fmt: skip
            files[path] = done.stdout
    return files


def subjects(repository: Repository, ref: str = "main") -> list[str]:
    return repository.git("log", "--format=%s", ref).split("\n")


# --- what is mirrored ----------------------------------------------------------------------------


def test_a_module_is_mirrored_and_kept_current(
    world: World, source: CvsRepository, server: PServer
) -> None:
    outcome = world.run(1, at(server))
    assert (outcome.status, outcome.refs) == ("success", 2), world.log
    assert subjects(world.mirror) == ["second", "first"]
    assert world.mirror.git("rev-parse", "v1") == world.mirror.git("rev-parse", "main^")
    assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert_same_as_cvs(world, source)
    assert world.run(2, at(server)).status == "success_nochange"
    source.commit("third", c=None, dir__new="x")
    outcome = world.run(3, at(server))
    assert (outcome.status, outcome.refs, outcome.commits) == ("success", 1, 1)
    assert_same_as_cvs(world, source)
    assert world.run(4, at(server)).status == "success_nochange"


def test_every_way_to_a_repository_comes_to_the_same_commits(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.cvs("-q", "tag", "-b", "branch")
    world.run(1, at(server))
    assert world.run(2, at(str(source.path)), code_import_id=2, target="local").status == "success"
    with serve_rsync(source.path) as url:
        outcome = world.run(3, at(url), code_import_id=3, target="rsync")
        assert outcome.status == "success", world.log
        source.commit("third", a="3\n", c=None)
        assert world.run(4, at(url), code_import_id=3, target="rsync").status == "success"
        assert world.run(5, at(url), code_import_id=3, target="rsync").status == "success_nochange"
    world.run(6, at(server))
    world.run(7, at(str(source.path)), code_import_id=2, target="local")
    for other in ("local", "rsync"):
        assert Repository(world.store / f"{other}.git").refs() == world.mirror.refs()
    assert not list(source.path.rglob("#cvs*"))


def test_a_commit_says_who_when_and_what_and_nothing_of_the_way(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.commit("Zürich\n\nmore\n", a="x")
    world.run(1, at(server))
    commit = world.mirror.git("cat-file", "-p", "main")
    lines = commit.split("\n")
    (author,) = (line for line in lines if line.startswith("author"))
    assert re.fullmatch(r"author (\w+) <\1> \d+ \+0000", author)
    assert commit.endswith("\n\nZürich\n\nmore")
    everything = world.mirror.git("log", "--all", "--format=raw", "-p")
    for word in ("127.0.0.1", str(server.port), str(source.path), "pserver"):
        assert word not in everything


def test_latin_1_becomes_utf_8(world: World, source: CvsRepository, server: PServer) -> None:
    master = source.path / "module/a,v"
    master.chmod(0o644)
    master.write_bytes(master.read_bytes().replace(b"second", b"Z\xfcrich"))
    world.run(1, at(server))
    assert "Zürich" in subjects(world.mirror)


def test_executable_files_stay_so(world: World, source: CvsRepository, server: PServer) -> None:
    script = source.copy / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    source.cvs("-q", "add", "script")
    source.commit("a script")
    world.run(1, at(server))
    assert world.mirror.git("ls-tree", "main", "script").startswith("100755")


def test_keywords_are_as_they_were_put_in(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.commit("with keywords", keys="$Id$ $Log$ $Name$\n")
    world.run(1, at(server))
    assert world.mirror.git("show", "main:keys") == "$Id$ $Log$ $Name$"


def test_a_vendor_branch_is_the_trunk_until_it_is_changed(world: World) -> None:
    source = CvsRepository(world.root / "served/cvs")
    vendor = world.root / "vendor"
    vendor.mkdir()
    for release, text in (("R1", "one\n"), ("R2", "two\n")):
        for name in ("x", "y"):
            (vendor / name).write_text(text)
        source.cvs("-q", "import", "-m", f"release {release}", "module", "VENDOR", release,
                   folder=vendor)  # fmt: skip
    source.cvs("-q", "update", "-d")
    source.commit("our own", x="ours\n")
    source.cvs("-q", "tag", "mixed")
    with serve_cvs(source.path) as server:
        assert world.run(1, at(server)).status == "success", world.log
        assert_same_as_cvs(world, source)
        assert subjects(world.mirror) == ["our own", "release R2", "release R1"]
        assert world.mirror.git("rev-parse", "R1") == world.mirror.git("rev-parse", "VENDOR^")
        assert world.mirror.git("rev-parse", "mixed") == world.mirror.git("rev-parse", "main")


def test_names_that_git_does_not_have_are_left_out(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.commit("a trap", **{"dir__.git__config": "[core]\n", "dir__x": "x"})
    outcome = world.run(1, at(server))
    assert outcome.status == "success", outcome
    assert "Left out: 1 thing." in outcome.summary
    assert sorted(tree_of(world.mirror, "main")) == ["a", "bin", "c", "dir/b", "dir/x"]


def test_branches_begin_where_they_were_made(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.cvs("-q", "tag", "-b", "BRANCH")
    source.commit("on the trunk", a="trunk\n")
    source.cvs("-q", "update", "-r", "BRANCH")
    source.commit("on the branch", a="branch\n", added="new\n")
    source.cvs("-q", "tag", "-b", "SUB")
    source.cvs("-q", "update", "-r", "SUB")
    source.commit("on the branch of the branch", a="sub\n")
    world.run(1, at(server))
    assert subjects(world.mirror, "SUB") == [
        "on the branch of the branch", "on the branch", "second", "first",
    ]  # fmt: skip
    assert world.mirror.names() == [f"refs/heads/{name}" for name in ("BRANCH", "SUB", "main")] + [
        "refs/tags/v1"
    ]
    assert_same_as_cvs(world, source)


def test_a_tag_that_no_commit_has_gets_one(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.cvs("-q", "tag", "-r", "1.1", "odd", "a")
    source.cvs("-q", "tag", "odd", "c")
    world.run(1, at(server))
    assert tree_of(world.mirror, "odd") == {"a": b"1\n", "c": b"c\n"}
    assert subjects(world.mirror, "odd")[0] == "Create tag odd"
    assert_same_as_cvs(world, source)


def test_a_file_that_comes_to_a_branch_later_is_on_it_from_then_on(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.cvs("-q", "tag", "-b", "BRANCH", "a")
    source.cvs("-q", "update", "-r", "BRANCH", "a")
    source.commit("on the branch", a="branch\n")
    world.run(1, at(server))
    before = world.mirror.git("rev-parse", "BRANCH")
    source.cvs("-q", "tag", "-b", "BRANCH", "c")
    outcome = world.run(2, at(server))
    assert outcome.status == "success", outcome
    assert_same_as_cvs(world, source)
    assert before in world.mirror.git("rev-list", "BRANCH", "--all").split()


def test_a_branch_named_as_the_trunk_is_in_git_has_its_name(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.cvs("-q", "tag", "-b", "main")
    world.run(1, at(server))
    assert world.mirror.names("refs/heads") == ["refs/heads/main", "refs/heads/main_"]
    assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main_"


def test_a_log_in_a_message_is_a_message(
    world: World, source: CvsRepository, server: PServer
) -> None:
    """Be it of this file or of another one."""
    source.commit("of its own", a="w", c="w", dir__b="w")
    pasted = source.cvs("-q", "log", "a") + source.cvs("-q", "log", "c")
    source.commit(f"see:\n{pasted}", a="x")
    assert world.run(1, at(server)).status == "success", world.log
    assert world.mirror.git("rev-list", "--count", "main") == "4"
    assert_same_as_cvs(world, source)


def test_folders_and_names_of_the_modules_file_are_modules(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.administer("modules", "short module/dir\nrun -o touch module\n")
    for number, module in enumerate(("module/dir", "short")):
        target = f"target{number}"
        outcome = world.run(
            number + 1, at(server, module), code_import_id=number + 1, target=target
        )
        assert outcome.status == "success", (outcome, world.log)
        assert tree_of(Repository(world.store / f"{target}.git"), "main") == {"b": b"b\n"}


def test_a_file_that_is_in_the_attic_too_is_the_one_outside() -> None:
    outside, inside = File(b"a", attic=False), File(b"a", attic=True)
    for file, log in ((outside, b"outside\n"), (inside, b"inside\n")):
        file.revisions[1, 1] = Revision(b"a", (1, 1), 1, b"x", log, b"", False)
    for files in ([outside, inside], [inside, outside]):
        assert [commit.log for commit in build(files).commits] == [b"outside\n"]


@pytest.mark.parametrize("seed", range(2))
def test_random_histories_have_the_files_that_cvs_has(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued many times, with few revisions at a time; and all commits are those of one go."""
    chance = random.Random(seed)
    source = CvsRepository(world.root / "served/cvs")
    story = Story(source, chance)
    job_id = 0
    with serve_cvs(source.path) as server:
        for _ in range(2):
            for _ in range(12):
                story.go_on()
            monkeypatch.setattr(cvs, "RUN_SECONDS", 0.0)
            monkeypatch.setattr(cvs, "MOST_FETCHED", 15)
            for _ in range(30):
                job_id += 1
                if (outcome := world.run(job_id, at(server))).status != "success_partial":
                    break
            assert outcome.status in ("success", "success_nochange"), (outcome, world.log)
            assert_same_as_cvs(world, source)
        monkeypatch.undo()
        outcome = world.run(job_id + 1, at(server), code_import_id=2, target="fresh")
        assert outcome.status == "success", (outcome, world.log)
    fresh = Repository(world.store / "fresh.git")
    assert fresh.refs("refs/heads", "refs/tags") == world.mirror.refs("refs/heads", "refs/tags")
    assert "rewritten" not in "\n".join(line for line in world.log if line.startswith("Published"))


class Story:
    """Somebody at work: changes, branches, tags, on one line of development after another."""

    def __init__(self, source: CvsRepository, chance: random.Random) -> None:
        self.source = source
        self.chance = chance
        self.count = 0
        self.branches: list[str] = []

    def go_on(self) -> None:
        self.count += 1
        kinds = ["change"] * 5 + ["tag", "branch", "go", "partial tag"]
        kind = self.chance.choice(kinds) if self.count > 3 else "change"
        if kind == "tag":
            self.source.cvs("-q", "tag", f"T{self.count}")
        elif kind == "partial tag":
            for name in self.chance.sample(self._files(), k=len(self._files()) // 2):
                self.source.cvs("-q", "tag", f"P{self.count}", name)
        elif kind == "branch":
            self.branches.append(f"B{self.count}")
            self.source.cvs("-q", "tag", "-b", self.branches[-1])
        elif kind == "go" and self.branches:
            there = self.chance.choice([["-A"], ["-r", self.chance.choice(self.branches)]])
            self.source.cvs("-q", "update", "-d", *there)
        else:
            self._change()

    def _change(self) -> None:
        present = self._files()
        changes: dict[str, str | bytes | None] = {}
        for _ in range(self.chance.randint(1, 4)):
            folder = self.chance.choice(["", "x/", "x/y/", "z/"])
            name = f"{folder}f{self.chance.randint(1, 6)}"
            is_there = name in present
            changes[name] = None if is_there and self.chance.random() < 0.3 else self._text()
        self.source.write_all(changes)
        self.source.cvs("-q", "commit", "-m", f"change {self.count}")

    def _text(self) -> str:
        return "".join(f"{self.chance.random()}\n" for _ in range(self.chance.randint(0, 3)))

    def _files(self) -> list[str]:
        found = (path for path in self.source.copy.rglob("*") if path.is_file())
        names = (str(path.relative_to(self.source.copy)) for path in found)
        return sorted(name for name in names if "CVS/" not in name)


def test_without_commit_ids_author_message_and_time_make_a_commit(
    world: World, source: CvsRepository, server: PServer
) -> None:
    source.commit("third", a="3\n", c="3\n")
    for master in source.path.joinpath("module").rglob("*,v"):
        text = re.sub(rb"commitid\s+\w+;\n", b"", master.read_bytes())
        master.chmod(0o644)
        master.write_bytes(
            re.sub(rb"(?s)^(1\.2\ndate\s+)\S+;", rb"\g<1>2001.01.01.00.00.00;", text)
        )
    assert b"commitid" not in (source.path / "module/a,v").read_bytes()
    assert world.run(1, at(server)).status == "success"
    assert subjects(world.mirror) == ["third", "second", "first"]
    assert_same_as_cvs(world, source)


# --- long histories, and runs that end on the way ------------------------------------------------


def test_partial_runs_say_how_far_they_are(
    world: World, source: CvsRepository, server: PServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvs, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(cvs, "MOST_FETCHED", 3)
    monkeypatch.setattr(cvs, "LINE_EVERY", 0.0)
    outcome = world.run(1, at(server))
    assert outcome.status == "success_partial"
    assert "Read 1 of 2 commits. More to come." in outcome.summary
    assert subjects(world.mirror) == ["first"]
    assert any(re.search(r"Revision 3 of 5 \(60%\), \d+ a second", line) for line in world.log)
    assert world.run(2, at(server)).status == "success"
    assert subjects(world.mirror) == ["second", "first"]


def test_a_run_that_is_killed_is_continued(
    world: World, source: CvsRepository, server: PServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random moments, many times: the next run goes on, and comes to the same commits."""
    for number in range(15):
        source.commit(f"change {number}", a=f"{number}\n", c=f"{number}\n")
    monkeypatch.setattr(cvs, "MOST_FETCHED", 3)
    world.run(1, at(server), code_import_id=2, target="at-once")
    chance = random.Random(7)
    for job_id in range(2, 14):
        process = get_context("fork").Process(target=_run_alone, args=(world, job_id, at(server)))
        process.start()
        process.join(chance.uniform(0.02, 0.5))
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    assert world.run(20, at(server)).status in ("success", "success_nochange"), world.log
    at_once = Repository(world.store / "at-once.git")
    assert world.mirror.refs() == at_once.refs()
    world.mirror.git("fsck", "--strict")


def _run_alone(world: World, job_id: int, source: Source) -> None:
    os.setpgid(0, 0)
    world.run(job_id, source)


def test_a_lost_run_publishes_nothing(world: World, source: CvsRepository, server: PServer) -> None:
    world.run(1, at(server))
    before = world.mirror.refs()
    source.commit("third", a="3\n")

    def lost() -> None:
        raise RunLost

    with pytest.raises(RunLost):
        world.run(2, at(server), confirm=lost)
    assert world.mirror.refs() == before
    assert world.run(3, at(server)).status == "success"


def test_revisions_that_are_here_are_not_fetched_again(
    world: World, source: CvsRepository, server: PServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(1, at(server))
    source.commit("third", a="3\n")
    monkeypatch.setattr(cvs, "LINE_EVERY", 0.0)
    world.log.clear()
    world.run(2, at(server))
    assert sum("Revision 1 of 1 (100%)" in line for line in world.log) == 1


# --- history that changes ------------------------------------------------------------------------


def test_a_rewritten_history_is_what_a_fresh_import_gives(
    world: World, source: CvsRepository, server: PServer
) -> None:
    """A revision is taken out, another gets its number; a message changes; a tag moves."""
    source.commit("third", a="3\n")
    world.run(1, at(server))
    source.cvs("-q", "admin", "-o1.3", "a")
    source.cvs("-q", "update", "-C", "a")
    source.commit("another third", a="another\n")
    source.cvs("-q", "admin", "-m1.1:another message", "c")
    source.cvs("-q", "tag", "-F", "v1")
    outcome = world.run(2, at(server))
    assert outcome.status == "success", outcome
    assert_same_as_cvs(world, source)
    world.run(3, at(server), code_import_id=2, target="fresh")
    fresh = Repository(world.store / "fresh.git")
    assert world.mirror.refs("refs/heads", "refs/tags") == fresh.refs("refs/heads", "refs/tags")
    assert world.mirror.names("refs/keep")


def test_an_emptied_module_empties_no_mirror(
    world: World, source: CvsRepository, server: PServer
) -> None:
    world.run(1, at(server))
    before = world.mirror.refs()
    for master in source.path.joinpath("module").rglob("*,v"):
        master.unlink()
    outcome = world.run(2, at(server))
    assert outcome.status == "failure_remote_broken", (outcome, world.log)
    assert world.mirror.refs() == before


def test_an_empty_module_has_an_empty_mirror(world: World) -> None:
    source = CvsRepository(world.root / "served/cvs")
    with serve_cvs(source.path) as server:
        assert world.run(1, at(server)).status == "success", world.log
        assert world.run(2, at(server)).status == "success_nochange"
        source.commit("first", a="1\n")
        assert world.run(3, at(server)).status == "success"
        assert subjects(world.mirror) == ["first"]


# --- sources that fail ---------------------------------------------------------------------------


def test_a_missing_module_is_invalid(world: World, server: PServer) -> None:
    outcome = world.run(1, at(server, "nothing"))
    assert outcome.status == "failure_invalid", outcome
    assert "no such module" in outcome.summary


def test_what_rsync_does_not_have_is_invalid(world: World, source: CvsRepository) -> None:
    with serve_rsync(source.path) as url:
        for root, module in ((url, "nothing"), (url.replace("/all", "/other"), "module")):
            outcome = world.run(1, at(root, module))
            assert outcome.status == "failure_invalid", (outcome, world.log)


def test_a_missing_repository_is_invalid(world: World, server: PServer) -> None:
    """It has moved, or never was."""
    outcome = world.run(1, at(f":pserver:anonymous@127.0.0.1:{server.port}/nowhere"))
    assert outcome.status == "failure_invalid", (outcome, world.log)


@pytest.mark.parametrize(
    ("password", "host", "status"),
    [
        ("se cr&et~'\"\\|", "127.0.0.1", "success"),
        ("wrong", "127.0.0.1", "failure_invalid"),
        ("se cr&et~'\"\\|", "example.org", "failure_invalid"),
        (None, "127.0.0.1", "failure_invalid"),
    ],
)
def test_a_login_is_shown_to_its_own_host(
    world: World,
    source: CvsRepository,
    server: PServer,
    password: str | None,
    host: str,
    status: str,
) -> None:
    source.allow("somebody", "se cr&et~'\"\\|")
    login = None if password is None else Login(host, "somebody", password)
    place = Source("cvs", cvs_root=server.root("somebody"), cvs_module="module")
    run = Run(1, 1, TARGET, place, world.store, world.log.append, lambda: None, world.policy,
              login)  # fmt: skip
    outcome = cvs.run_import(run)
    assert outcome.status == status, (outcome, world.log)
    if status == "failure_invalid":
        assert "login" in outcome.summary
    for secret in ("se cr&et", scramble("se cr&et~'\"\\|")):
        assert not any(secret in line for line in world.log)
        for path in world.store.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_the_scrambling_of_passwords_undoes_itself() -> None:
    printable = "".join(map(chr, range(32, 127)))
    once = scramble(printable)
    assert once[0] == "A"
    assert once[1:] != printable
    assert scramble(once[1:])[1:] == printable


def test_an_unreachable_server_is_a_failure(world: World) -> None:
    outcome = world.run(1, at(f":pserver:anonymous@127.0.0.1:{free_port()}/cvs"))
    assert outcome.status == "failure", outcome
    assert "no connection" in outcome.summary
    outcome = world.run(2, at(f"rsync://127.0.0.1:{free_port()}/cvs"))
    assert outcome.status == "failure", outcome


def test_a_damaged_file_is_broken(world: World, source: CvsRepository, server: PServer) -> None:
    world.run(1, at(server))
    before = world.mirror.refs()
    source.commit("third", a="3\n")
    master = source.path / "module/a,v"
    master.chmod(0o644)
    content = master.read_bytes()
    master.write_bytes(content[: len(content) // 3])
    outcome = world.run(2, at(server))
    assert outcome.status == "failure_remote_broken", (outcome, world.log)
    assert world.mirror.refs() == before


def test_a_revision_without_content_is_broken(
    world: World, source: CvsRepository, server: PServer
) -> None:
    """The log is whole, and the text that it speaks of is not there."""
    master = source.path / "module/a,v"
    master.chmod(0o644)
    content = master.read_bytes()
    master.write_bytes(content[: content.rindex(b"\n1.1\nlog")])
    outcome = world.run(1, at(server))
    assert outcome.status == "failure_remote_broken", (outcome, world.log)


@pytest.mark.parametrize("after", [5, 200, 1_000, 2_500])
def test_an_answer_that_breaks_off_is_a_failure(
    world: World, source: CvsRepository, server: PServer, after: int
) -> None:
    server.cut_after = after
    outcome = world.run(1, at(server))
    assert outcome.status == "failure", (outcome, world.log)
    assert "broke" in outcome.summary
    server.cut_after = None
    assert world.run(2, at(server)).status == "success"
    assert_same_as_cvs(world, source)


@pytest.mark.parametrize("after", [5, 1_000])
def test_a_stalled_server_is_given_up(
    world: World, server: PServer, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(cvs, "SOCKET_TIMEOUT", 1.0)
    server.cut_after, server.stalls = after, True
    outcome = world.run(1, at(server))
    server.over.set()
    assert outcome.status == "failure", outcome
    assert "stalled" in outcome.summary


def test_an_answer_that_never_ends_is_given_up(
    world: World, server: PServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvs, "ANSWER_SECONDS", -1.0)
    assert "stalled" in world.run(1, at(server)).summary


_GREETING = b"I LOVE YOU\nValid-requests Root rlog co\nok\n"


@contextlib.contextmanager
def pretend(answers: bytes) -> Iterator[str]:
    """A server that says the same to everybody; gives its root."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(answers)
                        connection.settimeout(5)
                        while connection.recv(65536):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f":pserver:anonymous@127.0.0.1:{listener.getsockname()[1]}/cvs"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        (b"I LOVE YOU\nValid-requests Root co\nok\n", "failure_unsupported_feature"),
        (b"I HATE YOU\n", "failure_invalid"),
        (b"error 0 something odd\n", "failure"),
        (b"E Fatal error, aborting.\nerror 0 : no such user\n", "failure_invalid"),
        (_GREETING + b"M RCS file: /cvs/module/a,v\nM nonsense\nok\n", "failure"),
        (_GREETING + b"M RCS file: /elsewhere/a,v\nM " + b"=" * 77 + b"\nok\n",
         "failure"),
    ],
)  # fmt: skip
def test_servers_that_are_none_of_cvs(world: World, answers: bytes, status: str) -> None:
    with pretend(answers) as root:
        outcome = world.run(1, at(root))
    assert outcome.status == status, (outcome, world.log)


# --- what may be reached -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    [
        ":ext:127.0.0.1:/cvs",
        ":ext;CVS_RSH=/bin/touch:127.0.0.1:/cvs",
        ":pserver;proxy=127.0.0.1;proxyport={port}:anonymous@127.0.0.1:/cvs",
        ":pserver:anonymous:secret@127.0.0.1:/cvs",
        ":local:/cvs",
        ":fork:/cvs",
        ":server:127.0.0.1:/cvs",
        ":gserver:127.0.0.1:/cvs",
        ":extssh:127.0.0.1:/cvs",
        "127.0.0.1:/cvs",
        "/etc",
        "relative",
        "",
        ":pserver:anonymous@localhost:{port}/cvs",
        ":pserver:anonymous@[::1]:{port}/cvs",
        ":pserver:anonymous@127.1:{port}/cvs",
        ":pserver:-x@127.0.0.1:{port}/cvs",
        "rsync://localhost:{port}/cvs",
        "rsync://user:secret@127.0.0.1:{port}/cvs",
    ],
)
def test_no_root_but_an_allowed_one_is_used(
    world: World, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started for it, and nothing connected to."""
    monkeypatch.setattr(cvs, "piped", lambda *_, **__: pytest.fail("a program was started"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = world.run(1, at(root.format(port=listener.getsockname()[1])))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert outcome.status == "failure_forbidden", outcome
    assert "secret" not in outcome.summary


@pytest.mark.parametrize("module", ["-x", "../other", "a/../../b", "a\nArgument -x", "a;b", ""])
def test_no_module_but_a_path_or_a_name_is_used(world: World, server: PServer, module: str) -> None:
    assert world.run(1, at(server, module)).status == "failure_forbidden"
    assert server.connections == 0


def test_programs_in_a_repository_are_not_run(
    world: World, source: CvsRepository, server: PServer
) -> None:
    """Not those of a local one either, which is read with a cvs of ours."""
    ran = world.root / "ran"
    script = world.root / "script"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    source.administer("modules", f"module -o {script} -e {script} module\n")
    for name in ("commitinfo", "loginfo", "taginfo", "postproxy", "preproxy"):
        source.administer(name, f"ALL {script}\n")
    assert world.run(1, at(str(source.path))).status == "success", world.log
    assert not ran.exists()


def test_nobodys_settings_are_used(
    world: World, source: CvsRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = world.root / "somebody"
    home.mkdir()
    (home / ".cvsrc").write_text("cvs --nonsense\nrlog --nonsense\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CVSROOT", "/nowhere")
    assert world.run(1, at(str(source.path))).status == "success", world.log


# --- this machine --------------------------------------------------------------------------------


def test_missing_tools_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cvs.missing_tools() is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cvs.missing_tools() == "git and cvs and rsync not installed"


def test_imports_share_nothing(world: World, source: CvsRepository, server: PServer) -> None:
    """The same module in another repository is another history."""
    world.run(1, at(server))
    other = CvsRepository(world.root / "others/cvs")
    other.commit("something else", z="z\n")
    with serve_cvs(other.path) as another:
        world.run(2, at(another), code_import_id=2, target="other")
    mirror = Repository(world.store / "other.git")
    assert subjects(mirror) == ["something else"]
    assert tree_of(mirror, "main") == {"z": b"z\n"}


def test_a_lost_repository_is_made_anew(
    world: World, source: CvsRepository, server: PServer
) -> None:
    world.run(1, at(server))
    (repository,) = world.store.glob(".code-import/work/*/converted.git")
    shutil.rmtree(repository)
    source.commit("third", a="3")
    assert world.run(2, at(server)).status == "success", world.log
    assert_same_as_cvs(world, source)


def test_packs_are_kept_within_bounds(
    world: World, source: CvsRepository, server: PServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "MOST_PACKS", 3)
    outcome: Outcome | None = None
    for job_id in range(1, 9):
        source.commit(f"change {job_id}", a=f"{job_id}\n")
        outcome = world.run(job_id, at(server))
        assert outcome.status == "success"
    (folder,) = world.store.glob(".code-import/work/*/converted.git/objects/pack")
    assert len(list(folder.glob("*.pack"))) <= 5
    assert_same_as_cvs(world, source)
