"""Install, upgrade and uninstall: with the command, with psql, by whom, and several at once."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yoyo
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from code_import import schema
from code_import.connection import Database
from code_import.errors import CodeImportError, NotAllowed
from harness import servers
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Connect

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
MIGRATIONS = sorted(path.stem for path in (ROOT / "migrations").glob("*.sql"))

_serial = count(1)


# --- what tests share --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(
    server: servers.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """A cluster of this module's own, which has none of our roles at first."""
    home = server.directory.parent / f"install-{server.major}-{os.getpid()}"
    own = servers.Server(server.major, server.bin, home)
    own.create()
    own.start()
    yield own
    own.stop(signal.SIGQUIT)
    shutil.rmtree(home)


@contextmanager
def made_database(server: servers.Server, owner: str = "postgres") -> Iterator[str]:
    """The DSN of a new, empty database."""
    name = f"install_{os.getpid()}_{next(_serial)}"
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        make = sql.SQL("create database {} owner {} template template0")
        conn.execute(make.format(sql.Identifier(name), sql.Identifier(owner)))
    try:
        yield server.dsn(name)
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )


@pytest.fixture
def fresh(cluster: servers.Server) -> Iterator[str]:
    """An empty database in a cluster without our roles."""
    with made_database(cluster) as dsn:
        yield dsn
    remove_roles(cluster)


def remove_roles(cluster: servers.Server) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
        for role in schema.ROLES:
            conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


@contextmanager
def login(server: servers.Server, options: str = "") -> Iterator[str]:
    """A login role with these options."""
    name = f"installer_{os.getpid()}_{next(_serial)}"
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(f"create role {name} login {options}")
        yield name
        conn.execute(f"drop role {name}")


def psql(server: servers.Server, dsn: str, *arguments: str | Path, stdin: str = "") -> str:
    """Run psql; its output, or CalledProcessError with the errors that it printed."""
    program = server.bin / "psql"
    found = str(program) if program.exists() else shutil.which("psql")
    if found is None:
        pytest.skip("needs psql, which this build of PostgreSQL does not carry")
    done = subprocess.run(
        [found, "--no-psqlrc", "--dbname", dsn, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "code_import", *arguments]


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended_well(*processes: subprocess.Popen[str]) -> None:
    told = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(told)


def uninstall(dsn: str) -> schema.Uninstalled:
    done = schema.uninstall(dsn, confirm=lambda _: True)
    assert done is not None
    return done


@pytest.fixture
def copied(tmp_path: Path) -> schema.Sources:
    """A copy of the SQL that a test may change."""
    for name in ("sql", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return schema.Sources(tmp_path)


def listed(sources: schema.Sources, *lines: str) -> None:
    """List more lines in install.sql, before the API is pruned."""
    contents = sources.table_of_contents
    text = contents.read_text().replace("\\ir prune.sql", "\n".join((*lines, "\\ir prune.sql")))
    contents.write_text(text)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query.encode()).fetchall()


def execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statements.encode())


def marks(dsn: str) -> list[str]:
    return [
        name for (name,) in rows(dsn, "select migration_id from vcs._yoyo_migration order by 1")
    ]


