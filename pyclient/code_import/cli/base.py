"""What every command shares: the session, the options, the errors and the exit codes.

The module of a command is loaded when it is asked for, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import difflib
import getpass
import importlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

    from ..client import Client

PROGRAM = "code-import"

REFUSED = 1
USAGE = 2
NOTHING = 3
NO_DATABASE = 4
NO_FILE = 74
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_CODES = (
    ("0", "done"),
    (str(REFUSED), "refused, with the SQLSTATE; nothing was changed"),
    (str(USAGE), "the command line makes no sense"),
    (str(NOTHING), "nothing to do, nothing there, or the answer is no"),
    (str(NO_DATABASE), "the database cannot be reached, or code-import is not installed in it"),
    (str(NO_FILE), "a file, or stdout, could not be read or written"),
    (str(INTERRUPTED), "interrupted"),
)


@dataclass(slots=True)
class Session:
    """One run of the command: which database, and for whom it prints."""

    dsn: str | None = None
    json: bool = False

    def connect(self) -> psycopg.Connection[Any]:
        """Open an autocommit connection that closes when the command ends."""
        import psycopg

        from ..connection import find

        try:
            database = find(self.dsn)
        except psycopg.ProgrammingError as err:
            raise click.UsageError(f"That names no database: {str(err).strip()}.") from err
        return click.get_current_context().with_resource(database.connect())

    def open(self) -> tuple[psycopg.Connection[Any], Client]:
        """Open a connection, and a client on it."""
        from ..client import Client

        conn = self.connect()
        return conn, Client(conn)


pass_session: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(
    Session, ensure=True
)


class Failure(click.ClickException):
    """An error as a person sees it: one line, then detail and hint if there are any."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = REFUSED,
        sqlstate: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # ours to choose, for each one
        self.sqlstate = sqlstate
        self.detail = detail
        self.hint = hint


def nothing(message: str, *, session: Session | None = None) -> NoReturn:
    """Say on stderr that there is nothing, print null for programs, and end with code 3."""
    if session is not None and session.json:
        click.echo("null")
    click.echo(message, err=True)
    raise click.exceptions.Exit(NOTHING)


# Commands and groups


def _common_options() -> list[click.Option]:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value and param.name is not None:
            setattr(ctx.ensure_object(Session), param.name, value)

    return [
        click.Option(
            ["--dsn"],
            metavar="DSN",
            expose_value=False,
            callback=remember,
            help="The database, as libpq names it.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="Print JSON, for programs.",
        ),
    ]


def add_common_options(command: click.Command) -> None:
    """Let a command take the options that work everywhere, unless it has them."""
    known = {name for param in command.params for name in param.opts}
    command.params.extend(o for o in _common_options() if known.isdisjoint(o.opts))


