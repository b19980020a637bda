"""Which database is meant, and connections to it that notice within seconds when it is gone."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Mapping

# Any of these says where a server or its database is. PGUSER, PGPASSWORD and the like say how to
# get in, and are commonly set for other reasons, so they alone do not choose a server.
PLACE_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGPORT", "PGDATABASE")

# A peer that is silent for this long is gone: after 5 s of quiet, three probes 2 s apart; data that
# nobody acknowledges, 10 s. Without these a dropped network hangs for a quarter of an hour.
DEFAULTS: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@dataclass(frozen=True, slots=True)
class Database:
    """A database that has been chosen: how to reach it, and whether it is the embedded one."""

    conninfo: str
    embedded: bool = False

    def connect(
        self, *, application_name: str = "code-import", **options: Any
    ) -> psycopg.Connection[Any]:
        """Open an autocommit connection; ``options`` go to :func:`psycopg.connect` as they are.

        Statements are not prepared on the server unless ``prepare_threshold`` asks for it, so that
        every connection pooler will do. Raises :class:`psycopg.OperationalError`.
        """
        options = {"autocommit": True, "prepare_threshold": None, **options}
        conninfo = self._with_defaults(application_name)
        try:
            return psycopg.connect(conninfo, **options)
        except psycopg.OperationalError as err:
            if not self.embedded:
                if not self.conninfo:
                    err.add_note(f"This database was chosen by {_variables()} in the environment.")
                raise
        from . import embedded

        embedded.ensure()  # somebody stopped or killed it since
        return psycopg.connect(conninfo, **options)

    def __str__(self) -> str:
        """Where it is, in words, without any password."""
        if self.embedded:
            return "the embedded server"
        given = {**_from_environment(), **conninfo_to_dict(self.conninfo)}
        if "service" in given:
            return f"service {given['service']}"
        place = given.get("host") or given.get("hostaddr") or "this host"
        port = f":{given['port']}" if "port" in given else ""
        return f"database {given.get('dbname') or given.get('user')} on {place}{port}"

    def _with_defaults(self, application_name: str) -> str:
        given = conninfo_to_dict(self.conninfo)
        said = given.keys() | _from_environment().keys() | _said_by_service(given.get("service"))
        missing = {key: value for key, value in DEFAULTS.items() if key not in said}
        missing.setdefault("fallback_application_name", application_name)
        return make_conninfo(self.conninfo, **missing)


def find(dsn: str | None = None) -> Database:
    """Choose the database: ``dsn``, else CODE_IMPORT_DSN, else libpq's variables, else our own.

    libpq's variables choose when one of PGHOST, PGHOSTADDR, PGSERVICE, PGPORT, PGDATABASE is set.
    Otherwise it is the embedded server of this user, which is started if it does not run.
    Raises :class:`code_import.embedded.EmbeddedError` when that cannot be, and
    :class:`psycopg.ProgrammingError` for a dsn that is none.
    """
    chosen = dsn or os.environ.get("CODE_IMPORT_DSN")
    if chosen:
        conninfo_to_dict(chosen)
        return Database(chosen)
    if _variables():
        return Database("")
    from . import embedded  # most calls name a database and do not need it

    return Database(embedded.ensure(), embedded=True)


def connect(dsn: str | None = None, **options: Any) -> psycopg.Connection[Any]:
    """Connect to the database that :func:`find` chooses; see :meth:`Database.connect`."""
    return find(dsn).connect(**options)


def _variables() -> str:
    """The variables in the environment that say where the database is, with their values."""
    given = ((name, os.environ.get(name)) for name in PLACE_VARIABLES)
    return ", ".join(f"{name}={value}" for name, value in given if value)


def _from_environment() -> dict[str, str]:
    """What libpq's variables, and the service that PGSERVICE names, say."""
    return {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val is not None and option.val != option.compiled
    }


def _said_by_service(name: Any) -> set[str]:
    """The keywords that a service of the user's or the system's service file sets."""
    if not name:
        return set()
    candidates = (
        Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf"),
        Path(os.environ.get("PGSYSCONFDIR") or "/etc/postgresql-common") / "pg_service.conf",
    )
    parser = configparser.RawConfigParser(
        strict=False, delimiters=("=",), comment_prefixes=("#",), allow_no_value=True
    )
    for path in candidates:
        try:
            parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, configparser.Error):
            continue
        if parser.has_section(str(name)):
            return set(parser.options(str(name)))
    return set()
