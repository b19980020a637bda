"""The Bazaar importer against real servers on the loopback: what it mirrors, what it survives."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from code_import.importers import Login, Outcome, Run, RunLost, Source, bzr, converted
from harness.bzr_servers import Branch, brz, need_bzr, relay, serve_bzr
from harness.git_servers import answer, free_port, serve_http, stall
from harness.waiting import eventually
from harness.worlds import TARGET, Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler

    from harness.git_servers import HttpServer

_missing = need_bzr()
pytestmark = pytest.mark.skipif(_missing is not None, reason=str(_missing))


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(bzr) as made:
        yield made


@pytest.fixture
def folder(world: World) -> Path:
    """What is served."""
    path = world.root / "served"
    path.mkdir()
    return path


@pytest.fixture
def branch(folder: Path) -> Branch:
    made = Branch(folder / "branch")
    made.grow(3)
    return made


@pytest.fixture
def http(folder: Path) -> Iterator[HttpServer]:
    with serve_http(folder) as server:
        server.serve_files = True
        yield server


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder that is not on the list of those that may be read."""
    with tempfile.TemporaryDirectory(prefix="code-import-") as place:
        yield Path(place).resolve()


@pytest.fixture
def url(http: HttpServer) -> str:
    return f"{http.url}/branch"


def pushed(branch: Path, place: Path) -> Repository:
    """What brz itself makes of a branch, in a git repository."""
    subprocess.run(["git", "init", "-q", "--bare", place], check=True)
    brz(branch, "push", "--lossy", f"file://{place},branch=main")
    return Repository(place)


def assert_as_brz_does_it(world: World, branch: Path) -> None:
    """The same commits, byte by byte, and everything there that they need."""
    theirs = pushed(branch, world.root / f"pushed{time.monotonic_ns()}.git")
    assert world.mirror.refs("refs/heads") == theirs.refs("refs/heads")
    world.mirror.git("fsck", "--strict")


# --- what is mirrored ----------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["bzr", "http", "file"])
def test_a_branch_is_mirrored_over_every_transport(
    world: World, branch: Branch, transport: str
) -> None:
    folder = branch.path.parent
    branch.build([], "r3", {"v1": "r2"})
    with contextlib.ExitStack() as stack:
        serve: Callable[[], str] = {
            "bzr": lambda: stack.enter_context(serve_bzr(folder)),
            "http": lambda: _files(stack, folder),
            "file": lambda: f"file://{folder}",
        }[transport]
        url = f"{serve()}/branch"
        outcome = world.run(1, url)
        assert (outcome.status, outcome.refs) == ("success", 2), world.log
        assert_as_brz_does_it(world, branch.path)
        assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
        assert world.mirror.git("rev-parse", "v1") == world.mirror.git("rev-parse", "main^")
        assert world.run(2, url).status == "success_nochange"
        branch.grow(2)
        outcome = world.run(3, url)
        assert (outcome.status, outcome.refs, outcome.commits) == ("success", 1, 2)
        assert_as_brz_does_it(world, branch.path)
        assert world.run(4, url).status == "success_nochange"


def _files(stack: contextlib.ExitStack, folder: Path) -> str:
    server = stack.enter_context(serve_http(folder))
    server.serve_files = True
    return server.url


