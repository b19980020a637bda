"""A throw-away server that is set up as in production: everything is written to a real disk.

It stops and its files go when the benchmark ends, however it ends; what a killed one leaves behind
is removed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from harness import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "code_import-bench-"
SETTINGS = {
    "autovacuum": "on",
    "checkpoint_timeout": "30min",
    "dynamic_shared_memory_type": "posix",
    "fsync": "on",
    "full_page_writes": "on",
    "jit": "on",
    "log_line_prefix": "%m [%p] ",
    "max_connections": "200",
    "max_wal_senders": "10",
    "max_wal_size": "16GB",
    "min_wal_size": "1GB",
    "shared_buffers": "1GB",
    "synchronous_commit": "on",
    "track_io_timing": "off",
    "wal_level": "replica",
}


class Cluster:
    """The server of one benchmark, with what is done to its databases."""

    def __init__(self, server: servers.Server) -> None:
        self.server = server

    def url(self, dbname: str, user: str = "postgres") -> str:
        """Where a database is, in the form that every client library reads."""
        return f"postgresql://{user}@127.0.0.1:{self.server.port}/{dbname}"

    def restart(self, **settings: str) -> None:
        """Stop the server, and start it with some settings changed."""
        self.server.stop()
        self.server.settings.update(settings)
        self.server.start()

    def execute(self, statement: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own, and return what rows it has."""
        with psycopg.connect(self.url(dbname), autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def settle(self, dbname: str) -> None:
        """Vacuum and analyze a database whole."""
        self.execute("vacuum (freeze, analyze)", dbname)

    @contextmanager
    def copy(self, template: str, dbname: str) -> Iterator[str]:
        """A database like another one, for as long as it is needed; gives its url."""
        self.execute(f"drop database if exists {dbname} with (force)")
        self.execute(f"create database {dbname} template {template}")
        try:
            yield self.url(dbname)
        finally:
            self.execute(f"drop database {dbname} with (force)")

    def describe(self) -> dict[str, str]:
        """The version, and each setting that was given."""
        quiet = {"dynamic_shared_memory_type", "log_line_prefix"}  # cost nothing
        names = ", ".join(f"'{name}'" for name in SETTINGS.keys() - quiet)
        shown = self.execute(
            "select name, current_setting(name) from pg_settings"
            f" where name in ({names}, 'wal_sync_method', 'autovacuum_naptime') order by name"
        )
        version = self.execute("select current_setting('server_version')")[0][0]
        return {"server_version": str(version), **dict(shown)}


@contextmanager
def cluster(
    base: Path | None = None, major: int | None = None, **settings: str
) -> Iterator[Cluster]:
    """A server with nothing in it, in a new directory below ``base``, or a RuntimeError."""
    base = base or default_base()
    sweep(base)
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.geteuid()}-", dir=base))
    with (home / "owner").open("wb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        home.chmod(0o755)
        server: servers.Server | None = None
        try:
            server = _make(home, major, {**SETTINGS, **settings})
            server.start()
            yield Cluster(server)
        finally:
            if server is not None:
                server.stop()
            shutil.rmtree(home, ignore_errors=True)


def default_base() -> Path:
    """Where temporary files survive a reboot, and so are on a disk; else where they are."""
    lasting = Path("/var/tmp")
    return lasting if os.access(lasting, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def sweep(base: Path) -> None:
    """Remove what benchmarks left behind that were killed. The kernel has stopped their servers."""
    for home in base.glob(f"{PREFIX}{os.geteuid()}-*"):
        with contextlib.suppress(OSError), (home / "owner").open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: somebody owns it
            shutil.rmtree(home, ignore_errors=True)


def filesystem(path: Path) -> str:
    """The type of the file system that a path is on, as far as the kernel says."""
    found = ("", "unknown")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            if path.resolve().is_relative_to(place) and len(place) >= len(found[0]):
                found = (place, kind)
    return found[1]


def syncs_per_second(base: Path, seconds: float = 0.3) -> float:
    """How often a page can be written and made durable, one after the other."""
    page = os.urandom(8192)
    with tempfile.TemporaryFile(dir=base) as file:
        start = time.perf_counter()
        count = 0
        while (took := time.perf_counter() - start) < seconds:
            os.pwrite(file.fileno(), page, (count % 64) * len(page))
            os.fdatasync(file.fileno())
            count += 1
    return count / took


def _make(home: Path, major: int | None, settings: dict[str, str]) -> servers.Server:
    builds = servers.builds()
    if not builds or (major is not None and major not in builds):
        raise RuntimeError(f"no such PostgreSQL server is here; there are: {sorted(builds)}")
    chosen = major if major is not None else next(iter(builds))
    bin_ = servers._reachable(builds[chosen], home)
    server = servers.Server(chosen, bin_, home / str(chosen), settings)
    try:
        server.create()
    except subprocess.CalledProcessError as error:
        raise RuntimeError(error.stderr.decode(errors="replace")) from error
    return server
