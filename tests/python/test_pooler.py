"""Behind PgBouncer in transaction mode, where no two transactions need share a session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from code_import import connection, policy
from code_import.client import Client
from harness import debian, servers
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Roles

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture
def pooled(dsn: str, roles: Roles) -> Iterator[str]:
    """The test's database through a pooler that has two sessions for all of its users."""
    try:
        fetched = debian.pgbouncer()
    except debian.NotToBeHad as missing:
        pytest.skip(str(missing))
    given = conninfo_to_dict(dsn)
    folder = Path(os.environ["CODE_IMPORT_TEST_HOME"]) / f"pooler-{os.getpid()}"
    shutil.copytree(fetched, folder)  # where a server's own user can read it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    users = folder / "users"
    users.write_text("".join(f'"{name}" ""\n' for name in (roles.operator, roles.worker)))
    (folder / "ini").write_text(
        CONFIGURATION.format(server_port=given["port"], port=port, users=users)
    )
    with subprocess.Popen(
        [folder / "pgbouncer", "ini"],
        cwd=folder,
        env={"LD_LIBRARY_PATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **servers.server_user(),
    ) as pooler:
        through = make_conninfo(dsn, port=port)
        eventually(lambda: _answers(make_conninfo(through, user=roles.operator)))
        yield through
        pooler.terminate()
    shutil.rmtree(folder)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("option", ["--no-listen", "--listen"])
def test_a_worker_works_through_a_pooler(
    pooled: str, conn: psycopg.Connection[Any], roles: Roles, tmp_path: Path, option: str
) -> None:
    """It claims, beats, asks before it publishes, and finishes; nobody needs a session."""
    source = tmp_path / "source"
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "First"]):
        source.mkdir(exist_ok=True)
        subprocess.run(["git", *words], cwd=source, check=True)
    policy.allow_path(source)
    operator = connection.connect(make_conninfo(pooled, user=roles.operator))
    Client(operator).new("alice", "project/repo", "git", f"file://{source}")

    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "code_import", "worker", "--once", option),
            *("--dsn", make_conninfo(pooled, user=roles.worker), "--store", tmp_path / "store"),
        ],
        check=True,
        timeout=60,
    )
    ended = conn.execute("select status from vcs.code_import_result").fetchall()
    assert ended == [("success",)]
    assert (tmp_path / "store" / "project" / "repo.git" / "HEAD").is_file()
    operator.close()


def test_calls_on_one_connection_meet_different_sessions(pooled: str, roles: Roles) -> None:
    """The client prepares nothing and sets nothing that a session would have to remember."""
    dsn = make_conninfo(pooled, user=roles.operator)
    sessions = set()
    with connection.connect(dsn) as one, connection.connect(dsn) as other:
        for number in range(12):
            sessions.add(one.execute("select pg_backend_pid()").fetchone())
            with other.transaction():  # keeps the session that was used last
                Client(other).machine_new(f"build{number}")
                sessions.add(one.execute("select pg_backend_pid()").fetchone())
                Client(one).new("alice", f"one/{number}", "git", f"https://example.org/{number}")
    assert len(sessions) == 2
