"""Put the schema into a database, bring it up to date, and take it out again.

``sql/install.sql`` is the table of contents, for psql and for this module alike: the migrations of
``migrations/``, run through yoyo and marked by it, then the files of ``sql/``. Both ways are one
transaction, take the same lock, and leave the same marks.
"""

from __future__ import annotations

import glob
import hashlib
import random
import re
import socket
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
import yoyo
from psycopg import IsolationLevel, sql
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.migrations import default_migration_table

from code_import import __version__, connection
from code_import.connection import Database
from code_import.errors import CodeImportError, typed_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from yoyo.migrations import MigrationList

Result = TypeVar("Result")

OWNER = "code_import_owner"
ROLES = (
    "code_import_reader",
    "code_import_worker",
    "code_import_operator",
    "code_import_reclaimer",
    OWNER,
)

_TRY_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('code_import.install', 0))"
_LOCK_HOLDER = """
    select pid from pg_locks
    where locktype = 'advisory' and granted and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and (classid::bigint << 32 | objid::bigint) = hashtextextended('code_import.install', 0)
"""

# Waiting longer for a table's lock would make every caller queue behind us.
_LOCK_TIMEOUT = "set local lock_timeout = '1s'"
# Lock not available, deadlock, serialization failure, and "tuple concurrently updated".
_TRY_AGAIN = ("55P03", "40P01", "40001", "XX000")


# --- where the text is -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sources:
    """The folders ``sql/`` and ``migrations/`` that belong together."""

    root: Path

    @property
    def table_of_contents(self) -> Path:
        """The file that lists all others in load order."""
        return self.root / "sql" / "install.sql"

    def api_files(self) -> list[Path]:
        """The files that say what the API is now, in load order, without psql's mechanics."""
        listed = _INCLUDE.findall(self.table_of_contents.read_text(encoding="utf-8"))
        folder = self.table_of_contents.parent
        return [folder / name for name in listed if not name.startswith("install/")]

    def migrations(self) -> MigrationList:
        """All migrations, loaded. Refuses none at all, and one that is not transactional."""
        folder = self.root / "migrations"
        found = yoyo.read_migrations(glob.escape(str(folder)))
        if not found:
            raise CodeImportError(f"there are no migrations in {folder}")
        for migration in found:
            migration.load()
            if not migration.use_transactions:
                raise CodeImportError(f"migration {migration.id} is not transactional")
        return cast("MigrationList", found)

    def script(self) -> str:
        """One psql file that does what ``sql/install.sql`` does, and needs no other file."""
        body = "\n".join(_expand(self.table_of_contents, {}))
        return (
            f"-- code-import {__version__}, installed with psql alone:\n"
            f'--     psql --no-psqlrc --file THIS_FILE "dbname=…"\n\n'
            f"\\set digest {_digest(body)}\n\n{body}\n"
        )

    def digest(self) -> str:
        """What tells this text from any other."""
        return _digest("\n".join(_expand(self.table_of_contents, {})))


_INCLUDE = re.compile(r"^\\ir (\S+)$", re.MULTILINE)
_SET = re.compile(r"^\\set (\w+) (\S+)$")
_VARIABLE = re.compile(r":(\w+)")


def sources() -> Sources:
    """The folders of the checkout that this module stands in, else those of the package."""
    package = Path(__file__).resolve().parent
    for root in (package.parents[1], package):
        if Sources(root).table_of_contents.is_file():
            return Sources(root)
    raise CodeImportError("this installation of code-import lacks its SQL files")


def script() -> str:
    """The psql file that ``code-import sql`` prints."""
    return sources().script()


def _expand(path: Path, variables: dict[str, str]) -> Iterator[str]:
    """The lines of a psql file with those that it includes in their place."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if assignment := _SET.match(line):
            variables[assignment[1]] = assignment[2]
        if include := _INCLUDE.match(line):
            name = _VARIABLE.sub(lambda match: variables[match[1]], include[1])
            yield from _expand(path.parent / name, variables)
        else:
            yield line


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# --- install -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did: the migrations that it applied, oldest first."""

    migrations: tuple[str, ...] = ()


