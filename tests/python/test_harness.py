"""The ground that the tests stand on: clean at the start, and gone at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import debian, environment, servers
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]

# A run of tests: it starts a server, says where, and then is the one that is killed.
RUN = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from harness import servers
home = servers.make_home()
guard = servers.Guard(home)
(server,) = servers.started(home).values()
pid = int((server.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
print(json.dumps([str(home), guard.pid, pid]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def run() -> Iterator[subprocess.Popen[str]]:
    """Another run of tests, with one server."""
    major, path = next(iter(servers.builds().items()))
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(TESTS)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, servers.BUILDS_VARIABLE: f"{major}={path}"},
    )
    with process:
        yield process
        process.kill()


def places(run: subprocess.Popen[str]) -> tuple[Path, int, int]:
    """Its home, and the processes of its guard and its server."""
    assert run.stdout is not None
    home, guard, server = json.loads(run.stdout.readline())
    return Path(home), guard, server


def is_running(pid: int) -> bool:
    """Whether a process is there; one that nobody has reaped yet is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_run_that_is_killed_leaves_nothing(run: subprocess.Popen[str]) -> None:
    """Its guard stops the server and removes its files."""
    home, guard, server = places(run)
    assert is_running(server)
    run.kill()
    eventually(lambda: not is_running(server) and not is_running(guard), what="its processes end")
    assert not home.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel tells no child")
def test_a_guard_that_is_killed_leaves_no_server(run: subprocess.Popen[str]) -> None:
    """The kernel stops the server, and the next run removes the files."""
    home, guard, server = places(run)
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not is_running(server), what="the server ends with its guard")
    run.kill()
    servers.sweep()
    assert not home.exists()


def test_sweeping_leaves_what_is_in_use(run: subprocess.Popen[str]) -> None:
    """A home with a living guard stays."""
    home, _, server = places(run)
    servers.sweep()
    assert home.exists()
    assert is_running(server)


def test_the_environment_is_forgotten() -> None:
    """Nothing that names a database or configures git gets through; the rest does."""
    found = {
        "PGHOST": "production.example.org",
        "PGSERVICE": "production",
        "PGOPTIONS": "-c work_mem=1TB",
        "CODE_IMPORT_DSN": "service=production",
        "GIT_DIR": "/home/somebody/.git",
        "GIT_SSH_COMMAND": "ssh -i key",
        "PATH": "/bin",
    }
    environment.scrub(found)
    assert found["PATH"] == "/bin"
    assert found["GIT_CONFIG_GLOBAL"] == os.devnull
    assert not {"PGHOST", "PGSERVICE", "PGOPTIONS", "CODE_IMPORT_DSN"} & set(found)
    assert not {"GIT_DIR", "GIT_SSH_COMMAND"} & set(found)


def test_this_run_has_forgotten_it() -> None:
    """The tests themselves run without PG* variables."""
    assert [name for name in os.environ if name.startswith("PG")] == []


def test_a_missing_pgtap_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is named but not there, and what cannot be fetched, is told in one line."""
    monkeypatch.setenv(debian.PGTAP_VARIABLE, "/nowhere/pgtap--1.2.0.sql")
    with pytest.raises(debian.NotToBeHad, match="which is not a file"):
        debian.pgtap()
    monkeypatch.delenv(debian.PGTAP_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "INSTALLED", tmp_path)
    with pytest.raises(debian.NotToBeHad, match="Install the Debian package pgtap") as missing:
        debian.pgtap()
    assert "\n" not in str(missing.value)


def test_a_run_without_pgtap_ends_with_one_line() -> None:
    """Not with hundreds of failures, and not as if all were well."""
    ended = subprocess.run(
        [sys.executable, str(TESTS), "-k", "nothing"],
        env={**os.environ, debian.PGTAP_VARIABLE: "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"error: {debian.PGTAP_VARIABLE} names /nowhere, which is not a file"
    ]


def test_benchmarks_are_named() -> None:
    """A benchmark that there is not is refused with the names of those there are."""
    ended = subprocess.run(
        [sys.executable, str(TESTS), "bench", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "is one of" in ended.stderr


def test_a_run_in_the_background_can_be_interrupted() -> None:
    """Its children too, though the shell has it ignore the signal."""
    code = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from harness import environment; environment.hear_interrupts();"
        "child = 'import os, signal; os.kill(os.getpid(), signal.SIGINT)';"
        "sys.exit(-subprocess.call([sys.executable, '-c', child], stderr=subprocess.DEVNULL))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(TESTS)}, check=False
    )
    assert ended.returncode == signal.SIGINT
