"""One vocabulary, three spellings: what SQL, Python and the command line say is the same."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import pytest

from code_import import errors, models, reading
from code_import.cli import main
from code_import.cli.base import PROGRAM, Command, sql_words
from code_import.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

SQL = Path(__file__).parents[2] / "sql"

# The command line's own words for some functions; SQL's words work as well.
FRIENDLY = {
    "code_import_new": ("import", "add"),
    "code_import_new_many": ("import", "add-many"),
    "code_import_job_update_heartbeat": ("job", "heartbeat"),
    "code_import_job_update_heartbeats": ("job", "heartbeats"),
    "code_import_machine_set_online": ("machine", "online"),
    "code_import_machine_set_quiescing": ("machine", "quiesce"),
    "code_import_machine_set_offline": ("machine", "offline"),
    "code_import_configure": ("settings", "set"),
    "code_import_credential_new": ("credential", "add"),
    "code_import_credential_delete": ("credential", "remove"),
}

RELATIONS = {
    "code_import": models.Import,
    "code_import_job": models.Job,
    "code_import_assignment": models.Assignment,
    "code_import_machine": models.Machine,
    "code_import_event": models.Event,
    "code_import_result": models.Result,
    "code_import_log_file": models.LogFile,
    "code_import_credential": models.Credential,
    "code_import_mirror": models.Mirror,
    "code_import_ref_change": models.RefChange,
    "code_import_held_ref": models.HeldRef,
    "code_import_settings": models.Setting,
    "code_import_api": reading.ApiLine,
}

TABLE_FUNCTIONS = {
    "code_import_new_many": models.NewImport,
    "code_import_job_finish_many": models.Finished,
    "code_import_job_update_heartbeats": models.JobDirective,
    "code_import_mirror_as_of": models.RefAsOf,
    "code_import_tidy_up": models.Tidied,
    "code_import_credential_for_job": models.JobCredential,
}

SCHEDULED = {
    "rcs_type": models.RcsType,
    "review_status": models.ReviewStatus,
    "state": models.JobState,
}
"""What one check of the schedule judges, by column."""
VALUES = {
    "code_import_machine_state_is_known": models.MachineState,
    "code_import_result_status_is_known": models.ResultStatus,
    "code_import_event_type_is_known": models.EventType,
    "code_import_ref_change_kind_is_known": models.RefChangeKind,
    "code_import_held_ref_decision_is_known": models.HeldDecision,
}


def public_functions(conn: psycopg.Connection[Any]) -> dict[str, dict[str, Any]]:
    """Each public function's parameters, with their defaults as Python values."""
    rows = conn.execute(
        """
        select proname, proargnames[1:pronargs], pronargs - pronargdefaults,
               pg_get_expr(proargdefaults, 'pg_proc'::regclass)
        from pg_proc where pronamespace = 'vcs'::regnamespace and proname !~ '^_'
        """
    ).fetchall()
    functions = {}
    for name, parameters, required, defaults in rows:
        values = conn.execute(f"select {defaults}").fetchone() if defaults else ()
        given = (inspect.Parameter.empty,) * required + tuple(values or ())
        words = (parameter.removeprefix("p_") for parameter in parameters or ())
        functions[name] = dict(zip(words, given, strict=True))
    return functions