def _silent(_: str) -> None:
    pass


def install(
    dsn: str | Database | None = None,
    *,
    report: Callable[[str], None] = _silent,
    patience: float = 120.0,
    using: Sources | None = None,
) -> Installed:
    """Install or upgrade the schema in one transaction; safe to run again, and beside workers.

    ``report`` hears why it waits, if it does. Locks are waited for in short steps, so that workers
    go on in between; after ``patience`` seconds it gives up. Raises
    :class:`~code_import.errors.NotAllowed`, with the SQL that an administrator must run as its
    hint, when the role lacks a right, and :class:`CodeImportError` when the schema is not ours,
    newer than this package, or locked for too long.
    """
    database = dsn if isinstance(dsn, Database) else connection.find(dsn)
    text = using or sources()
    with _connect(database) as conn:
        return _locked(conn, lambda: _install_once(conn, text), report, patience)


def ensure(
    database: Database, *, report: Callable[[str], None] = _silent, using: Sources | None = None
) -> Installed:
    """Install, unless the newest load was of this text, which takes milliseconds to see."""
    text = using or sources()
    with database.connect() as conn:
        if is_current(conn, using=text):
            return Installed()
    return install(database, report=report, using=text)


def is_current(conn: psycopg.Connection[Any], *, using: Sources | None = None) -> bool:
    """Whether the newest load was of this text. Needs the rights of the owner."""
    if conn.execute("select to_regclass('vcs._yoyo_log')").fetchone() == (None,):
        return False
    newest = conn.execute(
        "select comment from vcs._yoyo_log where operation = 'load'"
        " order by created_at_utc desc limit 1"
    ).fetchone()
    return newest == ((using or sources()).digest(),)


def _install_once(conn: psycopg.Connection[Any], text: Sources) -> Installed:
    """The whole install, inside the transaction of the caller, who holds the lock."""
    folder = text.root / "sql"
    migrations = text.migrations()
    for name in ("install/settings.sql", "roles.sql", "install/marks.sql"):
        _run_file(conn, folder / name)
    conn.execute(_LOCK_TIMEOUT)

    marks = _Marks(conn)
    _refuse_newer(conn, migrations)
    marks.break_lock()  # a row left there is stale: we hold the real lock
    with marks.lock():
        pending = marks.to_apply(migrations)
        marks.apply_migrations_only(pending)

    for path in text.api_files():
        _run_file(conn, path)
    marks.note_load(text.digest())
    return Installed(tuple(migration.id for migration in pending))


def _run_file(conn: psycopg.Connection[Any], path: Path) -> None:
    try:
        conn.execute(path.read_bytes())
    except psycopg.DatabaseError as err:
        err.add_note(f"in {path}")
        raise


def _refuse_newer(conn: psycopg.Connection[Any], migrations: MigrationList) -> None:
    marked = conn.execute("select migration_id from vcs._yoyo_migration order by migration_id")
    unknown = [name for (name,) in marked if name not in migrations.keys]
    if unknown:
        raise CodeImportError(
            f"the schema vcs is newer than this code-import: it has {', '.join(unknown)}",
            hint="Install with the newest code-import that was used on this database.",
        )


