"""``code-import mirror``: what a person types, sees, and has afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from code_import import policy
from code_import.cli.mirror_source import NotASource, Place, normal, register
from code_import.client import Client
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

COMMAND = (sys.executable, "-P", "-m", "code_import")


def git(*arguments: str | Path, cwd: Path | None = None) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True, cwd=cwd
    ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two commits, a tag, and a folder."""
    path = tmp_path / "src" / "thing"
    git("init", "--quiet", "-b", "main", path)
    for number in (1, 2):
        (path / "folder").mkdir(exist_ok=True)
        (path / "folder" / "file").write_text(f"{number}\n")
        git("add", ".", cwd=path)
        git("commit", "--quiet", "-m", f"Commit {number}", cwd=path)
    git("tag", "v1", cwd=path)
    return path


@dataclass
class Cli:
    """The command, with a database and a store of this test."""

    dsn: str
    store: Path

    def start(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Begin to mirror."""
        return subprocess.Popen(
            [*COMMAND, "--dsn", self.dsn, "mirror", "--store", self.store, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            start_new_session=True,
        )

    def mirror(
        self, *arguments: str | Path, cwd: Path | None = None, code: int = 0
    ) -> tuple[str, str]:
        """Mirror, and return what was said on stdout and on stderr."""
        process = self.start(*arguments, cwd=cwd)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return out, err


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    """The command."""
    return Cli(dsn, tmp_path / "store")


@pytest.fixture
def silent() -> Iterator[str]:
    """The host of a server that takes connections and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def statuses(conn: psycopg.Connection[Any]) -> list[str]:
    """How the runs have ended, the first one first."""
    rows = conn.execute("select status from vcs.code_import_result order by id")
    return [status for (status,) in rows]


# --- what it does ------------------------------------------------------------------------------


def test_a_checkout_becomes_a_mirror_and_then_there_is_nothing_new(
    cli: Cli, checkout: Path, conn: psycopg.Connection[Any]
) -> None:
    out, err = cli.mirror(".", cwd=checkout / "folder")
    mirror = cli.store / "thing.git"
    assert git("ls-remote", mirror) == git("ls-remote", checkout)
    assert out.startswith("thing: mirrored (")
    assert re.search(rf"^ +mirror +{re.escape(str(mirror))}$", out, re.MULTILINE)
    assert re.search(r"^ +holds +2 refs, 2 commits$", out, re.MULTILINE)
    assert re.search(r"^ +next run +in 6 h$", out, re.MULTILINE)
    assert f"git clone {mirror}" in out
    assert "thing: started" in err

    out, _ = cli.mirror(checkout)
    assert out.startswith("thing: nothing new (")
    assert statuses(conn) == ["success", "success_nochange"]
    assert conn.execute("select count(*) from vcs.code_import").fetchone() == (1,)


def test_a_new_commit_is_mirrored(cli: Cli, checkout: Path) -> None:
    cli.mirror(checkout)
    git("commit", "--quiet", "--allow-empty", "-m", "Another", cwd=checkout)
    out, _ = cli.mirror(checkout)
    assert out.startswith("thing: mirrored (")
    assert "2 refs, 3 commits" in out


def test_programs_get_one_document(cli: Cli, checkout: Path, tmp_path: Path) -> None:
    out, _ = cli.mirror(checkout, tmp_path / "not-there", "--json", code=1)
    good, bad = json.loads(out)
    assert good["mirror"] == str(cli.store / "thing.git")
    assert (good["status"], good["refs"], good["commits"]) == ("success", 2, 2)
    assert good["url"] == checkout.as_uri()
    assert good["date_due"].endswith("Z")
    assert bad["status"] is None
    assert bad["summary"] == "there is no such path, and it is not a url"


def test_one_bad_source_does_not_keep_the_others(cli: Cli, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out, _ = cli.mirror(tmp_path / "empty", "https://127.0.0.1:9/x/y.git", checkout, code=1)
    assert "empty: it is not in a git repository" in out
    assert "x/y: failure_forbidden" in out
    assert "  | " in out
    assert "thing: mirrored" in out


@pytest.mark.parametrize("name", ["new\nline", "red\x1b[31m"])
def test_a_path_that_no_worker_reads_is_not_registered(
    cli: Cli, checkout: Path, conn: psycopg.Connection[Any], name: str
) -> None:
    checkout = checkout.rename(checkout.with_name(name))
    out, _ = cli.mirror(checkout, "", code=1)
    assert "its path has control characters" in out
    assert "it names nothing" in out
    assert "\x1b" not in out
    assert conn.execute("select count(*) from vcs.code_import").fetchone() == (0,)


def test_a_source_may_be_named_twice(cli: Cli, checkout: Path) -> None:
    out, _ = cli.mirror(checkout, checkout / "folder")
    assert out.count("thing: mirrored") == 2


def test_lines_fit_a_narrow_terminal(cli: Cli, checkout: Path) -> None:
    out, _ = cli.mirror(checkout)
    assert [
        line for line in out.splitlines() if len(line) > 80 and str(cli.store) not in line
    ] == []


def test_only_the_named_path_is_allowed(cli: Cli, checkout: Path, tmp_path: Path) -> None:
    cli.mirror(checkout)
    from code_import.importers import Source

    mine = policy.Policy.load()
    mine.check(Source("git", checkout.as_uri()))
    other = tmp_path / "src" / "other"
    git("init", "--quiet", other)
    with pytest.raises(policy.Forbidden):
        mine.check(Source("git", other.as_uri()))


# --- what may be in the way --------------------------------------------------------------------


def test_a_database_without_the_schema_is_left_alone(
    empty_dsn: str, checkout: Path, tmp_path: Path
) -> None:
    import psycopg

    _, err = Cli(empty_dsn, tmp_path / "store").mirror(checkout, code=4)
    assert "code-import install" in err
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("select to_regnamespace('vcs')").fetchone() == (None,)


def test_after_kill_9_the_next_one_goes_on_at_once(
    cli: Cli, checkout: Path, silent: str, conn: psycopg.Connection[Any]
) -> None:
    killed = cli.start("--allow-host", silent, f"git://{silent}/x.git", checkout)
    eventually(lambda: statuses(conn) == ["success"])
    running = "select count(*) from vcs.code_import_job where state = 'running'"
    assert conn.execute(running).fetchone() == (1,)
    killed.kill()
    killed.communicate()
    out, err = cli.mirror(checkout)
    assert "was left by a crash: reclaimed" in err
    assert out.startswith("thing: nothing new")
    assert conn.execute(running).fetchone() == (0,)


def test_ctrl_c_gives_the_run_back(cli: Cli, silent: str, conn: psycopg.Connection[Any]) -> None:
    process = cli.start("--allow-host", silent, f"git://{silent}/x.git")
    running = "select count(*) from vcs.code_import_job where state = 'running'"
    eventually(lambda: conn.execute(running).fetchone() == (1,))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert statuses(conn) == []
    assert conn.execute(running).fetchone() == (0,)


def test_a_worker_that_is_there_already_does_the_work(
    cli: Cli, checkout: Path, tmp_path: Path, conn: psycopg.Connection[Any]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    worker = subprocess.Popen(
        [*COMMAND, "--dsn", cli.dsn, "worker", "--store", elsewhere],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        count = "select count(*) from vcs.code_import_machine"
        eventually(lambda: conn.execute(count).fetchone() == (1,))
        out, _ = cli.mirror(checkout)
        assert out.startswith("thing: mirrored")
        assert str(elsewhere / "thing.git") in out
        assert git("ls-remote", elsewhere / "thing.git") == git("ls-remote", checkout)
        assert not (cli.store / "thing.git").exists()
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_two_at_a_time_both_end_well(cli: Cli, checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "src" / "other"
    git("clone", "--quiet", checkout, other)
    processes = [cli.start(checkout), cli.start(other)]
    outs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [out.partition(" (")[0] for out in outs] == ["thing: mirrored", "other: mirrored"]


def test_what_keeps_an_import_from_running_is_said(
    cli: Cli, checkout: Path, conn: psycopg.Connection[Any]
) -> None:
    client = Client(conn)
    imp = client.new("tester", "mine", "git", checkout.as_uri(), review_status="suspended")
    out, _ = cli.mirror(checkout, code=1)
    assert out.startswith("mine: ")
    assert "suspended" in out

    client.update(imp.id, {"review_status": "reviewed"}, "tester")
    machine = client.machine_new("asleep")
    _, err = cli.mirror(checkout, "--hostname", "asleep", code=1)
    assert "machine asleep is offline" in err
    assert "code-import machine online asleep" in err
    client.machine_set_online(machine.id, "tester")
    cli.mirror(checkout, "--hostname", "asleep")


def test_a_source_of_another_type_is_left_to_it(
    cli: Cli, checkout: Path, conn: psycopg.Connection[Any]
) -> None:
    Client(conn).new("tester", "thing", "hg", checkout.as_uri())
    out, _ = cli.mirror(checkout, code=1)
    assert "it is imported as hg, not git: thing" in out
    assert statuses(conn) == []


def test_a_password_is_refused_and_not_repeated(cli: Cli) -> None:
    for how in ((), ("--json",)):
        out, err = cli.mirror("https://user:secret@example.org/x.git", *how, code=1)
        assert "password" in out
        assert "secret" not in out + err


def test_a_failing_import_gets_another_chance(
    cli: Cli, checkout: Path, conn: psycopg.Connection[Any]
) -> None:
    imp = Client(conn).new("tester", "mine", "git", checkout.as_uri())
    Client(conn).update(imp.id, {"review_status": "failing"}, "tester")
    out, _ = cli.mirror(checkout)
    assert out.startswith("mine: mirrored")


def test_without_a_database_it_brings_its_own(checkout: Path) -> None:
    # Not in tmp_path: as root, a server whose user may not enter there would settle in /var/lib.
    place = Path(os.environ["CODE_IMPORT_TEST_HOME"]) / f"mirror-{os.getpid()}"
    home = {
        f"XDG_{name}": str(place / name)
        for name in ("DATA_HOME", "CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR")
    }
    for folder in home.values():
        Path(folder).mkdir(parents=True, mode=0o755)

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**os.environ, **home},
            cwd=checkout,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    try:
        assert run("mirror", ".").startswith("thing: mirrored (")
        assert run("mirror", ".").startswith("thing: nothing new (")
        (imp,) = json.loads(run("import", "list", "--json"))
        assert imp["target"] == "thing"
    finally:
        run("server", "stop")


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("https://example.org/project/repo.git", ["project/repo", "example.org/project/repo"]),
        ("https://git.example.org/a/b/c/", ["b/c", "git.example.org/b/c"]),
        ("git@example.org:repo", ["repo", "example.org/repo"]),
        ("https://example.org/~a/.b/c%20d.git.lock", ["b/c-20d", "example.org/b/c-20d"]),
    ],
)
def test_targets_of_a_url(text: str, first: list[str]) -> None:
    targets = Place.named(text).targets()
    assert [next(targets), next(targets), next(targets)] == [*first, f"{first[-1]}-2"]


def test_targets_of_a_path(checkout: Path) -> None:
    targets = Place.named(str(checkout)).targets()
    assert [next(targets) for _ in range(3)] == ["thing", "src/thing", "src/thing-2"]


def test_a_path_is_the_repository_that_it_is_in(checkout: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare one.git"
    git("clone", "--quiet", "--bare", checkout, bare)
    assert Place.named(str(checkout / ".git")).path == checkout
    assert Place.named(str(bare)).url == f"file://{tmp_path}/bare%20one.git"
    with pytest.raises(NotASource):
        Place.named("neither/here/nor/there")


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://User@Example.org:443/Path/",
        "https://example.org:0443",
        "ssh://Git@example.org:22/x.git",
        "git@Example.org:x.git",
        "git@example.org:/x.git",
        "/srv/repo/",
        "file:///srv/repo",
        "svn://[::1]:3690/trunk//",
        "https://example.org:/x",
    ],
)
def test_normal_forms_are_those_of_the_database(url: str, conn: psycopg.Connection[Any]) -> None:
    assert conn.execute("select vcs._normal_url(%s)", [url]).fetchone() == (normal(url),)


def test_a_source_in_another_spelling_is_found(conn: psycopg.Connection[Any]) -> None:
    client = Client(conn)
    imp = client.new("tester", "elsewhere", "git", "HTTPS://Example.org:443/project/repo/")

    def registered(url: str) -> tuple[int, str, bool]:
        found, is_new = register(conn, client, Place.named(url), "tester")
        return found.id, found.target, is_new

    assert registered("https://example.org/project/repo") == (imp.id, "elsewhere", False)
    other = registered("https://other.org/project/repo")
    assert other[1:] == ("project/repo", True)
    assert registered("https://OTHER.org/project/repo/") == (*other[:2], False)
    assert registered("https://third.org/project/repo")[1:] == ("third.org/project/repo", True)
