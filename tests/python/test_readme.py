"""README.md, word by word: its blocks are run, its tables are compared, its names exist.

Each language has a test that runs the blocks of it. A command that is not run is in NOT_RUN, with
the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import psycopg
import pytest
from psycopg import sql

from code_import import Client, errors, models, schema
from code_import.cli import main
from harness.servers import Server
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Connect, Roles

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

NOT_RUN = {"python3 tests": "it is what runs this"}
LANGUAGES = {"console", "psql", "bash", "sql", "python", "mermaid", "text"}

SEPARATOR = "=== end of a command ==="


# --- what is in it -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the heading that it stands below."""

    language: str
    text: str
    heading: str


def blocks() -> list[Block]:
    """All blocks."""
    found = []
    heading = ""
    for part in re.finditer(r"^## ([^\n]+)$|^```(\w*)\n(.*?)^```$", README, re.M | re.S):
        if part[1]:
            heading = part[1]
        else:
            found.append(Block(part[2], part[3], heading))
    return found


def block(language: str, *, having: str = "") -> str:
    """The only block of a language that has this text in it."""
    (text,) = (b.text for b in blocks() if b.language == language and having in b.text)
    return text


def table(first_cell: str) -> list[list[str]]:
    """The rows of the table whose head begins with this cell."""
    head = rf"^\| {re.escape(first_cell)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)"
    (found,) = re.findall(head, README, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()]


