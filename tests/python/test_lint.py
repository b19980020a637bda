"""The linters: they judge every file, so that nobody has to remember to ask them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from harness import debian, servers

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "pyclient", "tests"),
        ("ruff", "format", "--check", "pyclient", "tests"),
        ("mypy", "--strict"),
        ("mypy", "--strict", "-p", "harness"),
    ],
    ids=" ".join,
)
def test_python_is_clean(command: tuple[str, ...]) -> None:
    """The linter has nothing to say."""
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": f"{ROOT / 'pyclient'}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


@pytest.mark.sql
def test_plpgsql_is_clean(server: servers.Server, dsn: str) -> None:
    """plpgsql_check reads every function: unknown columns, unused variables, injections.

    Without its warnings about performance: what locks rows cannot be stable, as it would have it.
    """
    if server.bin.parent.parent != Path("/usr/lib/postgresql"):
        pytest.skip("plpgsql_check needs a PostgreSQL of Debian's, and this one is not")
    try:
        library, script = debian.plpgsql_check(server.major)
    except debian.NotToBeHad as missing:
        pytest.skip(str(missing))
    loaded = server.directory / "plpgsql_check.so"  # where the server's own user can read it
    shutil.copy(library, loaded)
    loaded.chmod(0o755)
    making = (
        script.read_text().replace("MODULE_PATHNAME", str(loaded)).replace("@extschema@", "public")
    )
    making = "\n".join(line for line in making.splitlines() if not line.startswith("\\"))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(making.encode())
        found = conn.execute(
            """
            select function.oid::regprocedure::text, told.lineno, told.level, told.message
            from pg_proc as function
            left join pg_trigger as calling on calling.tgfoid = function.oid
            cross join lateral plpgsql_check_function_tb(
                function.oid, coalesce(calling.tgrelid, 0),
                fatal_errors => false, extra_warnings => true, security_warnings => true
            ) as told
            where function.pronamespace = 'vcs'::regnamespace
              and function.prolang = (select oid from pg_language where lanname = 'plpgsql')
            order by 1, 2
            """
        ).fetchall()
    assert not found, "\n".join(
        f"{name}:{line}: {level}: {what}" for name, line, level, what in found
    )