def test_every_kind_of_change_is_what_brz_makes_of_it(
    world: World, folder: Path, http: HttpServer
) -> None:
    work = folder / "branch"
    brz(folder, "init", "-q", "branch")
    (work / "dir/inner").mkdir(parents=True)
    (work / "empty").mkdir()
    for name in ("dir/inner/a", "dir/b", "x y", 'quo"te\\', "ünï", "new\nline"[:3]):
        (work / name).write_text(f"{name}\n")
    (work / "link").symlink_to("dir/b")
    brz(work, "add", "-q")
    brz(work, "commit", "-qm", "first", "--commit-time", "2001-02-03 04:05:06 +0530")
    brz(work, "mv", "-q", "dir", "moved")
    (work / "moved/b").chmod(0o755)
    (work / "link").unlink()
    (work / "link").symlink_to("elsewhere")
    brz(work, "commit", "-qm", "second\n\nwith ünï\n", "--author", "B <b@example.org>")
    brz(work, "rm", "-q", "x y")
    (work / "link").unlink()
    (work / "link").mkdir()
    (work / "link/c").write_text("c")
    brz(work, "add", "-q")
    brz(work, "commit", "-qm", "third")
    brz(work, "mv", "-q", "moved/inner", "dir")
    brz(work, "mv", "-q", "moved", "dir/moved")
    brz(work, "commit", "-qm", "fourth")
    assert world.run(1, f"{http.url}/branch").status == "success", world.log
    assert_as_brz_does_it(world, work)


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_are_what_brz_makes_of_them(
    world: World, folder: Path, http: HttpServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bzr, "FIRST_STEP", 3)
    branch = Branch(folder / "branch")
    branch.build(random_history(random.Random(seed), 40), "r40")
    assert world.run(1, f"{http.url}/branch").status == "success", world.log
    assert_as_brz_does_it(world, branch.path)