class Command(click.Command):
    """A command with examples; ``sql`` is the function whose spelling it is, and ``section`` the
    head under which its group lists it."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        sql: str | None = None,
        section: str = "Commands",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.examples = examples
        self.sql = sql
        add_common_options(self)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and the words for the same thing in SQL."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{PROGRAM} {example}\n")
        if self.sql:
            formatter.write(f"\nIn SQL: vcs.{self.sql}\n")
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A noun. Its verbs also answer to the words that SQL has for them."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        add_common_options(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order in which they were written down."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by section, each with a whole sentence."""
        rows = [
            (getattr(command, "section", "Commands"), name, command.get_short_help_str(limit=200))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        _write_sections(formatter, rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a verb by its own name, or by the last words of its SQL function."""
        found = super().get_command(ctx, cmd_name)
        return found or next(
            (
                command
                for command in self.commands.values()
                if isinstance(command, Command)
                and command.sql
                and sql_words(command.sql)[-1] == cmd_name
            ),
            None,
        )


def _write_sections(formatter: click.HelpFormatter, rows: list[tuple[str, str, str]]) -> None:
    for section in dict.fromkeys(section for section, _, _ in rows):
        with formatter.section(section):
            formatter.write_dl([(name, told) for where, name, told in rows if where == section])


def sql_words(function: str) -> tuple[str, ...]:
    """The words of a SQL function on the command line: ``code_import_job_start`` → job start."""
    name = function.removeprefix("code_import_")
    for noun in ("job", "machine", "mirror", "log_file", "credential"):
        if name.startswith(f"{noun}_"):
            return noun.replace("_", "-"), name.removeprefix(f"{noun}_").replace("_", "-")
    if name in ("configure", "tidy_up"):
        return (name.replace("_", "-"),)
    return "import", name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Entry:
    """A word of the first level: where its command is, and the sentence that lists show."""

    module: str
    attribute: str
    summary: str
    section: str | None
    """None: it works, but lists do not show it."""


class Root(click.Group):
    """The command itself: loads what is asked for, and says in one way how things went wrong."""

    def __init__(self, *args: Any, entries: dict[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries
        add_common_options(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The words of the first level, in the order in which a newcomer meets them."""
        return [name for name, entry in self.entries.items() if entry.section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        add_common_options(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the words of the first level, without loading what is behind them."""
        words = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self.entries.items()
            if entry.section and name.startswith(incomplete)
        ]
        return words + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the ones that look like it."""
        if args[0] not in self.entries and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx))
            guess = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{guess}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, without loading them."""
        rows = [
            (entry.section, name, entry.summary)
            for name, entry in self.entries.items()
            if entry.section
        ]
        _write_sections(formatter, rows)
        with formatter.section("Exit codes"):
            formatter.write_dl(list(EXIT_CODES))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever stops it becomes a message and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _silence(sys.stdout)
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends the process with one of the documented exit codes."""
        _open_missing_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        json_wanted = "--json" in (sys.argv if args is None else args)
        try:
            with explained():
                code = super().main(args, PROGRAM, complete_var, standalone_mode=False, **extra)
        except click.ClickException as err:
            try:
                click.echo(describe(err, json_wanted), err=True)
                sys.stdout.flush()
            except OSError:
                _silence(sys.stdout)
            sys.exit(err.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if type(code) is int else 0)


# Streams


def _open_missing_streams() -> None:
    """Put the null device where stdin, stdout or stderr is closed: else Python has none, and the
    next file or connection to be opened would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free: its own.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _silence(stream: TextIO) -> None:
    """What is left to be flushed goes nowhere, without a word."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# Errors


def describe(err: click.ClickException, as_json: bool) -> str:
    """An error as lines for a person, or as one JSON object."""
    from .output import visible

    if isinstance(err, NoArgsIsHelpError):
        if not as_json:
            return err.format_message()
        err = click.UsageError("Missing command.", err.ctx)
    failure = err if isinstance(err, Failure) else Failure(err.format_message())
    hint = failure.hint
    if isinstance(err, click.UsageError) and err.ctx is not None:
        hint = f"{err.ctx.command_path} --help"
    if as_json:
        told = {
            "error": failure.message,
            "sqlstate": failure.sqlstate,
            "detail": failure.detail,
            "hint": hint,
        }
        return json.dumps({key: value for key, value in told.items() if value is not None})
    state = f" ({failure.sqlstate})" if failure.sqlstate else ""
    lines = [f"{PROGRAM}: {failure.message}{state}"]
    lines += [f"  detail: {failure.detail}"] if failure.detail else []
    lines += f"  hint: {hint}".split("\n") if hint else []  # may list statements to be copied
    return "\n".join(visible(line) for line in lines)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the database and of its connection into failures with an exit code."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit, SystemExit):
        raise
    except Exception as err:  # explained, or raised again
        failure = explain(err)
        if failure is None:
            raise
        raise failure from err


NOT_INSTALLED = {"3F000", "42P01"}
OTHER_VERSION = {"42883", "42703"}


def explain(err: Exception) -> Failure | None:
    """The failure that an exception amounts to, or None when it is a fault of this program."""
    import psycopg

    from ..errors import CodeImportError, NotAllowed

    if isinstance(err, CodeImportError):
        hint = err.hint
        if isinstance(err, NotAllowed) and not hint:
            hint = "Roles: code_import_reader, _worker, _operator; ask whoever grants them."
        return Failure(err.message, sqlstate=err.sqlstate or None, detail=err.detail, hint=hint)
    if isinstance(err, OSError):
        what = err.filename or "a file, or stdout, cannot be read or written"
        return Failure(f"{what}: {err.strerror or err}", exit_code=NO_FILE)
    if isinstance(err, UnicodeEncodeError):
        return Failure("what was given is not text in UTF-8", exit_code=USAGE)
    if not isinstance(err, psycopg.Error):
        return None
    first, *others = str(err).splitlines() or [type(err).__name__]
    others += getattr(err, "__notes__", [])
    message = err.diag.message_primary or first
    if err.sqlstate in NOT_INSTALLED:
        return Failure(
            f"code-import is not installed in this database: {message}",
            exit_code=NO_DATABASE,
            hint=f"Run `{PROGRAM} install`.",
        )
    if err.sqlstate in OTHER_VERSION:
        return Failure(
            f"another version of code-import is installed in this database: {message}",
            exit_code=NO_DATABASE,
            hint=f"Run `{PROGRAM} install` to bring it up to date.",
        )
    unreachable = isinstance(err, psycopg.OperationalError) and (
        err.sqlstate is None or err.sqlstate.startswith(("08", "28", "3D", "53", "57P"))
    )
    return Failure(
        message,
        exit_code=NO_DATABASE if unreachable else REFUSED,
        sqlstate=err.sqlstate,
        detail=err.diag.message_detail,
        hint=err.diag.message_hint or (" ".join(map(str.strip, others)) if unreachable else None),
    )


# Options that many commands have

ID = click.IntRange(0, 2**63 - 1)
COUNT = click.IntRange(-(2**31), 2**31 - 1)


def _operating_system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as err:
        raise click.UsageError("Nobody knows who you are: say --person NAME.") from err


def _check_allowed(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from ..policy import check_allowed

    try:
        return tuple(map(check_allowed, value))
    except ValueError as err:
        raise click.BadParameter(str(err)) from None


allow_host_option = click.option(
    "--allow-host", "allow_hosts", metavar="HOST", multiple=True, callback=_check_allowed,
    help="Fetch from here too: a host or host:port whatever the policy says, or a network such as"
    " 10.0.0.0/8. Private addresses are refused otherwise.",
)  # fmt: skip
person_option = click.option(
    "--person",
    metavar="NAME",
    envvar="CODE_IMPORT_PERSON",
    default=_operating_system_user,
    show_default="you",
    show_envvar=True,
    help="In whose name.",
)


def _key_file() -> Path:
    import platformdirs

    return platformdirs.user_config_path("code-import", appauthor=False) / "credential-keys"


key_file_option = click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="CODE_IMPORT_CREDENTIAL_KEY_FILE",
    default=_key_file,
    show_default="yours",
    show_envvar=True,
    help="The keys that the logins of sources are sealed with.",
)


def limit_option(default: int = 50) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How many rows a listing has."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        metavar="N",
        default=default,
        show_default=True,
        help="How many at most.",
    )


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal, only --yes will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("There is nobody to ask: say --yes.")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(NOTHING)


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
