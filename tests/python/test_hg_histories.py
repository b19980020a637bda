"""What the Mercurial importer makes of histories, however odd, and however often it is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from code_import.importers import hg
from harness.hg_servers import Mercurial, need_hg
from harness.worlds import Repository, World, new_world

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
    made = Mercurial.create(world.root / "sources/hg")
    made.commit("first", file="one\n")
    return made


@pytest.fixture
def url(source: Mercurial) -> str:
    return f"file://{source.path}"


def commits(repository: Repository) -> list[str]:
    return repository.refs("refs/heads", "refs/tags")


def test_killed_at_any_moment_it_goes_on(
    world: World, source: Mercurial, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its tools, again and again; what comes out is what one run makes elsewhere."""
    source.hg("debugbuilddag", "--new-file", "--from-existing", "+40:a/a+20@b+40/a")
    monkeypatch.setattr(hg, "WINDOW", 7)
    moments = random.Random(7)
    killed = 0
    for job_id in range(1, 13):
        killed += run_killed(world, job_id, url, after=moments.uniform(0.1, 2.0))
        source.commit()
    assert killed
    outcome = world.run(100, url)
    assert outcome.status in ("success", "success_nochange"), (outcome, world.log[-30:])
    assert world.run(101, url, code_import_id=2, target="other").status == "success"
    assert commits(world.mirror) == commits(Repository(world.store / "other.git"))
    world.mirror.git("fsck", "--strict")


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


def test_a_pull_that_was_killed_is_undone(world: World, source: Mercurial, url: str) -> None:
    """Locks and a transaction that nobody ends any more."""
    world.run(1, url)
    hg_folder = next(world.store.rglob("clone/.hg"))
    changelog = hg_folder / "store/00changelog.i"
    size = changelog.stat().st_size
    (hg_folder / "store/journal").write_text(f"00changelog.i\0{size}\n")
    (hg_folder / "store/journal.backupfiles").write_text("2\n")
    with changelog.open("ab") as file:
        file.write(b"a part of a revision")
    for lock in ("store/lock", "wlock"):
        (hg_folder / lock).symlink_to("elsewhere/4f:12345")
    source.commit("second", file="two\n")
    outcome = world.run(2, url)
    assert outcome.status == "success", (outcome, world.log)
    assert world.mirror.git("show", "default:file") == "two"


@pytest.mark.parametrize(
    ("user", "author"),
    [
        ("Ada <ada@example.org>", "Ada <ada@example.org>"),
        ("ada", "ada <>"),
        ("ada@example.org", "ada <ada@example.org>"),
        ("<ada@example.org>", " <ada@example.org>"),
        ("Ada < a >> b", "Ada <a>"),
        ("Zoë Ünal <zoe@example.org>", "Zoë Ünal <zoe@example.org>"),
    ],
)
def test_anybody_may_have_made_a_changeset(
    world: World, source: Mercurial, url: str, user: str, author: str
) -> None:
    (source.path / "file").write_text("by somebody\n")
    source.hg("commit", "-m", "odd", "-u", user, "-d", "1000 18000")
    assert world.run(1, url).status == "success", world.log
    assert world.mirror.git("log", "-1", "--format=%an <%ae>", "default").strip() == author.strip()
    assert world.mirror.git("log", "-1", "--format=%ad", "--date=raw", "default") == "1000 -0500"
    world.mirror.git("fsck", "--strict")


@pytest.mark.parametrize("date", ["-5 0", "0 -50400", "2147483647 43200", "100 1234"])
def test_at_any_time(world: World, source: Mercurial, url: str, date: str) -> None:
    """Before there was one, and in zones that git has not."""
    (source.path / "file").write_text("some time\n")
    source.hg("commit", "-m", "odd", "-u", "ada", "-d", date)
    assert world.run(1, url).status == "success", world.log
    world.mirror.git("fsck", "--strict")