def objects(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the schema is made of, in a form that can be compared."""
    return {
        "routines": rows(
            dsn,
            "select oid::regprocedure::text, pg_get_functiondef(oid), proacl::text,"
            " obj_description(oid, 'pg_proc'), pg_get_userbyid(proowner) from pg_proc"
            " where pronamespace = 'vcs'::regnamespace order by 1",
        ),
        "relations": rows(
            dsn,
            "select relname, relkind, relacl::text, reloptions, obj_description(oid, 'pg_class'),"
            " pg_get_userbyid(relowner), case relkind when 'v' then pg_get_viewdef(oid) end"
            " from pg_class where relnamespace = 'vcs'::regnamespace order by 1",
        ),
        "columns": rows(
            dsn,
            "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod),"
            " attnotnull, attidentity, pg_get_expr(adbin, adrelid),"
            " col_description(attrelid, attnum)"
            " from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum"
            " where attnum > 0 and attrelid in (select oid from pg_class"
            " where relnamespace = 'vcs'::regnamespace) order by attrelid::regclass::text, attnum",
        ),
        "constraints": rows(
            dsn,
            "select conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " from pg_constraint where connamespace = 'vcs'::regnamespace order by 1, 2",
        ),
        "schema": rows(
            dsn,
            "select nspacl::text, pg_get_userbyid(nspowner),"
            " obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'vcs'",
        ),
    }


# --- the command -------------------------------------------------------------------------------


@pytest.mark.sql
def test_a_fresh_install_applies_all_and_a_second_one_nothing(fresh: str) -> None:
    assert schema.install(fresh).migrations == tuple(MIGRATIONS)
    before = objects(fresh)
    assert schema.install(fresh).migrations == ()
    assert objects(fresh) == before
    assert marks(fresh) == MIGRATIONS


def test_the_command_says_what_it_did(empty_dsn: str) -> None:
    first = subprocess.run(command("install", "--dsn", empty_dsn), capture_output=True, text=True)
    again = subprocess.run(command("install", "--dsn", empty_dsn), capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"with {len(MIGRATIONS)} new migrations" in first.stdout
    assert (again.returncode, again.stderr) == (0, "")
    assert "up to date" in again.stdout


def test_an_install_in_use_is_current_until_another_text_is_loaded(
    empty_dsn: str, copied: schema.Sources, server: servers.Server
) -> None:
    database = Database(empty_dsn)
    assert schema.ensure(database).migrations == tuple(MIGRATIONS)
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        assert schema.is_current(conn)
        loads = "select count(*) from vcs._yoyo_log where operation = 'load'"
        assert conn.execute(loads).fetchone() == (1,)
        schema.ensure(database)
        assert conn.execute(loads).fetchone() == (1,), "a current one is left alone"

        with (copied.table_of_contents.parent / "errors.sql").open("a") as changed:
            changed.write("-- another text\n")
        assert not schema.is_current(conn, using=copied)
        psql(server, empty_dsn, "--file", SQL / "install.sql")
        assert not schema.is_current(conn), "which text psql loaded from a checkout is not known"
        psql(server, empty_dsn, "--file", "-", stdin=schema.script())
        assert schema.is_current(conn)


def test_what_is_changed_in_sql_is_loaded_though_no_migration_is_pending(
    empty_dsn: str, copied: schema.Sources
) -> None:
    schema.install(empty_dsn, using=copied)
    changed = copied.root / "sql" / "changed.sql"
    listed(copied, "\\ir changed.sql")
    function = "create or replace function vcs._changed() returns text language sql as $$ {} $$;"
    for answer in ("select 'one'", "select 'two'"):
        changed.write_text(function.format(answer))
        assert schema.install(empty_dsn, using=copied).migrations == ()
        assert rows(empty_dsn, "select vcs._changed()") == [(answer.split("'")[1],)]


@pytest.mark.sql
@pytest.mark.parametrize("way", ["command", "psql"])
def test_what_is_no_longer_in_sql_goes(
    empty_dsn: str, copied: schema.Sources, server: servers.Server, way: str
) -> None:
    (copied.root / "sql" / "old.sql").write_text(
        "create or replace view vcs.old_view as select 1 as one;"
        "create or replace function vcs.old_function() returns int language sql as 'select 1';"
        "create or replace procedure vcs.old_procedure() language sql as 'select 1';"
        "create or replace view vcs.other_old_view as select one from vcs.old_view;"
    )
    listed(copied, "\\ir old.sql")
    schema.install(empty_dsn, using=copied)
    with_old = objects(empty_dsn)
    if way == "command":
        schema.install(empty_dsn)
    else:
        psql(server, empty_dsn, "--file", SQL / "install.sql")
    without = objects(empty_dsn)
    gone = {name for kind in with_old for name, *_ in with_old[kind]} - {
        name for kind in without for name, *_ in without[kind]
    }
    assert gone == {
        *("old_view", "other_old_view", "vcs.old_view", "vcs.other_old_view"),
        *("vcs.old_function()", "vcs.old_procedure()"),
    }


@pytest.mark.parametrize("way", ["command", "psql", "uninstall"])
def test_what_others_put_into_the_schema_is_neither_dropped_nor_granted(
    dsn: str, server: servers.Server, way: str
) -> None:
    execute(
        dsn,
        "create function vcs.others() returns int language sql as 'select 2';"
        "create table vcs.others (id int)",
    )
    before = objects(dsn)
    if way == "psql":
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            psql(server, dsn, "--file", SQL / "install.sql")
        told = stopped.value.stderr
    else:
        work = schema.install if way == "command" else uninstall
        with pytest.raises(CodeImportError) as refused:
            work(dsn)
        told = f"{refused.value} {refused.value.detail}"
    assert "vcs.others()" in told
    assert "table vcs.others" in told
    assert objects(dsn) == before


@pytest.mark.parametrize("way", ["command", "psql"])
def test_a_failing_file_undoes_the_whole_install(
    empty_dsn: str, copied: schema.Sources, server: servers.Server, way: str
) -> None:
    (copied.root / "sql" / "broken.sql").write_text("select 1 / 0;")
    listed(copied, "\\ir broken.sql")
    if way == "command":
        with pytest.raises(errors.DivisionByZero) as refused:
            schema.install(empty_dsn, using=copied)
        assert "broken.sql" in "".join(refused.value.__notes__)
    else:
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            psql(server, empty_dsn, "--file", copied.table_of_contents)
        assert "division by zero" in stopped.value.stderr
        assert len(stopped.value.stderr.splitlines()) == 1, "psql stops at the first error"
    assert rows(empty_dsn, "select to_regnamespace('vcs')") == [(None,)]


def test_an_installer_that_is_killed_leaves_nothing_behind(
    empty_dsn: str, copied: schema.Sources
) -> None:
    (copied.root / "sql" / "slow.sql").write_text("select pg_sleep(60);")
    listed(copied, "\\ir slow.sql")
    program = (
        "import sys; from pathlib import Path; from code_import import schema;"
        "schema.install(sys.argv[1], using=schema.Sources(Path(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, empty_dsn, str(copied.root)])
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        asleep = (
            "select pid from pg_stat_activity"
            " where datname = current_database() and wait_event = 'PgSleep'"
        )
        row = eventually(lambda: conn.execute(asleep).fetchone(), what="the install is under way")
        process.kill()
        process.wait()
        conn.execute("select pg_terminate_backend(%s)", row)
    assert schema.install(empty_dsn).migrations == tuple(MIGRATIONS)


# --- yoyo --------------------------------------------------------------------------------------


def yoyo_uri(dsn: str) -> str:
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    return (
        f"postgresql+psycopg://{given['user']}@{given['host']}:{given['port']}"
        f"/{given['dbname']}?schema=vcs"
    )


def test_yoyo_itself_finds_our_marks_and_its_own_tables(empty_dsn: str) -> None:
    schema.install(empty_dsn)
    with yoyo.get_backend(yoyo_uri(empty_dsn)) as backend:
        migrations = yoyo.read_migrations(str(ROOT / "migrations"))
        assert len(migrations) == len(MIGRATIONS)
        assert list(backend.to_apply(migrations)) == []


def test_the_tables_of_marks_are_those_that_yoyo_makes(empty_dsn: str) -> None:
    columns = (
        "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,"
        " pg_get_expr(adbin, adrelid)"
        " from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where attnum > 0 and attrelid in (select oid from pg_class where relkind in ('r', 'i')"
        " and relnamespace = 'vcs'::regnamespace and relname ~ 'yoyo')"
        " order by attrelid::regclass::text, attnum"
    )
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute("create schema vcs")
        with yoyo.get_backend(yoyo_uri(empty_dsn)) as backend:
            backend.ensure_internal_schema_updated()
        theirs = conn.execute(columns).fetchall()
        version = conn.execute("select version from vcs._yoyo_version").fetchall()
        conn.execute("drop schema vcs cascade")
    schema.install(empty_dsn)
    assert rows(empty_dsn, columns) == theirs
    assert rows(empty_dsn, "select version from vcs._yoyo_version") == version


def test_a_lock_left_by_a_crashed_yoyo_does_not_matter(empty_dsn: str) -> None:
    schema.install(empty_dsn)
    execute(empty_dsn, "insert into vcs.yoyo_lock values (1, now(), 1)")
    schema.install(empty_dsn)
    assert rows(empty_dsn, "select count(*) from vcs.yoyo_lock") == [(0,)]


# --- psql --------------------------------------------------------------------------------------


@pytest.mark.sql
@pytest.mark.parametrize("way", ["files", "one file"])
def test_psql_then_the_command_then_psql_ends_right(
    empty_dsn: str, server: servers.Server, way: str
) -> None:
    def with_psql() -> None:
        if way == "files":
            psql(server, empty_dsn, "--file", SQL / "install.sql")
        else:
            psql(server, empty_dsn, stdin=schema.script())

    with_psql()
    assert marks(empty_dsn) == MIGRATIONS
    by_psql = objects(empty_dsn)
    assert schema.install(empty_dsn).migrations == ()
    assert objects(empty_dsn) == by_psql
    with_psql()
    assert objects(empty_dsn) == by_psql
    assert marks(empty_dsn) == MIGRATIONS
    with made_database(server) as other:
        schema.install(other)
        assert objects(other) == by_psql
        written = "select migration_hash, migration_id from vcs._yoyo_migration order by 2"
        assert rows(other, written) == rows(empty_dsn, written)


def test_psql_applies_only_what_is_pending(
    empty_dsn: str, server: servers.Server, copied: schema.Sources
) -> None:
    schema.install(empty_dsn)
    migration = copied.root / "migrations" / "9999.more.sql"
    migration.write_text("create table vcs._more (id int);")  # not idempotent: once only
    contents = copied.table_of_contents
    last = f"\\set migration {MIGRATIONS[-1]}\n\\ir install/migrate.sql\n"
    more = "\\set migration 9999.more\n\\ir install/migrate.sql\n"
    contents.write_text(contents.read_text().replace(last, last + more))
    psql(server, empty_dsn, stdin=copied.script())
    psql(server, empty_dsn, "--file", contents)
    assert schema.install(empty_dsn, using=copied).migrations == ()
    assert marks(empty_dsn) == [*MIGRATIONS, "9999.more"]


def test_sql_needs_no_other_file_and_no_setting_of_the_caller(
    empty_dsn: str, server: servers.Server, tmp_path: Path
) -> None:
    printed = subprocess.run(command("sql"), capture_output=True, text=True, check=True).stdout
    assert "\\ir" not in printed
    name = psycopg.conninfo.conninfo_to_dict(empty_dsn)["dbname"]
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        for setting in (
            "default_transaction_isolation = 'serializable'",
            "default_transaction_read_only = on",
            "statement_timeout = '1ms'",
            "search_path = pg_temp",
            "standard_conforming_strings = off",
        ):
            conn.execute(f'alter database "{name}" set {setting}')
    psql(server, empty_dsn, "--set", "ON_ERROR_ROLLBACK=on", stdin=printed)
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(f'alter database "{name}" reset all')
    assert marks(empty_dsn) == MIGRATIONS


def test_install_sql_lists_every_file_once_and_every_migration_in_order() -> None:
    text = (SQL / "install.sql").read_text()
    files = re.findall(r"^\\ir (\S+)$", text, re.MULTILINE)
    api = [name for name in files if not name.startswith("install/")]
    here = {path.relative_to(SQL).as_posix() for path in SQL.rglob("*.sql")}
    assert Counter(api) == Counter(
        name for name in here if name not in ("install.sql", "roles.sql") and "install/" not in name
    )
    assert files[0] == "install/begin.sql"
    assert files[-1] == "install/end.sql"
    assert (
        re.findall(r"^\\set migration (\S+)\n\\ir install/migrate.sql$", text, re.M) == MIGRATIONS
    )
    assert files.count("install/migrate.sql") == len(MIGRATIONS)


def test_the_files_of_the_api_and_the_migrations_are_nothing_but_sql() -> None:
    plain = [*schema.sources().api_files(), *(ROOT / "migrations").glob("*.sql"), SQL / "roles.sql"]
    for path in plain:
        assert not re.search(r"^\s*\\", path.read_text(encoding="utf-8"), re.MULTILINE), path


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["command", "psql"])
def test_a_newer_schema_is_refused(
    empty_dsn: str, server: servers.Server, copied: schema.Sources, way: str
) -> None:
    schema.install(empty_dsn)
    execute(
        empty_dsn, "insert into vcs._yoyo_migration values ('x', '9999.from-the-future', now())"
    )
    changed = copied.root / "sql" / "changed.sql"
    changed.write_text("create function vcs._changed() returns int language sql as 'select 1';")
    listed(copied, "\\ir changed.sql")
    if way == "command":
        with pytest.raises(CodeImportError, match=r"newer than this.*9999\.from-the-future"):
            schema.install(empty_dsn, using=copied)
    else:
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            psql(server, empty_dsn, "--file", copied.table_of_contents)
        assert "newer than this code-import: it has 9999.from-the-future" in stopped.value.stderr
    assert rows(empty_dsn, "select to_regproc('vcs._changed')") == [(None,)]


@pytest.mark.sql
@pytest.mark.parametrize("way", ["command", "psql"])
def test_a_schema_of_somebody_else_is_refused(
    fresh: str, cluster: servers.Server, way: str
) -> None:
    execute(fresh, "create schema vcs create table precious (id int)")
    if way == "command":
        with pytest.raises(CodeImportError, match="that is not of code-import") as refused:
            schema.install(fresh)
        assert refused.value.hint
    else:
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            psql(cluster, fresh, "--file", SQL / "install.sql")
        assert 'a schema "vcs" that is not of code-import' in stopped.value.stderr
    with pytest.raises(CodeImportError, match="that is not of code-import"):
        schema.uninstall(fresh, confirm=lambda _: True)
    assert rows(fresh, "select relname from pg_class where relnamespace = 'vcs'::regnamespace") == [
        ("precious",)
    ]
    assert rows(fresh, "select count(*) from pg_roles where rolname ~ '^code_import'") == [(0,)]


def test_no_migrations_and_migrations_outside_a_transaction_are_refused(
    empty_dsn: str, copied: schema.Sources
) -> None:
    folder = copied.root / "migrations"
    odd = folder / "9999.odd.sql"
    odd.write_text("-- transactional: false\ncreate index concurrently on vcs._nothing (id);")
    with pytest.raises(CodeImportError, match=r"9999\.odd is not transactional"):
        schema.install(empty_dsn, using=copied)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(CodeImportError, match="no migrations"):
        schema.install(empty_dsn, using=copied)


# --- who installs ------------------------------------------------------------------------------


@pytest.mark.sql
@pytest.mark.parametrize("way", ["command", "psql"])
def test_the_owner_of_a_database_who_may_create_roles_installs_and_uninstalls(
    cluster: servers.Server, way: str
) -> None:
    with login(cluster, "createrole") as role, made_database(cluster, role) as dsn:
        own = make_conninfo(dsn, user=role)

        def install() -> None:
            if way == "command":
                schema.install(own)
            else:
                psql(cluster, own, "--file", SQL / "install.sql")

        install()
        install()
        owners = "select distinct pg_get_userbyid(relowner) from pg_class"
        assert rows(dsn, f"{owners} where relnamespace = 'vcs'::regnamespace") == [
            ("code_import_owner",)
        ]
        made = rows(own, "select id from vcs.code_import_machine_new('a')")
        assert len(made) == 1, "whoever installs may also use it"
        done = uninstall(own)
        assert (sorted(done.dropped), done.left) == (sorted(schema.ROLES), {})
        assert rows(dsn, "select to_regnamespace('vcs')") == [(None,)]


@pytest.mark.sql
@pytest.mark.parametrize("way", ["command", "psql"])
@pytest.mark.parametrize("lacks", ["createrole", "create on database", "membership"])
def test_who_lacks_a_right_is_told_the_sql_that_an_administrator_must_run(
    cluster: servers.Server, way: str, lacks: str
) -> None:
    with login(cluster) as role, made_database(cluster) as dsn:
        database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        if lacks == "createrole":
            execute(dsn, f'grant create on database "{database}" to {role}')
        if lacks == "membership":
            schema.install(dsn)  # an upgrade by somebody else
        own = make_conninfo(dsn, user=role)
        if way == "command":
            with pytest.raises(NotAllowed, match="may not install code-import") as refused:
                schema.install(own)
            hint = refused.value.hint or ""
        else:
            with pytest.raises(subprocess.CalledProcessError) as stopped:
                psql(cluster, own, "--file", SQL / "install.sql")
            hint = stopped.value.stderr.partition("HINT:")[2].partition("CONTEXT:")[0]
        statements = re.findall(r"^\s+(\w.*;)$", hint, re.MULTILINE)
        assert statements, hint
        with psycopg.connect(dsn, autocommit=True) as administrator:
            for statement in statements:
                administrator.execute(statement)
        schema.install(own)
        assert marks(dsn) == MIGRATIONS
        with psycopg.connect(dsn) as administrator:
            administrator.execute("drop schema vcs cascade")
            administrator.execute(f'revoke create on database "{database}" from {role}')
        remove_roles(cluster)


@pytest.mark.sql
def test_a_second_database_of_another_owner(cluster: servers.Server) -> None:
    with (
        login(cluster, "createrole") as first,
        login(cluster, "createrole") as second,
        made_database(cluster, first) as one,
        made_database(cluster, second) as other,
    ):
        schema.install(make_conninfo(one, user=first))
        own = make_conninfo(other, user=second)
        if cluster.major >= 16:  # since then CREATEROLE is no right over roles of others
            with pytest.raises(NotAllowed) as refused:
                schema.install(own)
            assert f"grant code_import_owner to {second};" in (refused.value.hint or "")
            execute(one, f"grant code_import_owner to {second}")
        schema.install(own)
        assert marks(other) == MIGRATIONS
        done = uninstall(make_conninfo(one, user=first))
        assert done.dropped == []
        assert set(done.left) == set(schema.ROLES)
        assert marks(other) == MIGRATIONS
        execute(one, "drop schema if exists vcs cascade")
        execute(other, "drop schema vcs cascade")
        remove_roles(cluster)


# --- several at once ---------------------------------------------------------------------------


def test_several_installs_of_one_database_at_once(fresh: str, cluster: servers.Server) -> None:
    script = schema.script()
    processes = [started("install", "--dsn", fresh) for _ in range(3)]
    psql(cluster, fresh, stdin=script)
    ended_well(*processes)
    assert marks(fresh) == MIGRATIONS
    applied = rows(
        fresh,
        "select migration_id, count(*) from vcs._yoyo_log where operation = 'apply' group by 1",
    )
    assert Counter(dict(applied)) == Counter(MIGRATIONS)
    assert rows(fresh, "select count(*) from vcs._yoyo_log where operation = 'load'") == [(4,)]


@pytest.mark.sql
def test_installs_of_several_databases_of_a_cluster_at_once(cluster: servers.Server) -> None:
    with (
        made_database(cluster) as one,
        made_database(cluster) as two,
        made_database(cluster) as three,
    ):
        ended_well(*(started("install", "--dsn", dsn) for dsn in (one, two, three)))
        assert [marks(dsn) for dsn in (one, two, three)] == [MIGRATIONS] * 3
    remove_roles(cluster)


@pytest.mark.sql
def test_an_uninstall_beside_installs_of_other_databases(cluster: servers.Server) -> None:
    with made_database(cluster) as one, made_database(cluster) as two:
        for leaving, coming in ((one, two), (two, one), (one, two)):
            schema.install(leaving)
            ended_well(
                started("uninstall", "--yes", "--dsn", leaving),
                started("install", "--dsn", coming),
            )
            assert rows(leaving, "select to_regnamespace('vcs')") == [(None,)]
            made = rows(coming, "select id from vcs.code_import_machine_new('a')")
            assert len(made) == 1
            readers = (
                "select has_table_privilege('code_import_reader', 'vcs.code_import', 'select')"
            )
            assert rows(coming, readers) == [(True,)]
            schema.uninstall(coming, confirm=lambda _: True)
    remove_roles(cluster)


def test_an_upgrade_beside_a_long_reader_lets_everybody_else_through(
    dsn: str, connect: Connect
) -> None:
    reader, worker = connect(autocommit=False), connect()
    reader.execute("select count(*) from vcs.code_import")
    upgrade = started("install", "--dsn", dsn)
    waits = (
        "select count(*) from pg_stat_activity where application_name = 'code-import install'"
        " and wait_event_type = 'Lock' and datname = current_database()"
    )
    eventually(lambda: worker.execute(waits).fetchone() == (1,), what="the upgrade waits")
    worker.execute("set statement_timeout = '4s'")  # far more than an attempt may take
    for _ in range(20):
        worker.execute("select count(*) from vcs.code_import")
        worker.execute("select vcs.code_import_job_next_due()")
    assert upgrade.poll() is None
    reader.rollback()
    ended_well(upgrade)


def test_an_install_that_gets_no_lock_gives_up_and_says_why(dsn: str, connect: Connect) -> None:
    heard: list[str] = []
    holder = connect(autocommit=False)
    holder.execute("select count(*) from vcs.code_import")
    with pytest.raises(
        CodeImportError, match=r"gave up after 0\.5 s: another session keeps a lock"
    ):
        schema.install(dsn, report=heard.append, patience=0.5)
    holder.rollback()
    holder.execute("select pg_advisory_xact_lock(hashtextextended('code_import.install', 0))")
    backend = holder.info.backend_pid
    with pytest.raises(CodeImportError, match=rf"another install is at work .*{backend}"):
        schema.install(dsn, report=heard.append, patience=0.5)
    assert [line.partition(":")[0] for line in heard] == ["waiting"]


# --- uninstall ---------------------------------------------------------------------------------


def test_uninstall_asks_first_and_tells_what_would_go(fresh: str) -> None:
    schema.install(fresh)
    rows(fresh, "select vcs.code_import_new('me', 'a/b', 'git', 'https://example.org/b')")
    asked: list[schema.Present] = []

    def no(present: schema.Present) -> bool:
        asked.append(present)
        return False

    assert schema.uninstall(fresh, confirm=no) is None
    name = psycopg.conninfo.conninfo_to_dict(fresh)["dbname"]
    assert asked == [schema.Present(str(name), imports=1, running=0)]
    assert marks(fresh) == MIGRATIONS

    done = uninstall(fresh)
    assert (set(done.dropped), done.left) == (set(schema.ROLES), {})
    assert rows(fresh, "select to_regnamespace('vcs'), to_regrole('code_import_owner')") == [
        (None, None)
    ]
    assert rows(fresh, "select rolname from pg_roles where rolname ~ '^code_import'") == []
    assert schema.uninstall(fresh, confirm=lambda _: True) is None


@pytest.mark.parametrize(("typed", "code"), [("the name", 0), ("another name", 3)])
def test_the_command_wants_the_name_of_the_database(empty_dsn: str, typed: str, code: int) -> None:
    schema.install(empty_dsn)
    name = str(psycopg.conninfo.conninfo_to_dict(empty_dsn)["dbname"])
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs) as terminal:
        keyboard.write(f"{name if typed == 'the name' else typed}\n")
        keyboard.flush()
        done = subprocess.run(
            command("uninstall", "--dsn", empty_dsn), stdin=terminal, capture_output=True, text=True
        )
    assert done.returncode == code, done.stderr
    assert f"from database {name}" in done.stderr
    gone = rows(empty_dsn, "select to_regnamespace('vcs') is null") == [(True,)]
    assert gone == (typed == "the name")


def test_the_command_asks_nobody_where_there_is_no_terminal(dsn: str) -> None:
    done = subprocess.run(
        command("uninstall", "--dsn", dsn), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert marks(dsn) == MIGRATIONS


@pytest.mark.parametrize(
    "thing",
    [
        "create view public.report as select target from vcs.code_import",
        "create table public.note (id bigint references vcs._code_import)",
        "create table public.copy (was vcs.code_import)",
        "create function public.f(vcs.code_import) returns int language sql as 'select 1'",
        "create table public.made (at timestamptz default vcs.code_import_job_next_due())",
    ],
    ids=["view", "foreign key", "column", "function", "default"],
)
def test_uninstall_takes_nothing_along_that_others_built(dsn: str, thing: str) -> None:
    execute(dsn, f"{thing}")
    with pytest.raises(CodeImportError, match="built on it") as refused:
        schema.uninstall(dsn, confirm=lambda _: True)
    assert refused.value.detail
    assert marks(dsn) == MIGRATIONS


def test_roles_that_something_else_uses_stay_and_it_says_why(
    fresh: str, cluster: servers.Server
) -> None:
    schema.install(fresh)
    with made_database(cluster) as other:
        name = psycopg.conninfo.conninfo_to_dict(other)["dbname"]
        execute(fresh, f'grant connect on database "{name}" to code_import_reader')
        done = uninstall(fresh)
        assert set(done.left) == {"code_import_reader"}
        assert "still used" in done.left["code_import_reader"]


# --- as a package ------------------------------------------------------------------------------


def test_a_built_package_carries_its_sql(empty_dsn: str, tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            tmp_path,
            ROOT,
        ],
        check=True,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    for name in ("sql", "migrations"):
        ours = {p.relative_to(ROOT / name) for p in (ROOT / name).rglob("*.sql")}
        theirs = {
            p.relative_to(unpacked / "code_import" / name)
            for p in (unpacked / "code_import" / name).rglob("*.sql")
        }
        assert ours == theirs
    done = subprocess.run(
        command("install", "--dsn", empty_dsn),
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert marks(empty_dsn) == MIGRATIONS
