"""The embedded server: one for each user, closed to others, and back after anything is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from code_import import connection, embedded
from harness import servers
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENSURE = "from code_import import embedded; print(embedded.ensure())"
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to be several users")

_serial = count(1)


@pytest.fixture
def data_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of the test's own; its server stops with the test."""
    run = Path(os.environ["CODE_IMPORT_TEST_HOME"])
    home = run / f"embedded-{os.getpid()}-{next(_serial)}"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    yield home
    embedded.stop()
    shutil.rmtree(home)


@pytest.fixture
def base(data_home: Path) -> Path:
    """Where the server of this test keeps its files."""
    return data_home / "code-import" / "postgres"


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pid() -> int:
    found = embedded.status().pid
    assert found is not None
    return found


def kill(process: int) -> None:
    """Kill with -9, and return when it is dead: gone, or a zombie."""
    os.kill(process, signal.SIGKILL)

    def is_dead() -> bool:
        try:
            return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    eventually(is_dead, what=f"process {process} is dead")


def write_note() -> None:
    with connection.connect() as conn:
        conn.execute("create table note as select 'kept' as text")


def note() -> str:
    with connection.connect() as conn:
        (text,) = conn.execute("select text from note").fetchone() or ("lost",)
        assert isinstance(text, str)
        return text


# --- starting, stopping ------------------------------------------------------------------------


