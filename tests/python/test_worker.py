"""The worker against a real server and real git: what it does when all is well, and when it is not.

Sources are served by ``git daemon`` behind a gate that can hold back what the daemon says, so that
a run stands still at a known place for as long as a test wants.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from code_import import schema
from code_import.client import Client
from code_import.mirror import read_state
from code_import.worker.lock import Held, WorkerLock
from code_import.worker.log import TAIL_BYTES, RunLog
from code_import.worker.timing import Backoff
from harness import servers
from harness.waiting import eventually
from harness.worlds import need_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Roles

    from code_import.models import Import

PERSON = "tester"


# --- what the tests work with ------------------------------------------------------------------


class Gate:
    """A TCP proxy. It can hold back what the server says, or be shut altogether."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._shut = False
        self._free_connections = 0
        self._sockets: list[socket.socket] = []
        self.accepted = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def hold(self, after: int = 0) -> None:
        """Hold back all answers, but for those to the next ``after`` connections."""
        self._free_connections = self.accepted + after
        self._open.clear()

    def release(self) -> None:
        """Let everything through."""
        self._open.set()

    def shut(self) -> None:
        """Cut every connection, and refuse new ones."""
        self._shut = True
        self._cut()

    def reopen(self) -> None:
        """Undo ``shut``."""
        self._shut = False

    def close(self) -> None:
        """End."""
        self.release()
        self.shut()
        self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake the thread
        self._thread.join()
        self._listener.close()

    def _cut(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._sockets.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._shut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            is_free = self.accepted <= self._free_connections
            self._sockets += [client, server]
            for source, sink, waits in ((client, server, False), (server, client, not is_free)):
                threading.Thread(target=self._pump, args=(source, sink, waits), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, waits: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if waits:
                    self._open.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@dataclass
class Repository:
    """A source: a bare repository that ``git daemon`` serves behind a gate."""

    path: Path
    gate: Gate
    host: str
    url: str

    def another(self, name: str) -> str:
        """The url of a copy of it under another name."""
        copy = self.path.with_name(f"{name}.git")
        subprocess.run(["git", "clone", "--quiet", "--mirror", self.path, copy], check=True)
        return self.url.replace("repo.git", copy.name)

    def commit(self, message: str = "More") -> str:
        """Add a commit to its only branch, and return its id."""
        tree = git(self.path, "mktree", text="").strip()
        parents = git(self.path, "for-each-ref", "--format=-p\n%(objectname)", "refs/heads")
        made = git(self.path, "commit-tree", tree, *parents.split(), "-m", message).strip()
        git(self.path, "update-ref", "refs/heads/main", made)
        return made


def git(repository: Path, *arguments: str, text: str | None = None) -> str:
    """What git says."""
    return subprocess.run(
        ["git", f"--git-dir={repository}", *arguments],
        check=True,
        capture_output=True,
        text=True,
        input=text,
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A repository with one commit, served by ``git daemon``."""
    path = tmp_path / "served" / "repo.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", path], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = subprocess.Popen(
        [
            *("git", "daemon", "--export-all", "--reuseaddr", f"--base-path={path.parent}"),
            *("--listen=127.0.0.1", f"--port={port}"),
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    gate = Gate(port)
    host = f"127.0.0.1:{gate.port}"
    made = Repository(path, gate, host, f"git://{host}/repo.git")
    made.commit("First")
    eventually(lambda: _answers(port), what="git daemon answers")
    yield made
    gate.close()
    os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@dataclass
class RunningWorker:
    """A worker in a process of its own."""

    process: subprocess.Popen[bytes]
    log_path: Path
    store: Path

    @property
    def log(self) -> str:
        """Everything that it has said."""
        return self.log_path.read_text()

    def says(self, pattern: str, timeout: float = 20) -> str:
        """Wait until it says something, and return the line."""

        def line() -> str | None:
            return next((line for line in self.log.splitlines() if re.search(pattern, line)), None)

        try:
            return eventually(line, timeout) or ""
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in:\n{self.log}") from None

    def ends(self, code: int = 0, timeout: float = 20) -> None:
        """Wait for its end."""
        assert self.process.wait(timeout) == code, self.log

    def runs(self) -> set[int]:
        """The process groups of its runs: the children of its forkserver."""
        return {
            child
            for server in _children(self.process.pid)
            for child in _children(server)
            if os.getsid(child) == child
        }


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def members(group: int) -> list[str]:
    """The living processes of a process group."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = status.read_text().rpartition(")")
            state, _, pgrp, *_ = rest.split()
            if int(pgrp) == group and state not in "ZX":
                found.append(name)
    return found


@dataclass
class Fleet:
    """Starts workers, and ends what is left of them."""

    dsn: str
    folder: Path
    started: list[RunningWorker] = field(default_factory=list)

    def start(
        self, *arguments: str, hostname: str = "w1", store: str = "store", dsn: str | None = None
    ) -> RunningWorker:
        """Start ``code-import worker`` as the role of a worker."""
        log_path = self.folder / f"worker-{len(self.started)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "code_import", "--dsn", dsn or self.dsn),
                    *("worker", "--hostname", hostname, "--store", str(self.folder / store)),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        worker = RunningWorker(process, log_path, self.folder / store)
        self.started.append(worker)
        return worker


@pytest.fixture
def fleet(dsn: str, tmp_path: Path, roles: Roles) -> Iterator[Fleet]:
    """Workers of this test."""
    fleet = Fleet(make_conninfo(dsn, user=roles.worker), tmp_path)
    yield fleet
    for worker in fleet.started:
        groups = worker.runs()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@pytest.fixture
def client(conn: psycopg.Connection[Any]) -> Client:
    """An operator."""
    return Client(conn)


@pytest.fixture
def imp(client: Client, repository: Repository) -> Import:
    """The repository as an import that is due."""
    return client.new(PERSON, "project/repo", "git", repository.url)


def statuses(conn: psycopg.Connection[Any]) -> list[str]:
    """How the runs have ended, the first one first."""
    rows = conn.execute("select status from vcs.code_import_result order by id")
    return [status for (status,) in rows]


def await_statuses(conn: psycopg.Connection[Any], *expected: str, timeout: float = 20) -> None:
    """Wait until so many runs have ended, and look how."""
    eventually(lambda: len(statuses(conn)) >= len(expected), timeout, f"{expected}")
    newest = "select log_excerpt from vcs.code_import_result order by id desc limit 1"
    assert statuses(conn) == list(expected), conn.execute(newest).fetchone()


def running(conn: psycopg.Connection[Any]) -> int | None:
    """The job that runs, or None."""
    row = conn.execute("select id from vcs.code_import_job where state = 'running'").fetchone()
    return row[0] if row else None


def hold_at_fetch(repository: Repository) -> None:
    """Let a run ask for refs, and stand still when it fetches."""
    repository.gate.hold(after=1)


def standing_run(
    conn: psycopg.Connection[Any], worker: RunningWorker, repository: Repository
) -> int:
    """Wait until a run stands still in its fetch, and return its process group."""
    eventually(lambda: repository.gate.accepted >= 2, what="a fetch")
    assert running(conn) is not None, worker.log
    (group,) = eventually(worker.runs)
    eventually(lambda: any("git" in name for name in members(group)), what="git in the group")
    return group


def set_lease(client: Client, seconds: float) -> None:
    """Let runs that have been silent for so long be reclaimed."""
    client.configure("maximum_heartbeat_interval", f"{seconds} s", PERSON)


# --- all is well -------------------------------------------------------------------------------


def test_it_claims_mirrors_stores_the_log_and_finishes(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    worker = fleet.start("--allow-host", repository.host)
    await_statuses(conn, "success")
    mirror = worker.store / "project/repo.git"
    assert git(mirror, "rev-parse", "refs/heads/main") == git(repository.path, "rev-parse", "main")
    row = conn.execute(
        "select result.log_excerpt, file.content from vcs.code_import_result as result"
        " join vcs.code_import_log_file as file on file.id = result.log_file_id"
    ).fetchone()
    assert row is not None
    assert row[1].decode().rstrip().endswith(row[0])
    assert "refs" in row[0]

    repository.commit()
    client.request(imp.id, PERSON)
    await_statuses(conn, "success", "success")
    client.request(imp.id, PERSON)
    await_statuses(conn, "success", "success", "success_nochange")


def test_a_notification_wakes_it_within_a_second(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    fleet.start("--allow-host", repository.host)
    await_statuses(conn, "success")
    client.request(imp.id, PERSON)
    await_statuses(conn, "success", "success_nochange")
    (wait,) = conn.execute(
        "select extract(epoch from date_job_started - event.date_created)::float"
        " from vcs.code_import_result as result, vcs.code_import_event as event"
        " where event.event_type = 'request' and result.status = 'success_nochange'"
    ).fetchone() or (99,)
    assert wait < 1


def test_without_listen_it_wakes_when_a_job_falls_due(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("update vcs._code_import_schedule set date_due = now() + interval '3 s'")
    due = conn.execute("select date_due from vcs.code_import_job").fetchone()
    worker = fleet.start("--allow-host", repository.host, "--no-listen")
    worker.says("machine w1 is online")
    await_statuses(conn, "success", timeout=30)  # less than it sleeps when nothing is due
    started = "select date_job_started >= %s from vcs.code_import_result"
    assert conn.execute(started, due).fetchone() == (True,)


def test_once_runs_what_is_due_and_ends(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    fleet.start("--allow-host", repository.host, "--once").ends()
    assert statuses(conn) == ["success"]


def test_it_keeps_to_its_limit(
    fleet: Fleet, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    for number in range(4):
        client.new(PERSON, f"many/{number}", "git", repository.another(f"many{number}"))
    repository.gate.hold()
    worker = fleet.start("--allow-host", repository.host, "--limit", "2")
    eventually(lambda: len(worker.runs()) == 2)
    started = conn.execute("select count(*) from vcs.code_import_job where state = 'running'")
    assert started.fetchone() == (2,)
    repository.gate.release()
    eventually(lambda: len(statuses(conn)) == 4)


def test_excluded_hosts_are_forbidden(
    fleet: Fleet, conn: psycopg.Connection[Any], client: Client
) -> None:
    client.configure("excluded_hosts", "example.net, example.org", PERSON)
    client.new(PERSON, "project/repo", "git", "https://git.example.org/repo.git")
    fleet.start("--once").ends()
    assert statuses(conn) == ["failure_forbidden"]


def test_check_says_what_can_be_imported(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-m", "code_import", "worker", "--check"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"^git +ready$", said, re.MULTILINE)
    assert re.search(r"^sandbox: (bubblewrap|none \(.+\))$", said, re.MULTILINE)


# --- runs that are stopped ---------------------------------------------------------------------


def test_a_killed_run_ends_with_its_whole_group(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    tail = "select logtail from vcs.code_import_job where logtail like '%Asking git://%'"
    eventually(lambda: conn.execute(tail).fetchone(), what="the newest lines of its log")
    client.job_kill(running(conn) or 0, PERSON)
    await_statuses(conn, "killed")
    eventually(lambda: not members(group))
    assert not (worker.store / "project/repo.git").exists()


def test_a_run_leaves_the_machine_half_of_its_memory(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    limits = Path(f"/proc/{group}/limits").read_text()
    bounded = re.search(r"^Max data size +(\d+) ", limits, re.MULTILINE)
    assert bounded is not None, limits
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert int(bounded[1]) <= memory // 2


@pytest.mark.parametrize(
    ("option", "words"),
    [("--silence-limit", "no output for 2 s"), ("--time-limit", "longer than 2 s")],
)
def test_a_run_past_a_limit_is_a_failure(
    option: str,
    words: str,
    fleet: Fleet,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
) -> None:
    repository.gate.hold()
    worker = fleet.start("--allow-host", repository.host, option, "2")
    (group,) = eventually(worker.runs)
    await_statuses(conn, "failure")
    assert not members(group)
    excerpt = conn.execute("select log_excerpt from vcs.code_import_result").fetchone()
    assert words in str(excerpt)


def test_a_deleted_import_stops_its_run_quietly(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    client.delete(imp.id, PERSON)
    worker.says("no longer ours")
    assert not members(group)
    assert statuses(conn) == []
    assert not (worker.store / "project/repo.git").exists()


def test_a_run_whose_process_dies_is_an_internal_failure(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    os.kill(group, signal.SIGKILL)
    await_statuses(conn, "internal_failure")
    assert not members(group)


# --- runs that go too far ----------------------------------------------------------------------


@dataclass
class Tampered:
    """A git that does something else in place of its first part in a run, until it is mended."""

    folder: Path

    def instead_of(self, command: str, script: str) -> None:
        """Have a shell script run in place of a git command."""
        self.folder.mkdir()
        (self.folder / "broken").touch()
        program = self.folder / "git"
        program.write_text(
            f"""#!/bin/bash
            for word in "$@"; do
                if [ "$word" = {command} ] && [ -e {self.folder}/broken ]; then
                    {script}
                    exit 1
                fi
            done
            exec {shutil.which("git")} "$@"
            """
        )
        program.chmod(0o755)

    def mend(self) -> None:
        """Let git be git."""
        (self.folder / "broken").unlink()


@pytest.fixture
def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tampered:
    """Goes before the real one in the search path of workers that are started from now on."""
    made = Tampered(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    return made


def processes_with(word: str) -> list[int]:
    """The living processes that have a word in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


SLEEP = f"60.{os.getpid()}"
"""Seconds that tell the sleepers of these tests from any others."""
HOG = "python3 -c 'import time; held = bytearray(150 << 20); time.sleep(60)'"
EXCESSES = {
    "many processes": (
        f"for i in {{1..1500}}; do sleep {SLEEP} & done; wait",
        ("--process-limit", "50"),
        "it has more than 50 processes",
    ),
    "a bomb": (
        f"b() {{ if [ $1 -gt 0 ]; then b $(($1 - 1)) & b $(($1 - 1)) & fi; sleep {SLEEP}; }}; b 12",
        ("--process-limit", "50"),
        "it has more than 50 processes",
    ),
    "processes that leave their group": (
        f"for i in {{1..300}}; do setsid sleep {SLEEP} & done; wait",
        ("--process-limit", "50"),
        "it has more than 50 processes",
    ),
    "much memory": (
        f"for i in 1 2 3 4; do {HOG} & done; wait",
        ("--memory-limit", "400MiB"),
        "it needs more than 400 MiB of memory",
    ),
    "much memory in one process": (
        "python3 -c 'bytearray(500 << 20)'",
        ("--memory-limit", "400MiB"),
        "--memory-limit",
    ),
    "many files": (
        f'for i in {{1..60}}; do head -c 1M /dev/zero > "$TMPDIR/$i"; done; sleep {SLEEP}',
        ("--write-limit", "20MiB"),
        "it has written more than 20 MiB",
    ),
    "a large file": (
        'head -c 60M /dev/zero > "$TMPDIR/large"; exit $?',
        ("--write-limit", "20MiB"),
        "--write-limit",
    ),
    "no end, and no ear for signals": (
        f"trap '' TERM; while :; do sleep {SLEEP}; done",
        ("--time-limit", "2"),
        "longer than 2 s",
    ),
}


@pytest.mark.parametrize("sandbox", ["require", "off"])
@pytest.mark.parametrize("excess", EXCESSES)
def test_an_excess_ends_its_own_run_and_nothing_else(
    excess: str,
    sandbox: str,
    tampered: Tampered,
    fleet: Fleet,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    client: Client,
) -> None:
    if sandbox == "require":
        need_sandbox()
    script, options, words = EXCESSES[excess]
    tampered.instead_of("clone", script)
    worker = fleet.start("--allow-host", repository.host, "--sandbox", sandbox, *options)
    await_statuses(conn, "failure", timeout=40)
    excerpt = conn.execute("select log_excerpt from vcs.code_import_result").fetchone()
    assert words in str(excerpt)
    assert not worker.runs()
    eventually(lambda: not processes_with(SLEEP), what="an end of all that it has started")
    tampered.mend()
    client.request(imp.id, PERSON)
    await_statuses(conn, "failure", "success")
    assert not list(worker.store.glob(".code-import/stage/*"))


def test_a_source_with_too_many_refs_is_a_failure(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    for number in range(6):
        git(repository.path, "tag", f"v{number}", "main")
    worker = fleet.start("--allow-host", repository.host, "--ref-limit", "6")
    await_statuses(conn, "failure")
    worker.says(r"more refs than a run takes: over 6")
    git(repository.path, "tag", "--delete", "v5")
    client.request(imp.id, PERSON)
    await_statuses(conn, "failure", "success")


def test_a_tool_sees_and_writes_nothing_but_its_own(
    tampered: Tampered,
    fleet: Fleet,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's files, those of other imports, and the worker's environment are out of sight."""
    need_sandbox()
    home = tmp_path / "home"
    others = tmp_path / "store/.code-import/work/77"
    canaries = [home / ".netrc", others / "hg/store", tmp_path / "store/other/repo.git/config"]
    for canary in canaries:
        canary.parent.mkdir(parents=True)
        canary.write_text("canary-in-a-file")
    monkeypatch.setenv("CANARY", "canary-in-the-environment")
    written = [*(f"{canary}.new" for canary in canaries), "/tmp/code-import-canary"]
    tampered.instead_of(
        "clone",
        f"""
        cat {" ".join(map(str, canaries))} /proc/*/environ 2>/dev/null | tr '\\0' '\\n' >&2
        for file in {" ".join(written)}; do echo written > $file; done 2>/dev/null
        echo "sees $(ls /proc | grep -c '^[0-9]') processes" >&2
        grep -E 'CapEff|NoNewPrivs' /proc/self/status >&2
        touch "$TMPDIR/mine" && echo has a place of its own >&2
        """,
    )
    fleet.start("--allow-host", repository.host, "--sandbox", "require")
    await_statuses(conn, "failure")
    (log,) = conn.execute("select log_excerpt from vcs.code_import_result").fetchone() or ("",)
    assert "canary" not in log
    assert not [file for file in written if Path(file).exists()]
    assert "has a place of its own" in log
    assert int(re.search(r"sees (\d+) processes", log)[1]) < 12  # type: ignore[index]
    assert re.search(r"CapEff:\s+0{16}$", log, re.MULTILINE)
    assert re.search(r"NoNewPrivs:\s+1$", log, re.MULTILINE)


def test_without_a_sandbox_a_worker_says_so_or_does_not_start(
    fleet: Fleet,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "programs/bwrap"
    broken.parent.mkdir()
    broken.write_text(
        "#!/bin/sh\necho bwrap: No permissions to create a new namespace >&2; exit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}{os.pathsep}{os.environ['PATH']}")
    refused = fleet.start("--sandbox", "require")
    refused.ends(1)
    assert "No permissions to create a new namespace" in refused.log
    worker = fleet.start("--allow-host", repository.host)
    worker.says("sandbox: none .*No permissions to create a new namespace")
    await_statuses(conn, "success")


# --- workers that stop -------------------------------------------------------------------------


def test_the_first_sigterm_finishes_what_runs(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    standing_run(conn, worker, repository)
    worker.process.send_signal(signal.SIGTERM)
    worker.says("stopping: takes nothing more, 1 to finish")
    client.new(PERSON, "other", "git", repository.another("other"))
    repository.gate.release()
    worker.ends()
    assert statuses(conn) == ["success"]
    assert conn.execute("select state from vcs.code_import_machine").fetchone() == ("online",)


def test_the_second_sigterm_releases_what_runs(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    due = conn.execute("select date_due from vcs.code_import_job").fetchone()
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    worker.process.send_signal(signal.SIGTERM)
    worker.says("stopping: takes")
    worker.process.send_signal(signal.SIGTERM)
    worker.ends()
    assert not members(group)
    assert statuses(conn) == []
    assert conn.execute("select date_due from vcs.code_import_job").fetchone() == due
    events = conn.execute("select event_type from vcs.code_import_event order by id")
    assert "release" in [event for (event,) in events]


def test_runs_that_get_the_signal_too_are_released(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    worker.process.send_signal(signal.SIGTERM)
    os.killpg(group, signal.SIGTERM)
    worker.ends()
    assert statuses(conn) == []
    assert conn.execute("select state from vcs.code_import_job").fetchone() == ("pending",)


def test_a_run_that_cannot_be_started_is_given_back(
    fleet: Fleet,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    client: Client,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.machine_new("w1")
    short = tmp_path_factory.mktemp("t")  # a long one would not be used
    monkeypatch.setenv("TMPDIR", str(short))
    worker = fleet.start("--allow-host", repository.host)
    worker.says("is offline")
    for socket_of_the_forkserver in short.glob("*/*"):
        socket_of_the_forkserver.unlink()
    conn.execute("update vcs._code_import_machine set state = 'online'")
    worker.says("cannot be started")
    eventually(lambda: running(conn) is None)
    assert statuses(conn) == []


def test_after_a_crash_it_starts_again_at_once(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    group = standing_run(conn, worker, repository)
    worker.process.kill()
    worker.process.wait()
    eventually(lambda: not members(group), what="the run dies with its worker")
    repository.gate.release()
    fleet.start("--allow-host", repository.host).says("was left by a crash: reclaimed")
    await_statuses(conn, "reclaimed", "success")


def test_one_machine_has_one_worker(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    first = fleet.start("--allow-host", repository.host)
    await_statuses(conn, "success")
    for store in ("store", "another"):
        second = fleet.start(store=store)
        second.ends(code=1)
        assert (
            f"is at work already: code-import worker, process {first.process.pid} on" in second.log
        )
        assert "Traceback" not in second.log


def test_a_store_that_is_of_no_use_is_told_in_a_line(fleet: Fleet) -> None:
    (fleet.folder / "locked/.worker-w1.lock").mkdir(parents=True)
    (fleet.folder / "file").touch()
    for store, why in (("locked", "the worker's lock cannot be had"), ("file/x", "cannot be made")):
        worker = fleet.start(store=store)
        worker.ends(code=1)
        assert why in worker.log
        assert "Traceback" not in worker.log


def test_temporary_files_may_lie_deep(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    fleet.start("--once").ends()


def test_its_log_shows_control_characters(fleet: Fleet) -> None:
    worker = fleet.start(hostname="red\x1b[31m\nline")
    worker.ends(code=1)
    assert r"machine red\x1b[31m\nline, store" in worker.log
    assert "\x1b" not in worker.log


def test_a_machine_of_another_role_is_refused(
    fleet: Fleet, dsn: str, conn: psycopg.Connection[Any], roles: Roles
) -> None:
    fleet.start("--once").ends()
    other = fleet.start(dsn=make_conninfo(dsn, user=roles.other_worker))
    other.ends(code=1)
    assert "IJ403" in other.log
    assert "hint" in other.log


def test_a_machine_that_is_offline_waits(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    machine = client.machine_new("w1")
    worker = fleet.start("--allow-host", repository.host)
    worker.says("machine w1 is offline: nothing is taken until")
    assert statuses(conn) == []
    client.machine_set_online(machine.id, PERSON)
    await_statuses(conn, "success")
    assert "machine w1 is online" in worker.log


def test_it_reclaims_for_others(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    dead = client.machine_new("dead", "online")
    job = conn.execute("select id from vcs.code_import_job").fetchone()
    assert job is not None
    client.job_start(job[0], dead.id)
    set_lease(client, 3)
    worker = fleet.start("--allow-host", repository.host, "--no-listen")
    worker.says("machine w1 is online")
    await_statuses(conn, "reclaimed", "success")


# --- a database that comes and goes ------------------------------------------------------------


def test_cut_connections_cost_nothing(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    hold_at_fetch(repository)
    worker = fleet.start("--allow-host", repository.host)
    standing_run(conn, worker, repository)
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'code-import worker' and datname = current_database()"
    )
    worker.says("the database is back")
    repository.gate.release()
    await_statuses(conn, "success")


def test_a_claim_whose_answer_was_lost_is_released(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    worker = fleet.start("--allow-host", repository.host)
    await_statuses(conn, "success")
    conn.execute("update vcs._code_import_schedule set date_due = now()")
    machine = conn.execute("select id from vcs.code_import_machine").fetchone()
    job = conn.execute("select id from vcs.code_import_job").fetchone()
    assert machine is not None
    assert job is not None
    client.job_start(job[0], machine[0])
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'code-import worker' and datname = current_database()"
    )
    worker.says(f"run {job[0]} of project/repo was given to us unheard: released")
    await_statuses(conn, "success", "success_nochange")


def test_a_restart_of_the_server_costs_nothing(
    repository: Repository, fleet: Fleet, tmp_path: Path, server: servers.Server
) -> None:
    own = servers.Server(server.major, server.bin, server.directory.with_name(tmp_path.name))
    own.create()
    own.start()
    try:
        schema.install(own.dsn())
        with psycopg.connect(own.dsn(), autocommit=True) as conn:
            Client(conn).new(PERSON, "project/repo", "git", repository.url)
            hold_at_fetch(repository)
            worker = fleet.start("--allow-host", repository.host, dsn=own.dsn())
            standing_run(conn, worker, repository)
        own.stop()
        worker.says("no database")
        repository.gate.release()
        own.start()
        worker.says("the database is back")
        with psycopg.connect(own.dsn(), autocommit=True) as conn:
            await_statuses(conn, "success")
    finally:
        own.stop()


@pytest.fixture
def way(server: Any) -> Iterator[Gate]:
    """The way to the database, which can be shut."""
    gate = Gate(server.port)
    yield gate
    gate.close()


def test_an_outcome_waits_for_the_database(
    fleet: Fleet,
    way: Gate,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
) -> None:
    worker = fleet.start(
        "--allow-host", repository.host, dsn=make_conninfo(fleet.dsn, port=way.port)
    )
    await_statuses(conn, "success")
    repository.gate.hold()
    conn.execute("update vcs._code_import_schedule set date_due = now()")
    conn.execute("notify code_import_job_due")
    (group,) = eventually(worker.runs)
    way.shut()
    worker.says("no database")
    repository.gate.release()
    eventually(lambda: not members(group), what="the run ends without the database")
    assert statuses(conn) == ["success"]
    way.reopen()
    await_statuses(conn, "success", "success_nochange")


def test_a_database_that_stands_still_is_left(
    fleet: Fleet,
    way: Gate,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    client: Client,
) -> None:
    set_lease(client, 8)
    hold_at_fetch(repository)
    dsn = make_conninfo(fleet.dsn, port=way.port)
    worker = fleet.start("--allow-host", repository.host, dsn=dsn)
    standing_run(conn, worker, repository)
    way.hold()
    worker.says("no database")
    way.release()
    worker.says("the database is back")
    repository.gate.release()
    eventually(lambda: statuses(conn)[-1:] == ["success"])


def test_an_end_whose_answer_was_lost_is_told_again_and_counts_once(
    fleet: Fleet, way: Gate, imp: Import, repository: Repository, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(
        """
        create function public.wait_at_commit() returns trigger language plpgsql as
            'begin perform pg_advisory_xact_lock_shared(4711); return null; end';
        create constraint trigger wait_at_commit after insert on vcs._code_import_result
            deferrable initially deferred for each row execute function public.wait_at_commit();
        select pg_advisory_lock(4711);
        """
    )
    dsn = make_conninfo(fleet.dsn, port=way.port)
    worker = fleet.start("--allow-host", repository.host, dsn=dsn)
    waiting = "select from pg_locks where locktype = 'advisory' and not granted"
    eventually(lambda: conn.execute(waiting).fetchone() is not None, what="a commit that waits")
    way.hold()
    conn.execute("select pg_advisory_unlock(4711)")
    await_statuses(conn, "success")
    assert "success" not in worker.log
    way.shut()
    way.release()
    way.reopen()
    worker.says("run 1 of project/repo: success")
    assert statuses(conn) == ["success"]


def test_without_a_database_a_run_lives_no_longer_than_its_lease(
    fleet: Fleet,
    way: Gate,
    imp: Import,
    repository: Repository,
    conn: psycopg.Connection[Any],
    client: Client,
) -> None:
    set_lease(client, 3)
    hold_at_fetch(repository)
    worker = fleet.start(
        "--allow-host", repository.host, dsn=make_conninfo(fleet.dsn, port=way.port)
    )
    group = standing_run(conn, worker, repository)
    way.shut()
    worker.says("no database")
    repository.gate.release()
    eventually(lambda: not any("git" in name for name in members(group)), what="the fetch is done")
    assert members(group), "it waits for leave to publish"
    eventually(lambda: not members(group), 10, "its lease runs out")
    assert not (worker.store / "project/repo.git").exists()
    way.reopen()
    eventually(lambda: statuses(conn)[-1:] == ["success"])
    assert set(statuses(conn)) <= {"reclaimed", "success"}


def test_a_worker_that_slept_through_its_reclaim_changes_nothing(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    set_lease(client, 2)
    hold_at_fetch(repository)
    sleeper = fleet.start("--allow-host", repository.host, hostname="sleeper")
    group = standing_run(conn, sleeper, repository)
    slept = running(conn)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    repository.gate._free_connections = 1_000_000  # the successor's answers are not held back
    successor = fleet.start("--allow-host", repository.host, hostname="successor")
    await_statuses(conn, "reclaimed", "success")
    mirror = successor.store / "project/repo.git"
    state, refs = read_state(mirror), git(mirror, "for-each-ref")
    assert state is not None
    assert state.job_id > (slept or 0)

    repository.commit("What the sleeper never sees")
    repository.gate.release()
    eventually(lambda: not any("git" in name for name in members(group)), what="the fetch is done")
    os.kill(sleeper.process.pid, signal.SIGCONT)
    sleeper.says("no longer ours|had ended without us")
    assert not members(group)
    assert read_state(mirror) == state
    assert git(mirror, "for-each-ref") == refs
    assert statuses(conn) == ["reclaimed", "success"]


def test_a_sleeping_worker_does_not_hold_a_mirror_for_longer_than_a_lease(
    fleet: Fleet, imp: Import, repository: Repository, conn: psycopg.Connection[Any], client: Client
) -> None:
    set_lease(client, 2)
    hold_at_fetch(repository)
    sleeper = fleet.start("--allow-host", repository.host, hostname="sleeper")
    standing_run(conn, sleeper, repository)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    repository.gate.release()  # its run gets to the point where it asks, and nobody answers
    fleet.start("--allow-host", repository.host, hostname="successor")
    eventually(lambda: statuses(conn) == ["reclaimed", "success"], 15, "the successor's run")
    os.kill(sleeper.process.pid, signal.SIGCONT)
    sleeper.says("no longer ours|had ended without us")
    assert statuses(conn) == ["reclaimed", "success"]


# --- its parts ---------------------------------------------------------------------------------


def test_a_log_is_bounded_and_keeps_its_end() -> None:
    log = RunLog(10_000)
    for number in range(5_000):
        log.write(f"line {number}")
    content = log.content()
    assert 9_000 < len(content) <= 10_000
    assert content.endswith(b"line 4999\n")
    assert log.tail().endswith("line 4999")
    assert len(log.tail().splitlines()) == 40
    log.write("é" * 9_999)
    log.write("é" * 9_999)
    for _ in range(9):
        log.write("ö" * 1_000)
    assert len(log.tail().encode()) <= TAIL_BYTES
    log.close()


def test_delays_grow_to_a_bound_and_start_afresh() -> None:
    backoff = Backoff(1, 10)
    delays = [backoff.next() for _ in range(40)]
    assert 0.75 <= delays[0] <= 1
    assert all(7.5 <= delay <= 10 for delay in delays[5:])
    backoff.reset()
    assert backoff.next() <= 1


def test_a_lock_says_who_holds_it_and_ends_with_its_holder(tmp_path: Path) -> None:
    def lock() -> WorkerLock:
        return WorkerLock("tests", "a/b", tmp_path / "store", "1-2", tmp_path / "locks")

    first = lock()
    first.acquire()
    with pytest.raises(Held, match=f"tests, process {os.getpid()} on {socket.gethostname()}"):
        lock().acquire()
    first.release()
    again = lock()
    again.acquire()
    again.release()