def commands(
    group: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that lists show, with its words."""
    ctx = click.Context(group)
    if isinstance(group, click.Group):
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None
            yield (*path, name), command
            yield from commands(command, (*path, name))


def leaves() -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something."""
    return [(words, command) for words, command in commands() if not hasattr(command, "commands")]


def resolve(words: tuple[str, ...]) -> click.Command | None:
    """The command that these words reach."""
    command: click.Command | None = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
        if command is None:
            return None
    return command


def test_every_public_function_is_a_method_of_the_same_name_and_parameters(
    conn: psycopg.Connection[Any],
) -> None:
    methods = {
        f"code_import_{name}": {
            parameter.name: parameter.default
            for parameter in inspect.signature(method).parameters.values()
            if parameter.name != "self"
        }
        for name, method in vars(Client).items()
        if not name.startswith("_")
    }
    functions = public_functions(conn)
    assert len(functions) == 46
    assert methods == functions


def test_every_method_names_the_refusals_that_its_function_is_said_to_have(
    conn: psycopg.Connection[Any],
) -> None:
    rows = conn.execute(
        """
        select proname, obj_description(oid, 'pg_proc') from pg_proc
        where pronamespace = 'vcs'::regnamespace and proname !~ '^_'
        """
    )
    names = {cls.__name__ for cls in errors.BY_SQLSTATE.values()}
    everywhere = {"BadValue", "NotAllowed"}  # said once, of all methods
    for function, comment in rows:
        codes = re.findall(r"^error\s+(\w{5}) ", comment, re.MULTILINE)
        method = getattr(Client, function.removeprefix("code_import_"))
        _, _, refusals = (inspect.getdoc(method) or "").partition("Raises ")
        said = names & set(re.findall(r"\w+", refusals))
        raised = {errors.BY_SQLSTATE[code].__name__ for code in codes}
        assert raised - everywhere == said - everywhere, function


def test_every_method_has_a_sentence() -> None:
    for name, method in vars(Client).items():
        if not name.startswith("_"):
            assert (inspect.getdoc(method) or "").split("\n")[0].rstrip().endswith((".", ":")), name


def test_every_sqlstate_has_a_class() -> None:
    listed = re.findall(r"^--   (IJ\d{3}) ", (SQL / "errors.sql").read_text(), re.MULTILINE)
    assert sorted([*listed, "23505", "42501", "0A000"]) == sorted(errors.BY_SQLSTATE)


@pytest.mark.parametrize(
    "cls",
    [*RELATIONS.values(), *TABLE_FUNCTIONS.values(), reading.ImportLine, reading.JobLine,
     reading.MachineLine, reading.EventLine, reading.ResultLine, reading.ResultInFull,
     reading.CredentialLine],
    ids=lambda cls: cls.__name__,
)  # fmt: skip
def test_a_record_selects_the_fields_that_it_has(cls: Any) -> None:
    assert cls.columns.split(", ") == [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_record_has_all_columns_of_its_relation(
    conn: psycopg.Connection[Any], relation: str
) -> None:
    rows = conn.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0",
        [f"vcs.{relation}"],
    )
    columns = {name for (name,) in rows}
    assert {field.name for field in dataclasses.fields(RELATIONS[relation])} == columns


@pytest.mark.parametrize("function", TABLE_FUNCTIONS)
def test_a_row_of_a_function_has_its_columns(conn: psycopg.Connection[Any], function: str) -> None:
    row = conn.execute(
        "select proargnames[pronargs + 1:] from pg_proc where proname = %s", [function]
    ).fetchone()
    assert row is not None
    assert [field.name for field in dataclasses.fields(TABLE_FUNCTIONS[function])] == row[0]


@pytest.mark.parametrize("constraint", VALUES)
def test_the_values_of_a_state_are_those_that_the_database_takes(
    conn: psycopg.Connection[Any], constraint: str
) -> None:
    row = conn.execute(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [constraint]
    ).fetchone()
    assert row is not None
    assert set(get_args(VALUES[constraint])) == set(re.findall(r"'(\w+)'", row[0]))


@pytest.mark.parametrize("column", SCHEDULED)
def test_the_values_of_a_job_are_those_that_the_schedule_takes(
    conn: psycopg.Connection[Any], column: str
) -> None:
    row = conn.execute("select prosrc from pg_proc where proname = '_is_whole'").fetchone()
    assert row is not None
    taken = re.findall(rf"p_schedule\.{column} (?:in|=) (\([^)]*\)|'\w+')", row[0])
    assert set(get_args(SCHEDULED[column])) == set(re.findall(r"'(\w+)'", " ".join(taken)))


def test_every_public_function_has_a_command(conn: psycopg.Connection[Any]) -> None:
    spelled = {
        command.sql: words
        for words, command in leaves()
        if isinstance(command, Command) and command.sql
    }
    expected = {
        function: FRIENDLY.get(function, sql_words(function)) for function in public_functions(conn)
    }
    assert spelled == expected


def test_the_words_of_sql_work_on_the_command_line(conn: psycopg.Connection[Any]) -> None:
    for function in public_functions(conn):
        command = resolve(sql_words(function))
        assert isinstance(command, Command), function
        assert command.sql == function


@pytest.mark.parametrize("words", [words for words, _ in leaves()], ids=" ".join)
def test_every_command_teaches(words: tuple[str, ...]) -> None:
    command = resolve(words)
    assert command is not None
    assert command.get_short_help_str(limit=200).endswith((".", "..."))
    assert len(words) == 1 or isinstance(command, Command)
    if isinstance(command, Command):
        assert command.examples
        assert max(map(len, command.examples)) <= 80 - len(f"  {PROGRAM} ")


@pytest.mark.parametrize(
    "example",
    sorted({example for _, command in leaves() for example in getattr(command, "examples", ())}),
)
def test_every_example_is_understood(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run.log", "imports.json", "imports.jsonl", "changes.json", "urls.txt"):
        (tmp_path / name).touch()
    args = shlex.split(re.split(r" [|<>] ", example.split(f"{PROGRAM} ")[-1])[0])
    command: click.Command = main
    with ExitStack() as opened:
        ctx = opened.enter_context(click.Context(main, info_name=PROGRAM))
        while isinstance(command, click.Group):
            found = command.get_command(ctx, args[0])
            assert found is not None, f"there is no {args[0]}"
            ctx = opened.enter_context(found.make_context(args[0], args[1:], parent=ctx))
            command, args = found, [*ctx._protected_args, *ctx.args]


def test_every_word_of_the_first_level_leads_somewhere() -> None:
    for name, entry in main.entries.items():
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command), name