def names(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def prose() -> str:
    """What is neither in a block nor in a table."""
    return re.sub(r"^```.*?^```$|^\|[^\n]*$", "", README, flags=re.M | re.S)


def transcript(text: str, prompt: str, continued: str = "") -> list[tuple[str, list[str]]]:
    """What was typed, and the lines that came back."""
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(prompt):
            steps.append((line.removeprefix(prompt), []))
        elif continued and line.startswith(continued):
            typed, answer = steps[-1]
            steps[-1] = (f"{typed}\n{line.removeprefix(continued)}", answer)
        else:
            steps[-1][1].append(line)
    return steps


# --- where it is tried -------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Somebody who has a clone called ``code-import``, and types what is written there."""

    home: Path
    environment: dict[str, str]

    @property
    def clone(self) -> Path:
        return self.home / "code-import"

    def type(self, typed: str, *, stdin: str = "", **variables: str) -> str:
        """Run a shell script, and return what it prints. It has to end well."""
        done = subprocess.run(
            ["bash", "-c", typed],
            cwd=self.clone,
            env={**self.environment, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{typed}\n{done.stdout}{done.stderr}"
        return done.stdout

    def loosely(self, text: str) -> list[str]:
        """Lines without what differs from reader to reader, and from day to day."""
        for pattern, stands_for in (
            (re.escape(str(self.home)), "/home/me"),
            (re.escape(f"{ROOT}/.venv"), ".venv"),
            (rf"\b{re.escape(socket.gethostname())}\b", "laptop"),
            (r"\b(?:now|\d+ s ago|\d+ min ago)\b", "AGO"),
            (r"\b\d+(?:\.\d+)? s\b", "SECONDS"),
            (r"\d\d:\d\d:\d\d\.\d+", "DURATION"),
            (r"\d+ refs?, \d+ commits?", "REFS"),
            (r"-{3,}", "---"),
            (r" +", " "),
        ):
            text = re.sub(pattern, stands_for, text)
        return [line.rstrip() for line in text.strip().splitlines()]


@pytest.fixture
def reader(server: Server) -> Iterator[Reader]:
    """A reader whose home and private server are the test's own."""
    home = Path(os.environ["CODE_IMPORT_TEST_HOME"]) / f"reader-{os.getpid()}"
    _make_clone(home / "code-import")
    path = os.environ["PATH"].split(os.pathsep)
    path = [place for place in path if not Path(place, "code-import").exists()]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    found = Reader(
        home,
        {
            **kept,
            "HOME": str(home),
            "LOGNAME": "me",
            "PATH": os.pathsep.join([*path, str(server.bin)]),  # for those who have no psql
        },
    )
    yield found
    subprocess.run([*COMMAND, "server", "stop"], env=found.environment, check=False)
    shutil.rmtree(home)


COMMAND = (sys.executable, "-P", "-m", "code_import")


def _make_clone(clone: Path) -> None:
    """A repository with all that this checkout has, by links."""
    clone.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name != ".git":
            (clone / path.name).symlink_to(path)
    for command in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *command], cwd=clone, check=True)


# --- blocks ------------------------------------------------------------------------------------


def test_every_block_has_a_test_of_its_kind() -> None:
    """A new kind of block needs a new test; what no test picks by its text fails there."""
    assert {b.language for b in blocks()} == LANGUAGES
    counted = Counter(b.language for b in blocks())
    assert counted == {
        "console": 2,
        "psql": 1,
        "bash": 2,
        "sql": 3,
        "python": 1,
        "mermaid": 1,
        "text": 1,
    }


def test_the_first_screen(reader: Reader) -> None:
    """The first two commands and then the SQL, on one private server, give what is shown."""
    steps = transcript(block("console", having="mirror ."), "$ ")
    script = "".join(f"{typed}\necho '{SEPARATOR}'\n" for typed, _ in steps)
    answers = reader.type(f"set -e\n{script}").split(f"{SEPARATOR}\n")[:-1]
    for (typed, shown), answer in zip(steps, answers, strict=True):
        expected = [line for line in shown if not _is_of_the_bootstrap(line)]
        assert reader.loosely(answer) == reader.loosely("\n".join(expected)), typed

    steps = transcript(block("psql"), "=# ", "-# ")
    script = "".join(f"{typed}\n\\echo '{SEPARATOR}'\n" for typed, _ in steps)
    psql = ". .venv/bin/activate; code-import server psql --no-psqlrc --set ON_ERROR_STOP=1"
    answers = reader.type(psql, stdin=script).split(f"{SEPARATOR}\n")[:-1]
    for (typed, shown), answer in zip(steps, answers, strict=True):
        assert reader.loosely(answer) == reader.loosely("\n".join(shown)), typed


def _is_of_the_bootstrap(line: str) -> bool:
    """Whether the line is only seen the first time: then the bootstrap has its words."""
    said = re.fullmatch(r"code-import: (.+) …", line)
    bootstrap = (ROOT / "pyclient" / "__main__.py").read_text(encoding="utf-8")
    return said is not None and said[1] in bootstrap


def test_other_commands_are_run_or_excused() -> None:
    """What no test runs is listed, with a reason."""
    (others,) = (b for b in blocks() if b.language == "console" and "mirror ." not in b.text)
    assert {typed for typed, _ in transcript(others.text, "$ ")} == set(NOT_RUN)


def test_install_and_uninstall(reader: Reader, server: Server) -> None:
    """Line by line, in a database ``mirrors``: installed, current, printed, gone."""
    place = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres"}
    place["PATH"] = os.pathsep.join([reader.environment["PATH"], str(Path(sys.executable).parent)])
    installed: list[bool] = []
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("create database mirrors")
        try:
            for line in block("bash", having="install").splitlines():
                reader.type(line, **place)
                with psycopg.connect(server.dsn("mirrors")) as look:
                    found = look.execute("select to_regclass('vcs.code_import') is not null")
                    installed += found.fetchone() or ()
        finally:
            conn.execute("drop database mirrors with (force)")
    assert installed == [True, True, True, False]
    assert (reader.clone / "code-import.sql").read_text() == schema.script()


def test_the_worker_starts_and_stops(
    reader: Reader, dsn: str, conn: psycopg.Connection[Any]
) -> None:
    """As it is written there, but for the store; SIGTERM ends it well."""
    line = block("bash", having="worker").strip()
    assert "/srv/mirrors" in line
    store = reader.home / "mirrors"
    with subprocess.Popen(
        [*COMMAND, *line.replace("/srv/mirrors", str(store)).split()[1:]],
        env={**reader.environment, "CODE_IMPORT_DSN": dsn},
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stderr is not None
        assert str(store) in worker.stderr.readline()
        eventually(lambda: conn.execute("select 1 from vcs.code_import_machine").fetchone())
        worker.terminate()
        assert worker.wait(30) == 0
    assert store.is_dir()


def test_sql(conn: psycopg.Connection[Any], roles: Roles) -> None:
    """Statements for operators are run as one; those about roles as a superuser."""
    Client(conn).new("bob", "project/repo", "git", "https://example.org/repo.git")
    texts = [b.text for b in blocks() if b.language == "sql" and "cron." not in b.text]
    for text in texts:
        with conn.transaction(force_rollback=True):
            if "create role" not in text:
                conn.execute(sql.SQL("set local role {}").format(sql.Identifier(roles.operator)))
            conn.execute(text.encode())
    assert len(texts) == 2


def test_what_pg_cron_calls(connect: Connect, roles: Roles) -> None:
    """The reclaimer may make both calls, and no other."""
    calls = re.findall(r"'(select vcs\.[^']+)'", block("sql", having="cron."))
    assert len(calls) == 2
    conn = connect(roles.reclaimer)
    for call in calls:
        conn.execute(call.encode())


def test_pg_cron_takes_them() -> None:
    """Where Debian's pg_cron is installed, the block is run as it is."""
    build = Path("/usr/lib/postgresql/15")
    if not (build / "lib" / "pg_cron.so").is_file():
        pytest.skip("pg_cron is not installed for Debian's PostgreSQL 15")
    home = Path(os.environ["CODE_IMPORT_TEST_HOME"]) / "15-with-cron"
    server = Server(15, build / "bin", home, settings={"shared_preload_libraries": "pg_cron"})
    server.create()
    try:
        server.start()
        schema.install(server.dsn())
        with psycopg.connect(server.dsn()) as conn:
            conn.execute("create extension pg_cron")
            conn.execute(block("sql", having="cron.").encode())
            assert conn.execute("select count(*) from cron.job").fetchone() == (2,)
    finally:
        server.stop()


def test_python(dsn: str, conn: psycopg.Connection[Any]) -> None:
    """The snippet runs what is due."""
    Client(conn).new("bob", "project/repo", "git", "https://example.org/repo.git")
    subprocess.run(
        [sys.executable, "-c", block("python")],
        env={**os.environ, "CODE_IMPORT_DSN": dsn},
        check=True,
        timeout=60,
    )
    ended = conn.execute("select status, log_excerpt from vcs.code_import_result").fetchall()
    assert ended == [("success", "cloning https://example.org/repo.git")]


def test_the_diagram() -> None:
    """Its states are all the states of a job, and what leads from one to another are functions."""
    arrows = re.findall(r"^ +(\S+) --> (\S+): (.+)$", block("mermaid"), re.M)
    assert {end for arrow in arrows for end in arrow[:2]} == {"[*]", *get_args(models.JobState)}
    for *_, label in arrows:
        for verb in re.sub(r"\(.*?\)", "", label).split(","):
            assert hasattr(Client, f"job_{verb.strip()}") or hasattr(Client, verb.strip()), verb
    assert block("mermaid").count("-->") == len(arrows)


def test_the_tree() -> None:
    """Every file and folder of the tree is there."""
    folders = [ROOT]
    shown = []
    for line in block("text").splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, about = line.strip().partition(" ")
        folders[depth + 1 :] = [folders[depth] / name]
        shown += [folders[depth + 1]]
        shown += [folders[depth] / other for other in re.findall(r"\b\w+\.py\b", about)]
    assert [str(path) for path in shown if not path.exists()] == []
    assert len(shown) > 10


# --- tables ------------------------------------------------------------------------------------


def test_errors() -> None:
    """The codes are those of sql/errors.sql and PostgreSQL's that we raise, with their classes."""
    told = {code: names(cell) for code, cell, _ in table("SQLSTATE")}
    assert told == {code: [cls.__name__] for code, cls in errors.BY_SQLSTATE.items()}
    ours = re.findall(r"^--   (IJ\d{3}) ", (ROOT / "sql" / "errors.sql").read_text(), re.M)
    assert [code for code in told if code.startswith("IJ")] == ours


def test_settings(conn: psycopg.Connection[Any]) -> None:
    """Names, defaults and descriptions are the catalog's."""
    query = "select name, default_value, description from vcs.code_import_settings order by name"
    told = [(*names(name), default, about) for name, default, about in table("setting")]
    assert told == [(name, value or "–", about) for name, value, about in conn.execute(query)]


def test_roles(conn: psycopg.Connection[Any]) -> None:
    """All are there, and the functions that are named for one are all that it has."""
    told = {names(role)[0]: names(may) for role, may in table("role")}
    assert set(told) == set(schema.ROLES)
    for role, functions in told.items():
        if functions:
            may = conn.execute(
                "select proname from pg_proc where pronamespace = 'vcs'::regnamespace"
                " and has_function_privilege(%s, oid, 'execute') order by proname",
                [role],
            )
            assert sorted(functions) == [name for (name,) in may], role


def test_the_life_of_a_job(conn: psycopg.Connection[Any]) -> None:
    """Events and refusals are those that the comments of the functions name."""
    rows = table("function, `vcs.code_import_…`")
    for functions, _, events, refusals in rows:
        for name in names(functions):
            comment = _comment(conn, f"code_import_{name}")
            assert set(names(events)) == _events(comment), name
            assert {*refusals.split(), "IJ400"} == {*_codes(comment), "IJ400"}, name
    assert len(rows) > 10


def _comment(conn: psycopg.Connection[Any], function: str) -> str:
    (row,) = conn.execute(
        "select obj_description(oid, 'pg_proc') from pg_proc"
        " where pronamespace = 'vcs'::regnamespace and proname = %s",
        [function],
    )
    return str(row[0])


def _events(comment: str) -> set[str]:
    told = " ".join(re.findall(r"^event (.+)$", comment, re.M))
    return set(re.findall(r"\w+", told)) & set(get_args(models.EventType))


def _codes(comment: str) -> list[str]:
    return re.findall(r"^error +(\w+)", comment, re.M)


def test_results() -> None:
    """Every status that a result may have is in the table, once."""
    told = [status for cell, _ in table("result") for status in names(cell)]
    assert sorted(told) == sorted(get_args(models.ResultStatus))


# --- names -------------------------------------------------------------------------------------


def test_every_command_exists() -> None:
    """Nouns, verbs and options."""
    texts = [*names(prose()), *(typed for typed, _ in _all_typed())]
    commands = [words[1:] for text in texts if (words := text.split())[:1] == ["code-import"]]
    assert len(commands) > 10
    for words in commands:
        _resolve(words)


def test_every_option_exists() -> None:
    """Options that stand alone are of the worker, or of every command."""
    options = [text for text in names(prose()) if text.startswith("--")]
    assert options
    for option in options:
        _resolve(["worker", option])


def _all_typed() -> Iterator[tuple[str, list[str]]]:
    for each in blocks():
        if each.language == "console":
            yield from transcript(each.text, "$ ")
        elif each.language == "bash":
            yield from ((line, []) for line in each.text.splitlines())


def _resolve(words: list[str]) -> None:
    """Find the command that the words name, and each option in it."""
    command: click.Command = main
    for word in words:
        ctx = click.Context(command)
        if word.startswith("--"):
            options = [(*param.opts, *param.secondary_opts) for param in command.get_params(ctx)]
            assert any(word in spellings for spellings in options), words
        elif isinstance(command, click.Group):
            found = command.get_command(ctx, word) or getattr(command, "default", None)
            assert found is not None, words
            command = found


def test_every_name_of_the_schema_exists(conn: psycopg.Connection[Any]) -> None:
    """Functions, views, roles and settings, wherever they are spelt."""
    known = {
        name
        for (name,) in conn.execute(
            "select proname from pg_proc where pronamespace = 'vcs'::regnamespace"
            " union select relname from pg_class where relnamespace = 'vcs'::regnamespace"
            " union select rolname from pg_roles union select name from vcs.code_import_settings"
        )
    }
    code = " ".join([*names(README), *(b.text for b in blocks() if b.language in ("psql", "sql"))])
    spelt = set(re.findall(r"\bcode_import_[a-z_]+\b", code))
    assert sorted(spelt - known) == []
    assert {"excluded_hosts", "maximum_heartbeat_interval"} <= known & set(names(prose()))


def test_no_name_is_broken() -> None:
    """Code in prose stays on one line, where it can be found and checked."""
    assert [line for line in prose().splitlines() if line.count("`") % 2] == []


def test_every_path_exists() -> None:
    """Links, and what looks like a path of this repository."""
    links = re.findall(r"\]\(([^)]+)\)", README)
    spelt = [
        text for text in names(README) if re.fullmatch(r"(?:sql|tests|pyclient)/[\w./-]*", text)
    ]
    spelt = [path for path in spelt if not re.search(r"[A-Z]{3}", path)]  # sql/NOUN/…
    assert links
    assert spelt
    assert [path for path in (*links, *spelt) if not (ROOT / path).exists()] == []


def test_it_is_short() -> None:
    """Little prose, and little of it before the first thing to try."""
    assert len(prose().split()) <= 1_500
    before, _, _ = README.partition("```")
    assert len(before.split()) <= 80
    assert README.startswith("# code-import\n\n")