class _Marks(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo's bookkeeping on a connection of ours, inside the transaction that is open there.

    A migration and its mark so become one, which they are not when yoyo is left to itself.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._ours = conn
        super().__init__(None, default_migration_table)

    def connect(self, dburi: None) -> psycopg.Connection[Any]:
        return self._ours

    def copy(self) -> AbstractContextManager[_Marks]:
        return nullcontext(self)

    def transaction(self, rollback_on_exit: bool = False) -> AbstractContextManager[None]:
        return nullcontext()

    def list_tables(self, **_: Any) -> list[str]:
        found = self._ours.execute(
            "select relname from pg_class where relnamespace = 'vcs'::regnamespace"
        )
        return [name for (name,) in found]

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """What yoyo notes, with names that cannot fail or wait for a name server."""
        row = self._ours.execute(
            "select gen_random_uuid()::text, session_user, clock_timestamp() at time zone 'UTC'"
        ).fetchone()
        assert row is not None
        return {
            "id": row[0],
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": row[1],
            "hostname": socket.gethostname(),
            "created_at_utc": row[2],
            "operation": operation,
        }

    def note_load(self, digest: str) -> None:
        """Note that the files of ``sql/`` were loaded, and which text of them."""
        self._ours.execute(
            "insert into vcs._yoyo_log"
            " (id, operation, username, hostname, comment, created_at_utc)"
            " values (%(id)s, 'load', %(username)s, %(hostname)s, %(digest)s, %(created_at_utc)s)",
            {**self.get_log_data(), "digest": digest},
        )


# --- uninstall ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Present:
    """What an uninstall would remove."""

    database: str
    imports: int
    running: int


@dataclass(frozen=True, slots=True)
class Uninstalled:
    """The roles that went with the schema, and those that had to stay, each with the reason."""

    dropped: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def uninstall(
    dsn: str | Database | None = None,
    *,
    confirm: Callable[[Present], bool],
    report: Callable[[str], None] = _silent,
    patience: float = 120.0,
) -> Uninstalled | None:
    """Drop the schema, and those roles that no other database of the cluster uses.

    ``confirm`` is asked first. Returns None, with nothing changed, when there is no schema ``vcs``
    or the answer is no. Raises :class:`CodeImportError` when the schema is not ours, when things of
    others are in it or built on it, and when a right is lacking.
    """
    database = dsn if isinstance(dsn, Database) else connection.find(dsn)
    with _connect(database) as conn:
        with _plain_errors(), conn.transaction():
            present = _look(conn)
        if present is None or not confirm(present):
            return None
        return _locked(conn, lambda: _uninstall_once(conn), report, patience)


def _look(conn: psycopg.Connection[Any]) -> Present | None:
    """What is there; None without a schema ``vcs``; refuses one that carries no mark of ours."""
    row = conn.execute(
        """
        select current_database(), pg_get_userbyid(nspowner),
            to_regclass('vcs._yoyo_migration') is not null
        from pg_namespace where nspname = 'vcs'
        """
    ).fetchone()
    if row is None:
        return None
    database, owner, has_marks = row
    if owner == OWNER and has_marks:
        conn.execute(_AS_OWNER)
        marked = {name for (name,) in conn.execute("select migration_id from vcs._yoyo_migration")}
        if marked & sources().migrations().keys:
            counted = conn.execute(
                "select count(*), count(*) filter (where state = 'running')"
                " from vcs.code_import as import"
                " left join vcs.code_import_job as job on job.code_import_id = import.id"
            ).fetchone()
            assert counted is not None
            return Present(database, *counted)
    raise CodeImportError(f'database "{database}" has a schema "vcs" that is not of code-import')


def _uninstall_once(conn: psycopg.Connection[Any]) -> Uninstalled:
    """Drop schema and roles, inside the transaction of the caller, who holds the lock."""
    done = Uninstalled()
    if _look(conn) is None:
        return done
    conn.execute(_LOCK_TIMEOUT)
    not_ours = sorted(name for (name,) in conn.execute(_NOT_OURS))
    if not_ours:
        raise CodeImportError(
            "things of others are in the schema vcs or built on it",
            detail="; ".join(not_ours),
            hint="Move or drop them first.",
        )
    conn.execute("drop schema vcs cascade")
    conn.execute("reset role")
    for role in ROLES:
        try:
            with conn.transaction():
                conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
        except psycopg.errors.DependentObjectsStillExist as err:
            done.left[role] = f"still used: {(err.diag.message_detail or '').splitlines()[0]}"
        except psycopg.errors.InsufficientPrivilege:
            done.left[role] = "this role may not drop it"
        except (psycopg.errors.LockNotAvailable, psycopg.errors.ObjectInUse):
            done.left[role] = "in use by another session"
        else:
            done.dropped.append(role)
    return done


_AS_OWNER = sql.SQL("set local role {}").format(sql.Identifier(OWNER))

# What a "cascade" would take along: things outside the schema that depend on one inside it, and
# things of others inside.
_NOT_OURS = """
    with inside as (
        select 'pg_class'::regclass as classid, oid, relowner as owner, relkind <> 'i' as named
        from pg_class where relnamespace = 'vcs'::regnamespace
        union all
        select 'pg_proc'::regclass, oid, proowner, true
        from pg_proc where pronamespace = 'vcs'::regnamespace
        union all
        select 'pg_type'::regclass, oid, typowner, typrelid = 0 and typelem = 0
        from pg_type where typnamespace = 'vcs'::regnamespace
    )
    select pg_describe_object(classid, oid, 0) from inside
    where owner <> 'code_import_owner'::regrole and named
    union
    select pg_describe_object(dependent.classid, dependent.objid, dependent.objsubid)
    from pg_depend as dependent
    join inside on inside.classid = dependent.refclassid and inside.oid = dependent.refobjid
    left join pg_rewrite on dependent.classid = 'pg_rewrite'::regclass
        and pg_rewrite.oid = dependent.objid
    left join pg_trigger on dependent.classid = 'pg_trigger'::regclass
        and pg_trigger.oid = dependent.objid
    left join pg_attrdef on dependent.classid = 'pg_attrdef'::regclass
        and pg_attrdef.oid = dependent.objid
    left join pg_policy on dependent.classid = 'pg_policy'::regclass
        and pg_policy.oid = dependent.objid
    left join pg_constraint on dependent.classid = 'pg_constraint'::regclass
        and pg_constraint.oid = dependent.objid
    left join pg_proc on dependent.classid = 'pg_proc'::regclass
        and pg_proc.oid = dependent.objid
    left join pg_type on dependent.classid = 'pg_type'::regclass
        and pg_type.oid = dependent.objid
    left join pg_class on pg_class.oid = coalesce(ev_class, tgrelid, adrelid, polrelid,
        nullif(conrelid, 0),
        case dependent.classid when 'pg_class'::regclass then dependent.objid end)
    where dependent.deptype in ('n', 'a')
      and coalesce(relnamespace, pronamespace, typnamespace, connamespace)
          <> 'vcs'::regnamespace
"""


# --- one at a time -----------------------------------------------------------------------------


def _connect(database: Database) -> psycopg.Connection[Any]:
    conn = database.connect(application_name="code-import install", client_encoding="utf8")
    conn.isolation_level = IsolationLevel.READ_COMMITTED
    conn.read_only = False
    return conn


def _locked(
    conn: psycopg.Connection[Any],
    work: Callable[[], Result],
    report: Callable[[str], None],
    patience: float,
) -> Result:
    """Do the work in one transaction, alone in this database; again, when a lock was not to be had.

    The lock is asked for, not waited for: a waiting session would hold back others' snapshots.
    """
    deadline = time.monotonic() + patience
    told = ""
    while True:
        try:
            with _plain_errors(), conn.transaction():
                if conn.execute(_TRY_LOCK).fetchone() == (True,):
                    return work()
                holder = conn.execute(_LOCK_HOLDER).fetchone()
                why = f"another install is at work here (backend {holder[0] if holder else 'gone'})"
        except psycopg.DatabaseError as err:
            if err.sqlstate not in _TRY_AGAIN:
                raise
            why = f"another session keeps a lock that is needed ({err.diag.message_primary})"
        if time.monotonic() > deadline:
            raise CodeImportError(f"gave up after {patience:g} s: {why}")
        if why != told:
            report(f"waiting: {why}")
            told = why
        time.sleep(random.uniform(0.1, 0.6))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise as ours what our SQL files refuse, which is what comes with a hint."""
    try:
        with typed_errors():
            yield
    except psycopg.DatabaseError as err:
        if err.diag.message_hint is None or err.sqlstate in _TRY_AGAIN:
            raise
        raise CodeImportError(
            err.diag.message_primary or str(err), hint=err.diag.message_hint
        ) from err