def random_history(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Revisions on top of each other and beside, with merges, moved folders and files."""
    trees: dict[str, dict[str, str]] = {}  # For each revision: file id -> path, folders end in "/".
    revisions = []
    for number in range(1, count + 1):
        parents: list[str] = []
        if number > 1:
            parents = [f"r{max(1, number - chance.choice((1, 1, 1, 2, 5)))}"]
            other = f"r{chance.randint(1, number - 1)}"
            if chance.random() < 0.3 and other not in parents:
                parents.append(other)
        tree = dict(trees[parents[0]]) if parents else {}
        actions: list[Any] = [] if parents else [("add", ["", "root", "directory", None])]
        for turn in range(chance.randint(1, 3)):
            actions += _random_change(chance, tree, f"{number}-{turn}")
        trees[f"r{number}"] = tree
        revisions.append({"id": f"r{number}", "parents": parents, "actions": actions})
    return revisions


def _random_change(chance: random.Random, tree: dict[str, str], name: str) -> list[Any]:
    folders = ["", *(path for path in tree.values() if path.endswith("/"))]
    files = {path: file_id for file_id, path in tree.items() if not path.endswith("/")}
    kind = chance.choice(["file", "folder", "modify", "move", "remove", "move folder"])
    if kind == "move folder" and len(folders) > 1:
        old = chance.choice(folders[1:])
        parent = chance.choice([path for path in folders if not path.startswith(old)])
        new = f"{parent}m{name}/"
        for file_id, path in tree.items():
            if path.startswith(old):
                tree[file_id] = new + path.removeprefix(old)
        return [("rename", [old[:-1], new[:-1]]), ("flush", None)]
    if kind == "modify" and files:
        return [("modify", [chance.choice(sorted(files)), f"{name}\n"]), ("flush", None)]
    if kind == "move" and files:
        path = chance.choice(sorted(files))
        tree[files[path]] = new = f"{chance.choice(folders)}n{name}"
        return [("rename", [path, new]), ("flush", None)]
    if kind == "remove" and files:
        path = chance.choice(sorted(files))
        del tree[files[path]]
        return [("unversion", path), ("flush", None)]
    if kind == "folder":
        tree[f"d{name}"] = path = f"{chance.choice(folders)}d{name}/"
        return [("add", [path[:-1], f"d{name}", "directory", None]), ("flush", None)]
    tree[f"f{name}"] = path = f"{chance.choice(folders)}f{name}"
    return [("add", [path, f"f{name}", "file", f"{name}\n"]), ("flush", None)]


def test_a_rewritten_branch_is_followed(world: World, branch: Branch, url: str) -> None:
    world.run(1, url)
    before = world.mirror.git("rev-parse", "main")
    branch.build([{"id": "other", "parents": ["r1"], "actions": []}], "other", {"t": "r3"})
    outcome = world.run(2, url)
    assert outcome.status == "success", outcome
    assert world.mirror.git("rev-parse", "refs/keep/2/heads/main", "refs/tags/t") == "\n".join(
        [before, before]
    )
    assert_as_brz_does_it(world, branch.path)
    branch.build([], "r1", {})
    branch.brz("tag", "-q", "--delete", "t")
    assert world.run(3, url).status == "success"
    assert world.mirror.names("refs/heads", "refs/tags") == ["refs/heads/main"]


def test_tags_have_names_that_git_can_have(world: World, branch: Branch, url: str) -> None:
    tags = {"a b": "r1", "a..b": "r1", "x.lock": "r2", "ü": "r2", "dir": "r3", "dir/sub": "r3"}
    branch.build([], "r3", {**tags, "gone": "nowhere"})
    outcome = world.run(1, url)
    assert outcome.status == "success", outcome
    assert world.mirror.names("refs/tags") == [
        f"refs/tags/{name}" for name in ("a%20b", "a.%2Eb", "dir", "x%2Elock", "ü")
    ]
    assert "Left out: 2 things" in outcome.summary
    assert any("gone" in line for line in world.log)
    assert any("dir/sub" in line for line in world.log)


def test_a_tag_beside_the_branch_is_mirrored(world: World, branch: Branch, url: str) -> None:
    branch.build([{"id": "aside", "parents": ["r2"], "actions": []}], "r3", {"side": "aside"})
    assert world.run(1, url).status == "success"
    assert world.mirror.git("rev-parse", "side^") == world.mirror.git("rev-parse", "main^")


def test_a_revision_that_is_not_there_has_no_commit(
    world: World, folder: Path, http: HttpServer
) -> None:
    """And when it comes after all, all commits after it are those of a fresh import."""
    lost = {"id": "lost", "parents": ["r1"], "actions": []}
    branch = Branch(folder / "branch")
    branch.grow()
    merge = {"id": "merge", "parents": ["r1", "lost"], "actions": []}
    later = {"id": "later", "parents": ["merge"], "actions": []}
    branch.build([merge], "merge")
    url = f"{http.url}/branch"
    assert world.run(1, url).status == "success", world.log
    assert world.mirror.git("rev-list", "--count", "main") == "2"
    branch.build([lost, later], "later")
    assert world.run(2, url).status == "success", world.log
    world.run(3, url, code_import_id=2, target="fresh")
    fresh = Repository(world.store / "fresh.git")
    assert fresh.git("rev-list", "--count", "main") == "4"
    assert world.mirror.refs("refs/heads") == fresh.refs("refs/heads")


def test_a_history_that_begins_with_a_missing_revision(
    world: World, folder: Path, http: HttpServer
) -> None:
    branch = Branch(folder / "branch")
    root = [("add", ["", "root", "directory", None]), ("add", ["file", "id", "file", "text"])]
    branch.build([{"id": "orphan", "parents": ["lost"], "actions": root}], "orphan")
    assert world.run(1, f"{http.url}/branch").status == "success", world.log
    assert world.mirror.git("ls-tree", "--name-only", "main") == "file"


@pytest.mark.parametrize("format", ["pack-0.92", "1.9-rich-root", "knit"])
def test_older_formats_are_read(
    world: World,
    folder: Path,
    http: HttpServer,
    format: str,  # noqa: A002
) -> None:
    branch, newest = Branch(folder / "branch", format), Branch(folder / "newest")
    for made in (branch, newest):
        made.grow(3)
    assert world.run(1, f"{http.url}/branch").status == "success", world.log
    assert_as_brz_does_it(world, newest.path)


def test_a_stacked_branch_is_read_with_what_it_stands_on(
    world: World, branch: Branch, http: HttpServer
) -> None:
    folder = branch.path.parent
    brz(folder, "branch", "-q", "--stacked", "branch", "stacked")
    conf = folder / "stacked/.bzr/branch/branch.conf"
    assert "stacked_on_location" in conf.read_text()
    conf.write_text("stacked_on_location = ../branch\n")
    assert world.run(1, f"{http.url}/stacked").status == "success", world.log
    assert_as_brz_does_it(world, branch.path)


# --- long histories, and runs that end on the way ------------------------------------------------


def test_many_partial_runs_come_to_the_commits_of_one(
    world: World, branch: Branch, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch.grow(57)
    world.run(1, url, code_import_id=2, target="at-once")
    monkeypatch.setattr(bzr, "FIRST_STEP", 4)
    monkeypatch.setattr(bzr, "RUN_SECONDS", 0.0)
    seen = []
    for job_id in range(2, 20):
        outcome = world.run(job_id, url)
        seen.append(int(world.mirror.git("rev-list", "--count", "main")))
        if outcome.status != "success_partial":
            break
    assert outcome.status == "success"
    assert seen == [4, 12, 28, 60]
    at_once = Repository(world.store / "at-once.git")
    assert world.mirror.refs("refs/heads") == at_once.refs("refs/heads")
    assert any("(47%)" in line and "a second" in line for line in world.log)


def test_a_run_that_is_killed_is_continued(
    world: World, branch: Branch, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random moments, many times: the next run goes on, and comes to the same commits."""
    branch.grow(60)
    monkeypatch.setattr(bzr, "FIRST_STEP", 5)
    world.run(1, url, code_import_id=2, target="at-once")
    chance = random.Random(7)
    for job_id in range(2, 12):
        process = get_context("fork").Process(target=_run_alone, args=(world, job_id, url))
        process.start()
        process.join(chance.uniform(0.2, 1.5))
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    assert world.run(20, url).status in ("success", "success_nochange"), world.log
    at_once = Repository(world.store / "at-once.git")
    assert world.mirror.refs("refs/heads") == at_once.refs("refs/heads")
    world.mirror.git("fsck", "--strict")


def _run_alone(world: World, job_id: int, url: str) -> None:
    os.setpgid(0, 0)
    world.run(job_id, url)


def test_a_step_that_does_not_end_is_followed_by_a_smaller_one(
    world: World, branch: Branch, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch.grow(29)
    monkeypatch.setattr(bzr, "FIRST_STEP", 16)
    monkeypatch.setattr(bzr, "RUN_SECONDS", 0.0)
    http.faults["/branch/.bzr/repository/packs"] = answer(503)
    for job_id in (1, 2):
        assert world.run(job_id, f"{http.url}/branch").status == "failure"
    http.faults.clear()
    assert world.run(3, f"{http.url}/branch").status == "success_partial"
    assert world.mirror.git("rev-list", "--count", "main") == "4"


def test_a_lost_run_publishes_nothing(world: World, branch: Branch, url: str) -> None:
    world.run(1, url)
    before = world.mirror.refs()
    branch.grow()

    def lost() -> None:
        raise RunLost

    with pytest.raises(RunLost):
        world.run(2, url, confirm=lost)
    assert world.mirror.refs() == before
    assert world.run(3, url).status == "success"


# --- sources that fail ---------------------------------------------------------------------------


def test_an_empty_branch_has_an_empty_mirror(world: World, folder: Path, http: HttpServer) -> None:
    branch = Branch(folder / "branch")
    branch.build([])
    url = f"{http.url}/branch"
    assert world.run(1, url).status == "success", world.log
    assert world.run(2, url).status == "success_nochange"
    branch.grow()
    assert world.run(3, url).status == "success"
    branch.build([], "null:")
    assert world.run(4, url).status == "failure_remote_broken"


@pytest.mark.parametrize("transport", ["bzr", "http"])
def test_a_missing_branch_is_invalid(world: World, branch: Branch, transport: str) -> None:
    with contextlib.ExitStack() as stack:
        folder = branch.path.parent
        url = (
            stack.enter_context(serve_bzr(folder)) if transport == "bzr" else _files(stack, folder)
        )
        outcome = world.run(1, f"{url}/nothing")
    assert outcome.status == "failure_invalid", outcome
    assert "no Bazaar branch" in outcome.summary


def test_a_branch_that_has_moved_is_told(world: World, branch: Branch, http: HttpServer) -> None:
    """Another host is not asked for it, and the command that would make it the source is said."""
    with serve_http(branch.path.parent) as other:
        other.serve_files = True
        there = other.url.replace("127.0.0.1", "localhost") + "/branch"
        http.faults["/old"] = _redirect(there)
        world.policy = dataclasses.replace(
            world.policy, allow_hosts=(*world.policy.allow_hosts, "localhost")
        )
        outcome = world.run(1, f"{http.url}/old")
        assert outcome.status == "failure_invalid", outcome
        assert f"set-url {TARGET} {there}" in outcome.summary
        assert other.requests == []


def test_a_redirection_within_a_host_is_followed(
    world: World, branch: Branch, http: HttpServer
) -> None:
    http.faults["/old"] = _redirect(f"{http.url}/branch")
    assert world.run(1, f"{http.url}/old").status == "success", world.log
    http.faults["/old"] = _redirect(f"{http.url}/old")
    assert world.run(2, f"{http.url}/old").status == "failure_invalid"


@pytest.mark.parametrize("place", ["http://localhost:{port}/branch", "file:///etc", "http:/odd"])
def test_a_redirection_to_a_refused_place_is_refused(
    world: World, branch: Branch, http: HttpServer, place: str
) -> None:
    http.faults["/old"] = _redirect(place.format(port=http.url.rpartition(":")[2]))
    before = len(http.requests)
    outcome = world.run(1, f"{http.url}/old")
    assert outcome.status in ("failure_forbidden", "failure_invalid"), outcome
    assert not any("/branch/" in request for request in http.requests[before:])


def _redirect(place: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def give(handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("/old")[2]
        answer(301, Location=place + path)(handler)

    return give


def _login_wall(handler: BaseHTTPRequestHandler) -> None:
    given = handler.headers.get("Authorization", "")
    wanted = "Basic " + base64.b64encode(b"somebody:secret").decode()
    if given != wanted:
        answer(401, WWW_Authenticate='Basic realm="here"')(handler)
    else:
        handler._serve_file()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("password", "host", "status"),
    [
        ("secret", "127.0.0.1", "success"),
        ("wrong", "127.0.0.1", "failure_invalid"),
        ("secret", "example.org", "failure_invalid"),
        (None, "127.0.0.1", "failure_invalid"),
    ],
)
def test_a_login_is_shown_to_its_own_host(
    world: World, branch: Branch, http: HttpServer, password: str | None, host: str, status: str
) -> None:
    http.faults["/"] = _login_wall
    login = None if password is None else Login(host, "somebody", password)
    source = Source("bzr", f"{http.url}/branch")
    run = Run(1, 1, TARGET, source, world.store, world.log.append, lambda: None, world.policy,
              login)  # fmt: skip
    assert bzr.run_import(run).status == status, world.log
    if status == "failure_invalid":
        assert "login" in world.log[-1]
    assert not any("secret" in line for line in world.log)
    for place in world.store.rglob("*"):
        assert not place.is_file() or b"secret" not in place.read_bytes()


@pytest.mark.parametrize(
    ("status", "expected"), [(403, "failure_invalid"), (429, "failure"), (503, "failure")]
)
def test_http_statuses_have_their_meaning(
    world: World, branch: Branch, http: HttpServer, status: int, expected: str
) -> None:
    http.faults["/branch"] = answer(status)
    assert world.run(1, f"{http.url}/branch").status == expected


def test_an_unreachable_server_is_a_failure(world: World) -> None:
    for scheme in ("bzr", "http"):
        outcome = world.run(1, f"{scheme}://127.0.0.1:{free_port()}/branch")
        assert outcome.status == "failure", outcome


@pytest.mark.parametrize("damage", ["truncated", "garbled", "gone"])
def test_a_damaged_branch_is_broken(world: World, branch: Branch, url: str, damage: str) -> None:
    world.run(1, url)
    before = world.mirror.refs()
    branch.grow(5)
    packs = branch.path / ".bzr/repository/packs"
    for pack in packs.iterdir():
        content = pack.read_bytes()
        half = len(content) // 2
        if damage == "gone":
            pack.unlink()
        else:
            filling = b"" if damage == "truncated" else bytes(64) + content[half + 64 :]
            pack.write_bytes(content[:half] + filling)
    outcome = world.run(2, url)
    assert outcome.status == "failure_remote_broken", outcome
    assert world.mirror.refs() == before


def test_a_stream_that_breaks_off_is_a_failure(
    world: World, branch: Branch, http: HttpServer
) -> None:
    """The half that came is not kept, and the next run fetches all of it."""

    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(b"B" * 500)
        handler.close_connection = True

    http.faults["/branch/.bzr/repository/packs"] = cut
    outcome = world.run(1, f"{http.url}/branch")
    assert outcome.status == "failure", (outcome, world.log)
    http.faults.clear()
    assert world.run(2, f"{http.url}/branch").status == "success"


@pytest.mark.parametrize("after", [10, 300, 1_500])
def test_a_bazaar_server_that_breaks_off_is_a_failure(
    world: World, branch: Branch, after: int
) -> None:
    branch.grow(20)
    with serve_bzr(branch.path.parent) as url:
        with relay(url, after) as cut:
            outcome = world.run(1, f"{cut}/branch")
        assert outcome.status == "failure", (outcome, world.log)
        assert world.run(2, f"{url}/branch").status == "success", world.log
    assert_as_brz_does_it(world, branch.path)


def test_a_format_of_the_future_is_unsupported(world: World, branch: Branch, url: str) -> None:
    (branch.path / ".bzr/repository/format").write_text("Bazaar repository format 99\n")
    outcome = world.run(1, url)
    assert outcome.status == "failure_unsupported_feature", outcome
    assert "format" in outcome.summary


def test_nested_trees_are_unsupported(world: World, folder: Path, http: HttpServer) -> None:
    brz(folder, "init", "-q", "--format=development-subtree", "branch")
    brz(folder / "branch", "commit", "-q", "--unchanged", "-m", "outer")
    brz(folder, "init", "-q", "--format=development-subtree", "branch/inner")
    brz(folder / "branch/inner", "commit", "-q", "--unchanged", "-m", "inner")
    brz(folder / "branch", "join", "-q", "--reference", "inner")
    brz(folder / "branch", "commit", "-q", "-m", "with a nested tree")
    outcome = world.run(1, f"{http.url}/branch")
    assert outcome.status == "failure_unsupported_feature", (outcome, world.log)
    assert "nested tree" in outcome.summary


def test_a_stalled_server_is_given_up(
    world: World, branch: Branch, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    http.faults["/branch"] = stall(over)
    monkeypatch.setattr(bzr, "SILENCE", 1.5)
    outcome = world.run(1, f"{http.url}/branch")
    over.set()
    assert outcome.status == "failure", outcome
    assert "stalled" in outcome.summary


# --- what may be reached -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reference", "stacked"])
@pytest.mark.parametrize("place", ["file", "path", "relative", "excluded", "sftp", "lp:", "chroot"])
def test_no_reference_leads_where_the_policy_does_not(
    world: World, private: Path, branch: Branch, http: HttpServer, kind: str, place: str
) -> None:
    """Not to a file of this machine, nor to a host that is refused; nothing of it is read."""
    canary = Branch(private / "canary")
    canary.grow()
    os.utime(canary.path / ".bzr/branch-format", (1, 1))
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(serve_http(canary.path.parent))
        other.serve_files = True
        port = other.url.rpartition(":")[2]
        target = {
            "file": f"file://{canary.path}",
            "path": str(canary.path),
            "relative": "../../../canary",
            "excluded": f"http://localhost:{port}/canary",
            "sftp": f"sftp://127.0.0.1:{port}/canary",
            "lp:": "lp:canary",
            "chroot": f"readonly+file://{canary.path}",
        }[place]
        write_pointer(branch, kind, target)
        before = atimes(canary.path)
        outcome = world.run(1, f"{http.url}/branch")
        assert atimes(canary.path) == before
        assert other.requests == []
    expected = {"failure_forbidden"}
    if place in ("path", "relative", "lp:"):  # These lead to a place of the same server.
        expected |= {"failure_invalid"}
    assert outcome.status in expected, (outcome, world.log)
    assert not world.mirror.path.exists()


def write_pointer(branch: Branch, kind: str, target: str) -> None:
    """Make a branch a reference to a place, or one that is stacked on it."""
    inside = branch.path / ".bzr/branch"
    if kind == "stacked":
        (inside / "branch.conf").write_text(f"stacked_on_location = {target}\n")
    else:
        (inside / "format").write_text("Bazaar-NG Branch Reference Format 1\n")
        (inside / "location").write_text(target)


def atimes(folder: Path) -> dict[str, int]:
    """When each file was last read, as far as the file system says."""
    return {str(path): path.stat().st_atime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_allowed_reference_is_followed(world: World, branch: Branch, http: HttpServer) -> None:
    pointer = Branch(branch.path.parent / "pointer")
    pointer.build([])
    write_pointer(pointer, "reference", f"{http.url}/branch")
    assert world.run(1, f"{http.url}/pointer").status == "success", world.log
    assert_as_brz_does_it(world, branch.path)


def test_references_that_go_round_end(world: World, branch: Branch, http: HttpServer) -> None:
    write_pointer(branch, "reference", f"{http.url}/branch")
    assert world.run(1, f"{http.url}/branch").status == "failure_invalid"


@pytest.mark.parametrize(
    "url", ["file:///etc", "/etc", "lp:x", "sftp://127.0.0.1/x", "bzr+ssh://127.0.0.1/x"]
)
def test_urls_that_are_refused_start_nothing(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bzr, "_python", lambda: pytest.fail("a program was started"))
    assert world.run(1, url).status == "failure_forbidden"


def test_nobodys_plugins_and_settings_are_used(
    world: World, branch: Branch, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.root / "settings"
    (settings / "plugins").mkdir(parents=True)
    (settings / "plugins/evil.py").write_text(f"open({str(world.root / 'ran')!r}, 'w')")
    for name in ("BRZ_PLUGIN_PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, str(settings / "plugins"))
    monkeypatch.setenv("BRZ_HOME", str(settings))
    (settings / "plugins/sitecustomize.py").write_text(f"open({str(world.root / 'ran')!r}, 'w')")
    assert world.run(1, url).status == "success"
    assert not (world.root / "ran").exists()


# --- this machine --------------------------------------------------------------------------------


def test_a_missing_tool_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bzr.missing_tools() is None
    monkeypatch.setattr(bzr, "_python", lambda: None)
    assert "breezy" in str(bzr.missing_tools())
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "git" in str(bzr.missing_tools())


def test_a_driver_that_dies_is_our_own_failure(
    world: World, branch: Branch, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bzr, "_DRIVER", world.root / "no-driver.py")
    outcome: Outcome = world.run(1, url)
    assert outcome.status == "internal_failure"


def test_a_lost_repository_is_made_anew(world: World, branch: Branch, url: str) -> None:
    world.run(1, url)
    (repository,) = world.store.glob(".code-import/work/*/converted.git")
    shutil.rmtree(repository)
    branch.grow()
    assert world.run(2, url).status == "success", world.log
    assert_as_brz_does_it(world, branch.path)


def test_packs_are_kept_within_bounds(
    world: World, branch: Branch, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "MOST_PACKS", 3)
    for job_id in range(1, 9):
        branch.grow()
        assert world.run(job_id, url).status == "success"
    (pack_folder,) = world.store.glob(".code-import/work/*/converted.git/objects/pack")
    assert len(list(pack_folder.glob("*.pack"))) <= 4
    assert_as_brz_does_it(world, branch.path)


def test_the_driver_ends_with_its_run(world: World, branch: Branch, http: HttpServer) -> None:
    """It is in the run's process group, and dies with it."""
    over = threading.Event()
    http.faults["/branch"] = stall(over)
    url = f"{http.url}/branch"
    process = get_context("fork").Process(target=_run_alone, args=(world, 1, url))
    process.start()
    eventually(lambda: http.requests, what="the driver asks")
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    over.set()
    http.faults.clear()
    assert world.run(2, url).status == "success"
