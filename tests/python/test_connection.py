"""Which database is meant, and what a connection is set up to notice."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from code_import import connection, embedded
from code_import.connection import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import servers

_serial = count(1)


@pytest.fixture(autouse=True)
def no_embedded_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell when the embedded server would be used, instead of starting it."""
    monkeypatch.setattr(embedded, "ensure", lambda: "host=/embedded")


# --- which one ---------------------------------------------------------------------------------


def test_the_order_in_which_places_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.find() == Database("host=/embedded", embedded=True)
    monkeypatch.setenv("PGHOST", "from-libpq")
    assert connection.find() == Database("")
    monkeypatch.setenv("CODE_IMPORT_DSN", "host=from-variable")
    assert connection.find() == Database("host=from-variable")
    assert connection.find("host=named") == Database("host=named")


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGPORT", "PGDATABASE"])
def test_variables_that_say_where_choose_libpqs_server(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "5432")
    assert not connection.find().embedded


@pytest.mark.parametrize(
    "name", ["PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGOPTIONS", "PGAPPNAME"]
)
def test_variables_that_say_how_choose_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert connection.find().embedded


@pytest.mark.parametrize("name", ["CODE_IMPORT_DSN", "PGHOST"])
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert connection.find().embedded


def test_a_dsn_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        connection.find("nonsense")


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("host=h dbname=d password=secret", "database d on h"),
        ("postgresql://u:secret@h:6432/d", "database d on h:6432"),
        ("host=/run/p user=u", "database u on /run/p"),
        ("host=a,b dbname=d", "database d on a,b"),
        ("dbname=d", "database d on this host"),
        ("service=s", "service s"),
    ],
)
def test_it_says_where_it_is_without_the_password(dsn: str, words: str) -> None:
    assert str(Database(dsn)) == words


# --- what is set -------------------------------------------------------------------------------


def options(dsn: str) -> dict[str, str]:
    with Database(dsn).connect() as conn:
        given = conninfo_to_dict(conn.info.dsn)
        return {key: str(value) for key, value in given.items()}


def test_a_connection_is_autocommit_and_has_a_name(dsn: str) -> None:
    with connection.connect(dsn) as conn:
        assert conn.autocommit
        assert conn.prepare_threshold is None
        assert conn.execute("show application_name").fetchone() == ("code-import",)
    with connection.connect(dsn, application_name="code-import worker", autocommit=False) as conn:
        assert not conn.autocommit
        assert conn.execute("show application_name").fetchone() == ("code-import worker",)
    with connection.connect(f"{dsn} application_name=mine") as conn:
        assert conn.execute("show application_name").fetchone() == ("mine",)


def test_the_socket_is_set_to_notice_a_peer_that_is_gone(dsn: str) -> None:
    with connection.connect(dsn) as conn, socket.socket(fileno=os.dup(conn.fileno())) as tcp:
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def test_what_the_dsn_and_the_environment_say_wins(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options(dsn)["connect_timeout"] == "10"
    said = options(f"{dsn} connect_timeout=3 keepalives_idle=60 tcp_user_timeout=0")
    assert (said["connect_timeout"], said["keepalives_idle"]) == ("3", "60")
    assert said["keepalives_count"] == "3"
    assert said.get("tcp_user_timeout", "0") == "0"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "4")
    assert options(dsn).get("connect_timeout", "4") == "4"


@pytest.mark.parametrize("named_by", ["dsn", "variable"])
def test_what_a_service_file_says_wins(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named_by: str
) -> None:
    file = tmp_path / "services"
    lines = "\n".join(f"{key}={value}" for key, value in conninfo_to_dict(dsn).items())
    file.write_text(f"# a comment\n[other]\nhost=x\n[ours]\n{lines}\nkeepalives_idle=77\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    if named_by == "variable":
        monkeypatch.setenv("PGSERVICE", "ours")
    with connection.connect("service=ours" if named_by == "dsn" else None) as conn:
        with socket.socket(fileno=os.dup(conn.fileno())) as tcp:
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2


# --- what is noticed ---------------------------------------------------------------------------


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        before = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            connection.connect(f"host=127.0.0.1 port={port} dbname=d connect_timeout=2")
        assert time.monotonic() - before < 8


CLIENT = """
import sys, time, psycopg
from code_import.connection import Database
conn = Database(sys.argv[1]).connect()
print("connected", flush=True)
before = time.monotonic()
try:
    conn.execute("select pg_sleep(300)")
except psycopg.OperationalError:
    print(time.monotonic() - before)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip")
def test_a_network_that_is_cut_is_noticed_in_seconds(server: servers.Server) -> None:
    """A client on another host, as far as the kernel knows, waits when the wire is cut."""
    with other_host() as (address, on_it, wire), forwarder(address, server.port) as port:
        dsn = f"host={address} port={port} user=postgres dbname=postgres"
        with subprocess.Popen(
            [*on_it, sys.executable, "-c", CLIENT, dsn], stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline().strip() == "connected"
            subprocess.run([*on_it, "ip", "link", "set", wire, "down"], check=True)
            told = client.communicate(timeout=60)[0]
    assert 5 < float(told) < 30


@contextmanager
def other_host() -> Iterator[tuple[str, list[str], str]]:
    """A network of its own: our address as seen from there, how to run there, and its wire."""
    name = f"ci{os.getpid() % 10000}x{next(_serial)}"
    ours, theirs = f"{name}a", f"{name}b"
    on_it = ["ip", "netns", "exec", name]
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name],
        ["ip", "addr", "add", "10.213.77.1/30", "dev", ours],
        ["ip", "link", "set", ours, "up"],
        [*on_it, "ip", "addr", "add", "10.213.77.2/30", "dev", theirs],
        [*on_it, "ip", "link", "set", theirs, "up"],
    ]
    try:
        for step in steps:
            done = subprocess.run(step, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"no network of one's own here: {done.stderr.strip()}")
        yield "10.213.77.1", on_it, theirs
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)


@contextmanager
def forwarder(address: str, port: int) -> Iterator[int]:
    """Passes one connection on to a port of this host."""
    with socket.create_server((address, 0)) as door, socket.socket() as there:

        def pass_on(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)

        def serve() -> None:
            here, _ = door.accept()
            there.connect(("127.0.0.1", port))
            with here:
                back = threading.Thread(target=pass_on, args=(there, here), daemon=True)
                back.start()
                pass_on(here, there)

        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1]
