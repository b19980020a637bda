"""The command ``code-import``: the nouns and verbs of the SQL functions, and what runs them."""

from __future__ import annotations

import click

from .base import PROGRAM, Entry, Root

WORK = "Work"
LOOK = "Look"
OPERATE = "Operate"
DATABASE = "Database"

ENTRIES = {
    "mirror": Entry(f"{__name__}.mirrors", "mirrors", "Mirror repositories, here and now.", WORK),
    "worker": Entry(f"{__name__}.worker", "worker", "Run the imports that are due.", WORK),
    "import": Entry(f"{__name__}.imports", "imports", "Register, review, request.", WORK),
    "job": Entry(f"{__name__}.job", "job", "What waits and what runs.", LOOK),
    "result": Entry(f"{__name__}.result", "result", "How runs ended, and their logs.", LOOK),
    "event": Entry(f"{__name__}.event", "event", "Who did what, and when.", LOOK),
    "machine": Entry(f"{__name__}.machine", "machine", "The machines that run jobs.", OPERATE),
    "credential": Entry(f"{__name__}.credential", "credential", "Logins of sources.", OPERATE),
    "settings": Entry(f"{__name__}.settings", "settings", "Limits and intervals.", OPERATE),
    "log-file": Entry(f"{__name__}.result", "log_file", "Store the log of a run.", OPERATE),
    "tidy-up": Entry(f"{__name__}.settings", "tidy_up", "Remove what is too old.", OPERATE),
    "install": Entry(f"{__name__}.schema", "install", "Install or upgrade the schema.", DATABASE),
    "uninstall": Entry(f"{__name__}.schema", "uninstall", "Remove the schema.", DATABASE),
    "sql": Entry(f"{__name__}.schema", "sql", "Print what install would run.", DATABASE),
    "server": Entry(f"{__name__}.schema", "server", "The embedded server.", DATABASE),
    "api": Entry(f"{__name__}.shell", "api", "The functions for programs.", DATABASE),
    "completion": Entry(f"{__name__}.shell", "completion", "Complete words in a shell.", DATABASE),
    "configure": Entry(f"{__name__}.settings", "set_setting", "Change a setting.", None),
}


@click.group(
    PROGRAM,
    cls=Root,
    entries=ENTRIES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="code-import", prog_name=PROGRAM)
def main() -> None:
    """Recurring imports of foreign code repositories into git mirrors.

    Begin with `code-import mirror URL`: it needs no database of yours and ends with a mirror
    on disk. Then look around: `code-import import list`, `code-import job list`.

    The database is the one of --dsn, else of CODE_IMPORT_DSN, else of libpq's PG* variables,
    else a server of your own that starts by itself. Wherever IMPORT is written, give a target
    such as project/repo or an id; the same goes for JOB, and MACHINE takes a hostname or an id.

    Every command takes --json and then prints one JSON document on stdout: what the function
    returned, with times in ISO 8601 and UTC. Messages go to stderr; an error is one JSON
    object there, with its sqlstate.
    """