def test_it_starts_when_it_is_needed_and_is_shared_from_then_on(base: Path) -> None:
    assert not embedded.status().running
    assert not base.exists(), "asking does not start it"
    write_note()
    first = pid()
    told = subprocess.run(
        [sys.executable, "-c", ENSURE], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == embedded.ensure()
    assert pid() == first
    assert (embedded.status().version or "").startswith("18.")
    assert embedded.stop()
    assert not embedded.status().running
    assert not embedded.stop()
    assert note() == "kept"


def test_it_is_detached_from_who_starts_it(base: Path) -> None:
    starter = python(ENSURE)
    session = os.getsid(starter.pid)
    starter.communicate(timeout=60)
    assert starter.returncode == 0
    assert os.getsid(pid()) == pid() != session
    assert psutil.Process(pid()).ppid() != os.getpid()


def test_many_who_start_it_at_once_get_one_server(base: Path) -> None:
    starters = [python(f"{ENSURE}; print(embedded.status().pid)") for _ in range(8)]
    told = {starter.communicate(timeout=120)[0] for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 8, told
    assert len(told) == 1
    assert not list(base.glob("*half*"))


def test_commands(base: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "code_import", "server", *arguments],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    code, told = run("status", "--json")
    assert (code, json.loads(told)["running"]) == (3, False)
    code, told = run("dsn")
    with psycopg.connect(told.strip()) as conn:
        assert conn.info.dbname == "code_import"
    code, told = run("status", "--json")
    assert (code, json.loads(told)["pid"]) == (0, pid())
    assert run("psql", "-XAtc", "select current_database()") == (0, "code_import\n")
    assert embedded.psql().exists()
    assert run("stop")[0] == 0
    assert run("stop")[0] == 3


def test_it_stops_though_sessions_are_busy(base: Path) -> None:
    busy = connection.connect()
    sleeper = threading.Thread(target=_until_cut_off, args=(busy, "select pg_sleep(600)"))
    sleeper.start()
    eventually(lambda: _statements("PgSleep"), what="a statement runs")
    assert embedded.stop()
    sleeper.join(20)
    assert not sleeper.is_alive()


def _until_cut_off(conn: psycopg.Connection[object], statement: str) -> None:
    with contextlib.suppress(psycopg.OperationalError), conn:
        conn.execute(statement.encode())


def _statements(wait_event: str | None) -> bool:
    with connection.connect() as conn:
        found = conn.execute(
            "select from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
            " and wait_event is not distinct from %s",
            [wait_event],
        )
        return found.fetchone() is not None


# --- who may enter -----------------------------------------------------------------------------


def test_nobody_else_may_enter(base: Path) -> None:
    with connection.connect() as conn:
        assert conn.execute("show listen_addresses").fetchone() == ("",)
        (directory,) = conn.execute("show unix_socket_directories").fetchone() or ("",)
    run = Path(directory.strip('"'))
    assert run == base / "run"
    for private in (run, base / "data"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    if AS_ROOT:
        done = _as_nobody(["/usr/bin/env", "test", "-e", str(run / ".s.PGSQL.5432")])
        assert done.returncode == 1


def test_what_may_be_changed_is_judged_where_there_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file/below"
    assert embedded._only_root_may_change(nowhere) == embedded._only_root_may_change(
        tmp_path / "file"
    )
    assert not embedded._User(1, 1).may_enter(nowhere)


@needs_root
def test_as_root_the_server_is_not_root_and_roots_home_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "root"
    home.mkdir(mode=0o700)
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(home))
    elsewhere = Path("/var/lib/code-import", *home.parts[1:], ".local/share/code-import/postgres")
    try:
        write_note()
        assert embedded.status().directory == elsewhere
        assert psutil.Process(pid()).uids().real != 0
        assert list(home.iterdir()) == []
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        kill(pid())
        assert note() == "kept"
    finally:
        embedded.stop()
        shutil.rmtree(elsewhere)
        for parent in elsewhere.parents:
            if parent == Path("/var/lib"):
                break
            with contextlib.suppress(OSError):
                parent.rmdir()


@needs_root
def test_as_root_a_directory_that_somebody_else_controls_is_not_used(data_home: Path) -> None:
    shared = data_home / "code-import"
    shared.mkdir()
    os.chown(shared, pwd.getpwnam("nobody").pw_uid, -1)
    assert embedded.status().directory.is_relative_to("/var/lib/code-import")
    os.chown(shared, 0, -1)
    shared.chmod(0o777)
    assert embedded.status().directory.is_relative_to("/var/lib/code-import")
    shared.chmod(0o755)
    assert embedded.status().directory.is_relative_to(shared)


def test_a_directory_that_others_may_write_to_is_refused(base: Path) -> None:
    if AS_ROOT:
        pytest.skip("root's server goes elsewhere then")
    base.mkdir(parents=True)
    base.chmod(0o777)
    with pytest.raises(embedded.EmbeddedError, match="not a directory of this user alone"):
        embedded.ensure()
    base.chmod(0o700)


def test_a_socket_directory_of_somebody_else_is_not_trusted(base: Path) -> None:
    embedded.ensure()
    (base / "run").chmod(0o755)
    assert not embedded.status().running
    (base / "run").chmod(0o700)
    assert embedded.status().running


def test_variables_meant_for_other_servers_do_not_keep_us_out(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGCHANNELBINDING": "require",
        "PGGSSENCMODE": "require",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGPASSWORD": "secret",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGSSLMODE": "verify-full",
        "PGTARGETSESSIONATTRS": "standby",
        "PGUSER": "somebody",
        "PGDATA": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    write_note()
    assert note() == "kept"


# --- whatever is killed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["data.half-*/PG_VERSION", "data/postmaster.pid", "builds/half*"]
)
def test_who_starts_it_is_killed_half_way(base: Path, moment: str) -> None:
    starter = python(ENSURE)
    eventually(lambda: list(base.glob(moment)), what=f"{moment} is there")
    starter.kill()
    starter.communicate()
    write_note()
    assert note() == "kept"
    assert not list(base.glob("data.half*")) + list(base.glob("builds/half*"))
    assert embedded.stop()


def test_its_postmaster_is_killed(base: Path) -> None:
    write_note()
    database = connection.find()
    for _ in range(3):
        killed = pid()
        kill(killed)
        with database.connect() as conn:  # what was chosen before comes back as well
            assert conn.execute("select text from note").fetchone() == ("kept",)
        assert pid() != killed


def test_its_postmaster_is_killed_while_a_backend_is_too_busy_to_notice(base: Path) -> None:
    write_note()
    busy = connection.connect()
    endless = "do $$ begin loop end loop; end $$"
    thread = threading.Thread(target=_until_cut_off, args=(busy, endless))
    thread.start()
    eventually(lambda: _statements(None), what="the loop runs")
    backend = busy.info.backend_pid
    kill(pid())
    assert psutil.pid_exists(backend)
    assert note() == "kept"
    thread.join(20)
    assert not thread.is_alive()


def test_its_dead_postmaster_stays_a_zombie(base: Path) -> None:
    """As in a container whose first process does not collect the dead."""
    program = f"""
import ctypes, os, signal
{ENSURE}
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
embedded.stop(); embedded.ensure()
killed = embedded.status().pid
os.kill(killed, signal.SIGKILL)
embedded.ensure()
state = open(f"/proc/{{killed}}/stat").read().rpartition(")")[2].split()[0]
print(state, embedded.status().pid != killed)
embedded.stop()
"""
    done = python(program)
    told = done.communicate(timeout=120)[0]
    assert done.returncode == 0, told
    assert told.splitlines()[-1] == "Z True"


def test_another_process_has_the_number_of_its_dead_postmaster(base: Path) -> None:
    write_note()
    kill(pid())
    user = servers.server_user()
    innocent = subprocess.Popen(["sleep", "600"], cwd="/", **user)
    try:
        for name in ("data/postmaster.pid", "run/.s.PGSQL.5432.lock"):
            lines = (base / name).read_text().split("\n", 1)
            (base / name).write_text(f"{innocent.pid}\n{lines[1]}")
        assert note() == "kept"
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@needs_root
def test_a_container_that_ran_it_is_gone(base: Path) -> None:
    """Numbers of processes mean nothing across containers; all of it dies with the first one."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ENSURE]
    done = subprocess.run(inside, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"needs namespaces of processes: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (base / "data" / "postmaster.pid").exists()
    write_note()
    assert note() == "kept"


# --- files -------------------------------------------------------------------------------------


def test_a_path_too_long_for_a_socket(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = data_home / ("long, " * 20) / "er" / ("x" * 60)
    long.mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(long))
    write_note()
    place = Path(str(psycopg.conninfo.conninfo_to_dict(embedded.ensure())["host"]))
    assert place.parent == Path("/tmp")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    kill(pid())
    assert note() == "kept"
    assert not place.exists(), "the one of the dead server is cleared away"
    place = Path(str(psycopg.conninfo.conninfo_to_dict(embedded.ensure())["host"]))
    assert embedded.stop()
    assert not place.exists()


def test_data_of_another_version_is_served_by_that_version_or_named(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(embedded, "INSTALLS", dict(reversed(embedded.INSTALLS.items())))
        write_note()
        embedded.stop()
    assert note() == "kept"
    assert (embedded.status().version or "").startswith("16.")
    embedded.stop()
    (base / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(embedded.EmbeddedError, match=r"is of PostgreSQL 9, and only 18 and 16"):
        embedded.ensure()


def test_it_outlives_the_environment_that_brought_its_programs(base: Path) -> None:
    embedded.ensure()
    program = Path(psutil.Process(pid()).cmdline()[0])
    assert program.is_relative_to(base)


def test_no_programs_for_this_platform(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WHEEL", "no_such_wheel")
    with pytest.raises(embedded.EmbeddedError, match="--dsn"):
        embedded.ensure()


def test_a_server_that_cannot_start_says_why(base: Path) -> None:
    embedded.ensure()
    embedded.stop()
    (base / "data" / "postgresql.conf").write_text("shared_buffers = 'nonsense'\n")
    with pytest.raises(embedded.EmbeddedError, match="shared_buffers"):
        embedded.ensure()


def test_its_log_does_not_grow_for_ever(base: Path) -> None:
    embedded.ensure()
    log = base / "log"
    with log.open("a") as file:
        file.write("x" * embedded.LOG_LIMIT)
    embedded.ensure()
    assert log.stat().st_size == 0
    with connection.connect() as conn, pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("select 1 / 0")
    embedded.stop()
    assert "shut down" in log.read_text(), "the server writes on"
    assert "division" not in log.read_text(), "what callers are told is not logged as well"


# --- as a plain user ---------------------------------------------------------------------------


@needs_root
def test_as_a_plain_user(tmp_path: Path) -> None:
    """All of it again without any rights: another user, with a Python that he can run."""
    system = Path("/usr/bin/python3")
    site = Path(psycopg.__file__).parents[1]
    program = f"""
import os, signal
{ENSURE}
from code_import import connection
with connection.connect() as conn:
    conn.execute("create table note as select 'kept' as text")
first = embedded.status()
os.kill(first.pid, signal.SIGKILL)
with connection.connect() as conn:
    print(conn.execute("select text from note").fetchone())
print(embedded.stop(), first.directory)
"""
    with tempfile.TemporaryDirectory(dir=os.environ["CODE_IMPORT_TEST_HOME"]) as made:
        home = Path(made)
        os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
        environment = {
            "HOME": made,
            "PYTHONPATH": f"{ROOT / 'pyclient'}:{site}",
            "PATH": "/usr/bin",
        }
        if _as_nobody([str(system), "-c", "import code_import.embedded"], environment).returncode:
            pytest.skip("no Python that another user can run with these packages")
        done = _as_nobody([str(system), "-c", program], environment)
        assert done.returncode == 0, done.stderr
        last = done.stdout.splitlines()[-2:]
        assert last == ["('kept',)", f"True {home}/.local/share/code-import/postgres"]


def _as_nobody(
    command: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        command,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