def test_files_of_all_kinds(world: World, source: Mercurial, url: str) -> None:
    """Names and contents with all bytes, executables, links, and what changes its kind."""
    names = [b"a b", b'"quoted"', b"back\\slash", b"new\nline"[:3], b"\xff\xfe", "ünï".encode()]
    folder = os.fsencode(source.path)
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(bytes(range(256)))
    marked = "\1\nwhat hg puts before copies\n\1\n"
    for name in ("a marked", "z marked"):
        (source.path / name).write_text(marked)
    (source.path / "tool").write_text("#!/bin/sh\n")
    (source.path / "tool").chmod(0o755)
    (source.path / "link").symlink_to("file")
    (source.path / "kind").mkdir()
    (source.path / "kind/inner").write_text("")
    source.commit("kinds", empty="")
    (source.path / "kind/inner").unlink()
    (source.path / "kind").rmdir()
    (source.path / "link").unlink()
    (source.path / "tool").chmod(0o644)
    source.commit("other kinds", kind="now a file\n", link="now a file\n")
    assert world.run(1, url).status == "success", world.log
    mirror = world.mirror
    listed = mirror.git("ls-tree", "-rz", "default~1").split("\0")[:-1]
    modes = {line.partition("\t")[2]: line[:6] for line in listed}
    assert modes["tool"] == "100755"
    assert modes["link"] == "120000"
    assert {os.fsdecode(name) for name in names} <= set(modes)
    assert mirror.git("cat-file", "-s", "default:a b") == "256"
    assert mirror.git("cat-file", "-s", "default:empty") == "0"
    for name in ("a marked", "z marked"):
        assert mirror.git("cat-file", "-s", f"default:{name}") == str(len(marked))
    assert mirror.git("show", "default~1:link") == "file"
    assert mirror.git("show", "default:kind") == "now a file"
    assert mirror.git("ls-tree", "default", "tool", "link").split()[::4] == ["100644", "100644"]
    mirror.git("fsck", "--strict")


def test_names_of_all_kinds(world: World, source: Mercurial, url: str) -> None:
    """What git refuses is written in another way, and nothing is in another's way unsaid."""
    source.hg("branch", "-q", "a b~1")
    source.commit("odd branch")
    source.hg("branch", "-q", "b.lock")
    source.commit("a lock")
    source.hg("branch", "-q", "ünï")
    source.commit("letters")
    source.hg("tag", "-d", "9 0", "-u", "ada", "v 1", "v..2", "@{3}")
    for name in ("wip^", "tab\\", "ünï b", "default2"):
        source.hg("bookmark", "-r", "0", name)
    outcome = world.run(1, url)
    assert outcome.status == "success", (outcome, world.log)
    names = world.mirror.names("refs/heads", "refs/tags")
    assert set(names) == {
        "refs/heads/default", "refs/heads/a%20b%7E1", "refs/heads/b%2Elock", "refs/heads/ünï",
        "refs/heads/wip%5E", "refs/heads/tab%5C", "refs/heads/ünï%20b", "refs/heads/default2",
        "refs/tags/v%201", "refs/tags/v.%2E2", "refs/tags/@%7B3}",
    }  # fmt: skip


def test_names_that_are_in_each_others_way(world: World, source: Mercurial, url: str) -> None:
    """A branch beside its folder, a bookmark beside a branch of its name, a name that is encoded
    beside one that is written so: each is there, or said not to be."""
    first = source.hg("id", "-i", "--debug", "-r", "0")
    source.hg("branch", "-q", "dev")
    source.commit("dev")
    source.hg("branch", "-q", "dev/sub")
    source.commit("below dev")
    source.hg("branch", "-q", "a b")
    source.commit("a space")
    source.hg("branch", "-q", "a%20b")
    source.commit("an escape")
    source.hg("bookmark", "-r", first, "stable")
    source.hg("branch", "-q", "stable")
    source.commit("stable")
    outcome = world.run(1, url)
    assert outcome.status == "success", (outcome, world.log)
    names = world.mirror.names("refs/heads")
    told = [line for line in world.log if line.startswith("Left out:")]
    assert "refs/heads/bookmarks/stable" in names
    assert len(names) + len(told) == 7
    world.log.clear()
    assert world.run(2, url).status == "success_nochange"
    assert [line for line in world.log if line.startswith("Left out:")] == told


def test_a_merge_is_one(world: World, source: Mercurial, url: str) -> None:
    """Of trees that both sides have changed, with what came and went on either."""
    source.commit("base", gone="1\n", kept="1\n")
    source.commit("left", left="1\n", gone=None)
    left = source.hg("id", "-i", "-r", ".")
    source.hg("update", "-q", "-r", "1")
    source.commit("right", right="1\n", kept="2\n")
    source.hg("--config", "ui.merge=internal:merge", "merge", "-q", "-r", left)
    source.hg("commit", "-m", "merge", "-u", "ada", "-d", "50 0")
    source.commit("after")
    assert world.run(1, url).status == "success", world.log
    mirror = world.mirror
    assert mirror.git("rev-list", "--parents", "-1", "default~1").count(" ") == 2
    for place, revision in (("default", "tip"), ("default~1", "p1(tip)"), ("default~1^2", left)):
        files = mirror.git("ls-tree", "-r", "--name-only", place).split()
        assert files == source.hg("files", "-r", revision, "-T", "{path}\n").split(), place
        for file in files:
            shown = source.hg("cat", "-r", revision, file)
            assert mirror.git("show", f"{place}:{file}") == shown
    mirror.git("fsck", "--strict")


