"""Servers, databases, roles and connections for every test.

One run has one set of servers, shared by all its processes. Each server has two template databases,
made once: with the schema installed, and with pgTAP beside it. Each test gets a clone.

The ``server`` fixture is the main server (the newest). Tests marked ``sql`` are about the SQL
alone and run on every server there is.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_postgresql.janitor import DatabaseJanitor

from harness import debian, environment, grown, servers

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME_VARIABLE = "CODE_IMPORT_TEST_HOME"
SUPPORT = Path(__file__).parents[1] / "pgtap" / "support.sql"
INSTALLED = "template_code_import"
WITH_PGTAP = "template_pgtap"
GROWN = "grown"

_guard: pytest.StashKey[servers.Guard] = pytest.StashKey()
_serial = count(1)


# --- the run -----------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment; start the servers, unless this is a helper of a process that did."""
    config.addinivalue_line("markers", "sql: about the SQL alone; runs on every server")
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    environment.scrub()
    environment.hear_interrupts()
    home = servers.make_home()
    os.environ[HOME_VARIABLE] = str(home)
    environment.use_private_directories(home)
    config.stash[_guard] = servers.Guard(home)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers and remove their files."""
    if _guard in config.stash:
        config.stash[_guard].close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test marked ``sql`` meet every server."""
    if "server" in metafunc.fixturenames and metafunc.definition.get_closest_marker("sql"):
        majors = list(servers.builds())
        metafunc.parametrize("server", majors, indirect=True, ids=[f"pg{m}" for m in majors])


# --- servers and databases ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Roles:
    """Login roles of the test servers, one for each kind of caller."""

    owner: str = "tester_owner"
    operator: str = "tester_operator"
    worker: str = "tester_worker"
    other_worker: str = "tester_other_worker"
    reader: str = "tester_reader"
    reclaimer: str = "tester_reclaimer"
    nobody: str = "tester_nobody"
    """May log in, and is a member of nothing."""


class Connect(Protocol):
    """What the ``connect`` fixture is: opens connections that end with the test."""

    def __call__(
        self, role: str | None = None, *, dsn: str | None = None, **options: Any
    ) -> psycopg.Connection[Any]:
        """Connect to the test's database, as a superuser or as ``role``; autocommit by default."""


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> servers.Server:
    """A running server with the templates in it."""
    running = servers.started(Path(os.environ[HOME_VARIABLE]))
    chosen = running[getattr(request, "param", next(iter(running)))]
    _make_templates(chosen)
    return chosen


@pytest.fixture
def dsn(server: servers.Server) -> Iterator[str]:
    """A database of the test's own with the schema installed."""
    with clone(server, INSTALLED) as name:
        yield server.dsn(name)


@pytest.fixture
def empty_dsn(server: servers.Server) -> Iterator[str]:
    """A database of the test's own with nothing in it. The cluster has the roles."""
    with clone(server, "template0") as name:
        yield server.dsn(name)


@pytest.fixture
def roles() -> Roles:
    """The names of the login roles."""
    return Roles()


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """Opens connections: ``connect()``, ``connect(roles.worker)``, ``connect(dsn=other)``."""
    opened: list[psycopg.Connection[Any]] = []
    default = dsn

    def open_one(
        role: str | None = None, *, dsn: str | None = None, **options: Any
    ) -> psycopg.Connection[Any]:
        conninfo = make_conninfo(dsn or default, **({"user": role} if role else {}))
        conn = psycopg.connect(conninfo, **{"autocommit": True, "connect_timeout": 20, **options})
        opened.append(conn)
        return conn

    yield open_one
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Connect) -> psycopg.Connection[Any]:
    """An autocommit connection to the test's database as a superuser."""
    return connect()


@pytest.fixture(scope="session")
def tap_dsn(server: servers.Server) -> Iterator[str]:
    """A database with the schema and pgTAP, for files that roll back all they do."""
    with clone(server, WITH_PGTAP) as name:
        yield server.dsn(name)


@pytest.fixture(scope="session")
def grown_dsn(server: servers.Server) -> str:
    """A database with tens of thousands of imports and results, for tests that roll back."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(hashtext('grown'))")
        if not _exists(conn, GROWN):
            with _finished_as(conn, GROWN, INSTALLED) as name:
                grown.fill(server.dsn(name))
    return server.dsn(GROWN)


@contextmanager
def clone(server: servers.Server, template: str) -> Iterator[str]:
    """A new database made from a template; it goes, whoever is still connected to it."""
    name = f"t{os.getpid()}_{next(_serial)}"
    with DatabaseJanitor(
        user="postgres",
        host="127.0.0.1",
        port=server.port,
        dbname=name,
        template_dbname=template,
    ):
        yield name


# --- templates ---------------------------------------------------------------------------------


def _make_templates(server: servers.Server) -> None:
    """Make the roles and templates once; one process of the run does it, the others wait."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(hashtext('templates'))")
        if not _exists(conn, INSTALLED):
            with _finished_as(conn, INSTALLED, "template0") as name:
                _install(server, name)
            _make_roles(conn)
        if not _exists(conn, WITH_PGTAP):
            with _finished_as(conn, WITH_PGTAP, INSTALLED) as name:
                _load_pgtap(server.dsn(name))


def _exists(conn: psycopg.Connection[Any], name: str) -> bool:
    found = conn.execute("select from pg_database where datname = %s", [name])
    return found.fetchone() is not None


@contextmanager
def _finished_as(conn: psycopg.Connection[Any], name: str, template: str) -> Iterator[str]:
    """A database under another name until it is finished."""
    half = sql.Identifier(f"{name}_half")
    conn.execute(sql.SQL("drop database if exists {} with (force)").format(half))
    make = sql.SQL("create database {} template {}")
    conn.execute(make.format(half, sql.Identifier(template)))
    yield f"{name}_half"
    rename = sql.SQL("alter database {} rename to {}")
    conn.execute(rename.format(half, sql.Identifier(name)))


def _install(server: servers.Server, dbname: str) -> None:
    from code_import import schema  # here, so that other tests do not need it

    schema.install(server.dsn(dbname))


def _make_roles(conn: psycopg.Connection[Any]) -> None:
    for kind in ("owner", "operator", "worker", "other_worker", "reader", "reclaimer", "nobody"):
        login = sql.Identifier(f"tester_{kind}")
        if conn.execute("select to_regrole(%s)", [f"tester_{kind}"]).fetchone() == (None,):
            conn.execute(sql.SQL("create role {} login").format(login))
        if kind != "nobody":
            group = sql.Identifier(f"code_import_{kind.removeprefix('other_')}")
            conn.execute(sql.SQL("grant {} to {}").format(group, login))


def _load_pgtap(dsn: str) -> None:
    try:
        script = debian.pgtap().read_text(encoding="utf-8")
    except debian.NotToBeHad as missing:
        pytest.exit(str(missing), returncode=2)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "create schema tap; grant usage on schema tap to public; set search_path = tap"
        )
        conn.execute(script.encode())
        conn.execute(SUPPORT.read_bytes())