def test_a_changeset_without_a_change(world: World, source: Mercurial, url: str) -> None:
    """As a branch makes that is opened or closed; and one without a word."""
    source.hg("branch", "-q", "empty")
    source.hg("commit", "-m", "opened", "-u", "ada", "-d", "5 0")
    source.hg("update", "-q", "default")
    (source.path / "file").write_text("x\n")
    source.hg("commit", "-m", "  words\twith\n\nlines  ", "-u", "ada", "-d", "5 0")
    assert world.run(1, url).status == "success", world.log
    mirror = world.mirror
    assert mirror.git("rev-parse", "empty^{tree}") == mirror.git("rev-parse", "empty~1^{tree}")
    assert mirror.git("log", "-1", "--format=%B", "default") == "words\twith\n\nlines"


def test_what_git_cannot_have_is_left_out_and_told_each_time(
    world: World, source: Mercurial, url: str
) -> None:
    (source.path / "sub/.git").mkdir(parents=True)
    (source.path / "sub/.git/config").write_text("[core]\n")
    (source.path / "file").write_text("beside\n")
    source.commit("a trap")
    assert "sub/.git/config" in source.hg("files", "-r", "tip")
    for job_id, status in ((1, "success"), (2, "success_nochange")):
        world.log.clear()
        outcome = world.run(job_id, url)
        assert outcome.status == status, (outcome, world.log)
        assert [line for line in world.log if line.startswith("Left out:")] == [
            "Left out: 'sub/.git/config': git has no such names"
        ]
        assert "Left out: 1 thing." in outcome.summary
    assert world.mirror.git("ls-tree", "-r", "--name-only", "default") == "file"


def test_subrepositories_are_not_followed(world: World, source: Mercurial, url: str) -> None:
    (source.path / ".hgsub").write_text("sub = http://10.0.0.1/other\n")
    (source.path / ".hgsubstate").write_text(f"{'1' * 40} sub\n")
    source.hg("--config", "subrepos.allowed=false", "addremove", "-q")
    made = Mercurial.create(source.path / "sub")
    made.commit("inner")
    (source.path / ".hgsub").write_text("sub = sub\n")
    source.hg("commit", "-m", "with a sub", "-u", "ada", "-d", "7 0")
    outcome = world.run(1, url)
    assert outcome.status == "success", (outcome, world.log)
    listed = world.mirror.git("ls-tree", "-r", "--name-only", "default").split()
    assert listed == [".hgsub", ".hgsubstate", "file"]


def test_a_damaged_workspace_is_made_anew(world: World, source: Mercurial, url: str) -> None:
    """The converted objects are gone, or the clone has become unreadable: nobody has to come."""
    world.run(1, url)
    broken = {
        "converted.git/objects/pack": lambda folder: [each.unlink() for each in folder.iterdir()],
        "clone/.hg/store": lambda folder: (folder / "00changelog.i").write_bytes(b"\0" * 99),
    }
    job_ids = iter(range(2, 20))
    for place, damage in broken.items():
        source.commit()
        damage(next(world.store.rglob(place)))
        statuses = [world.run(next(job_ids), url).status for _ in range(3)]
        assert statuses[2] in ("success", "success_nochange"), (place, statuses, world.log)
        world.mirror.git("fsck", "--strict")
        newest = world.mirror.git("show", "default:file")
        assert newest == source.hg("cat", "-r", "default", "file"), place


def test_what_a_part_publishes_is_not_taken_back(
    world: World, source: Mercurial, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where branches are closed later, and where another head comes to be the newest."""
    for number in range(12):
        source.hg("update", "-q", "-r", "0")
        source.hg("branch", "-q", f"feature{number}")
        source.commit(f"feature {number}")
        source.hg("commit", "--close-branch", "-m", "done", "-u", "ada", "-d", "99 0")
    source.hg("update", "-q", "-r", "0")
    other = source.commit("one head of default", other="1\n")
    source.hg("update", "-q", "-r", "0")
    for _ in range(6):
        source.commit("the other head")
    source.hg("update", "-q", other)
    source.commit("the newest")
    monkeypatch.setattr(hg, "WINDOW", 5)
    monkeypatch.setattr(hg, "RUN_SECONDS", 0.0)
    before: dict[str, str] = {}
    for job_id in range(1, 20):
        outcome = world.run(job_id, url)
        assert outcome.status in ("success", "success_partial"), (outcome, world.log)
        refs = dict(line.split()[::-1] for line in commits(world.mirror) if line)
        for name, value in before.items():
            world.mirror.git("merge-base", "--is-ancestor", value, refs[name])
        before = refs
        if outcome.status == "success":
            break
    assert set(before) == {"refs/heads/default", *(name for name in before if "/heads/" in name)}
    assert len(before) == 2
    assert job_id == 7
