"""``code-import import``: what is mirrored, from where, and how often."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO, get_args

import click

from .. import reading
from ..importers import Source
from ..models import NewImport, RcsType, ReviewStatus
from . import import_lists
from .base import (
    REFUSED,
    Failure,
    Group,
    Session,
    confirm,
    limit_option,
    pass_session,
    person_option,
    yes_option,
)
from .names import find_import
from .output import (
    Column,
    ago,
    brief,
    due,
    every,
    exact,
    given,
    print_facts,
    print_json,
    print_rows,
    print_table,
    span,
    tell,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from psycopg import Connection

    from ..models import Event, Job
    from ..reading import ImportLine, ResultLine

import_argument = click.argument("name", metavar="IMPORT")
type_choice = click.Choice(get_args(RcsType))
_SOURCE = ("url", "cvs_root", "cvs_module")
status_choice = click.Choice(get_args(ReviewStatus))


@click.group("import", cls=Group)
def imports() -> None:
    """Register foreign repositories, review them, and request runs.

    An import says where code comes from and which mirror it goes to; it runs again and again
    while it is `reviewed`. IMPORT is its target, such as project/repo, or its id.
    """


# Look


@imports.command(
    "list",
    examples=[
        "import list --status failing --status suspended",
        "import list --match example.org --json | jq -r .[].target",
    ],
)
@click.option("--status", "statuses", type=status_choice, multiple=True, help="Of this status.")
@click.option("--type", "rcs_types", type=type_choice, multiple=True, help="Of this type.")
@click.option("--owner", metavar="NAME", help="Of this owner.")
@click.option("--url", metavar="URL", help="Registered with exactly this url.")
@click.option("--match", "text", metavar="TEXT", help="With this in target or url.")
@click.option("--after", metavar="TARGET", default="", help="The page after this target.")
@limit_option()
@pass_session
def list_imports(session: Session, **filters: Any) -> None:
    """List imports by target, with their next run and last success."""
    conn = session.connect()
    found = reading.imports(conn, **given(filters))
    now = reading.now(conn)
    print_rows(session, found, _columns(now), none="no imports")
    if len(found) == filters["limit"]:
        click.echo(f"more, perhaps: --after {found[-1].target}", err=True)


@imports.command("show", examples=["import show project/repo", "import show 7 --json"])
@import_argument
@pass_session
def show_import(session: Session, name: str) -> None:
    """Show an import: its source, its job, and how its newest runs ended."""
    conn = session.connect()
    imp = find_import(conn, name)
    if session.json:
        print_json(imp)
        return
    now = reading.now(conn)
    print_facts(_facts(imp, now))
    if results := reading.results(conn, code_import_id=imp.id, limit=5):
        click.echo()
        print_table(results, _history_columns(now))


# Change


@imports.command(
    "add",
    sql="code_import_new",
    examples=[
        "import add project/repo https://example.org/repo.git",
        "import add tools/sed https://example.org/sed.git --interval '12 h'",
        "import add tools/awk https://example.org/awk.git --status new",
        "import add ed --cvs-root :pserver:me@e.org:/cvs --cvs-module ed",
        "import add --from urls.txt",
    ],
)
@click.argument("target", required=False)
@click.argument("url", required=False)
@click.option(
    "--from", "source", type=click.File(encoding="utf-8"), metavar="FILE",
    help="All that a list says: CSV, JSON lines or urls; - is stdin.",
)  # fmt: skip
@click.option("--type", "rcs_type", type=type_choice, help="[default: git; cvs with --cvs-root]")
@click.option("--cvs-root", metavar="ROOT", help="For cvs, in place of the url.")
@click.option("--cvs-module", metavar="MODULE", help="For cvs: the module.")
@click.option(
    "--status",
    type=status_choice,
    default="reviewed",
    show_default=True,
    help="`new` waits for somebody to approve it.",
)
@click.option("--owner", metavar="NAME", help="[default: the person]")
@click.option("--interval", metavar="TIME", help="From run to run, such as '6 h'.")
@person_option
@pass_session
def add_import(
    session: Session,
    target: str | None,
    url: str | None,
    source: TextIO | None,
    rcs_type: RcsType | None,
    cvs_root: str | None,
    cvs_module: str | None,
    status: ReviewStatus,
    owner: str | None,
    interval: str | None,
    person: str,
) -> None:
    """Register an import: its mirror is TARGET, its code comes from URL.

    With --from many, a thousand in a transaction: FILE is CSV whose head names target, rcs_type,
    url, cvs_root, cvs_module, review_status, owner or update_interval, or objects of these in JSON,
    or plain urls. What is there already is passed over; ends with 1 if any was refused.
    """
    if source is not None:
        if target is not None:
            raise click.UsageError("Give TARGET and URL, or --from, not both.")
        _add_list(session, source, person)
        return
    if target is None:
        raise click.UsageError("Give TARGET and URL, or --from FILE.")
    conn, client = session.open()
    imp = client.new(
        person,
        target,
        rcs_type or ("cvs" if cvs_root else "git"),
        url,
        cvs_root,
        cvs_module,
        status,
        owner,
        interval,
    )
    follows = {
        "reviewed": "it runs as soon as a worker asks for work",
        "new": f"it waits for review: code-import import approve {imp.target}",
    }
    tell(session, imp, f"import {imp.id}, {imp.target}, is registered as {imp.review_status}")
    if status in follows:
        click.echo(follows[status], err=True)
    _foretell(conn, Source(imp.rcs_type, imp.url, imp.cvs_root, imp.cvs_module))


def _add_list(session: Session, source: TextIO, person: str) -> None:
    """Register what a list says, and tell what was refused, as it happens."""
    conn, client = session.open()
    told, refused = import_lists.Registered(), []
    entries = import_lists.read(source)
    try:
        for each in import_lists.register_list(conn, client, entries, person, told):
            refused.append(each)
            if not session.json:
                place = f"line {each.line}, {each.target}"
                click.echo(visible(f"{place}: {each.message}"), err=True)
    except import_lists.NotAList as err:
        raise Failure(
            f"{source.name}: {err}", hint=f"{told.registered} imports before it are registered"
        ) from None
    sentence = (
        f"{told.registered} registered, {told.already_there} there already, {told.refused} refused"
    )
    tell(session, {**asdict(told), "refusals": [asdict(each) for each in refused]}, sentence)
    if told.refused:
        raise click.exceptions.Exit(REFUSED)


@imports.command(
    "export",
    examples=["import export imports.csv", "import export --form urls --type svn -"],
)
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True))
@click.option(
    "--form", type=import_lists.form_choice, default="csv", show_default=True,
    help="CSV, JSON lines, or plain urls.",
)  # fmt: skip
@click.option("--status", "statuses", type=status_choice, multiple=True, help="Of this status.")
@click.option("--type", "rcs_types", type=type_choice, multiple=True, help="Of this type.")
@click.option("--owner", metavar="NAME", help="Of this owner.")
@pass_session
def export_imports(session: Session, file: TextIO, form: import_lists.Form, **filters: Any) -> None:
    """Write all imports into FILE, as a list that `import add --from` reads; - is stdout."""
    count = import_lists.write(session.connect(), form, file, given(filters))
    click.echo(f"{count} imports written", err=True)


@imports.command(
    "add-many",
    sql="code_import_new_many",
    examples=["import add-many imports.json", "import add-many - < imports.jsonl"],
)
@click.argument("file", type=click.File(encoding="utf-8"))
@person_option
@pass_session
def add_many_imports(session: Session, file: TextIO, person: str) -> None:
    """Register many imports from FILE, in one transaction; - is stdin.

    It holds a JSON array of objects, or one object a line, with keys such as target, rcs_type,
    url and update_interval. A refused one does not undo the others; ends with 1 if any was.
    """
    _, client = session.open()
    rows = client.new_many(_parse_many(file.read()), person)
    columns = [
        Column[NewImport]("ID", lambda row: row.code_import_id, right=True),
        Column[NewImport]("TARGET", lambda row: row.target, folds=True),
        Column[NewImport]("REFUSED", lambda row: row.error_code),
        Column[NewImport]("BECAUSE", lambda row: row.message, folds=True),
    ]
    print_rows(session, rows, columns, none="no imports given")
    refused = sum(row.error_code is not None for row in rows)
    if refused:
        raise Failure(f"{refused} of {len(rows)} imports were refused", exit_code=REFUSED)


@imports.command(
    "update",
    sql="code_import_update",
    examples=[
        "import update project/repo --interval '12 h' --owner alice",
        "import update project/repo --interval default",
        "import update project/repo --target project/new-name",
    ],
)
@import_argument
@click.option("--owner", metavar="NAME", help="Who answers for it.")
@click.option("--assignee", metavar="NAME", help="Who looks after it.")
@click.option("--no-assignee", is_flag=True, help="Nobody looks after it.")
@click.option("--status", "review_status", type=status_choice, help="Its review status.")
@click.option("--interval", "update_interval", metavar="TIME", help="From run to run, or default.")
@click.option("--url", metavar="URL", help="Where its code comes from.")
@click.option("--cvs-root", metavar="ROOT", help="For cvs.")
@click.option("--cvs-module", metavar="MODULE", help="For cvs.")
@click.option("--target", metavar="TARGET", help="The next run moves the mirror.")
@person_option
@pass_session
def update_import(
    session: Session, name: str, no_assignee: bool, person: str, **options: str | None
) -> None:
    """Change an import; what is not named stays as it is."""
    changes = {key: value for key, value in options.items() if value is not None}
    cleared: dict[str, None] = {}
    if changes.get("update_interval") == "default":
        cleared["update_interval"] = None
    if no_assignee:
        cleared["assignee"] = None
    if not changes and not cleared:
        raise click.UsageError("Say what to change.")
    _update(session, name, {**changes, **cleared}, person)


@imports.command(
    "set-url",
    sql="code_import_set_url",
    examples=["import set-url project/repo https://example.org/moved.git"],
)
@import_argument
@click.argument("url")
@person_option
@pass_session
def set_import_url(session: Session, name: str, url: str, person: str) -> None:
    """Change where an import's code comes from; its next run is due now."""
    conn, client = session.open()
    imp = find_import(conn, name)
    _tell_change(session, imp, client.set_url(imp.id, url, person))
    _foretell(conn, Source(imp.rcs_type, url))


@imports.command("approve", examples=["import approve project/repo"])
@import_argument
@person_option
@pass_session
def approve_import(session: Session, name: str, person: str) -> None:
    """Let an import run: it becomes `reviewed`, whatever it was."""
    _update(session, name, {"review_status": "reviewed"}, person)


@imports.command("suspend", examples=["import suspend project/repo"])
@import_argument
@person_option
@pass_session
def suspend_import(session: Session, name: str, person: str) -> None:
    """Pause an import until it is approved again; a run going on ends as usual."""
    _update(session, name, {"review_status": "suspended"}, person)


@imports.command("delete", sql="code_import_delete", examples=["import delete project/repo --yes"])
@import_argument
@yes_option
@person_option
@pass_session
def delete_import(session: Session, name: str, yes: bool, person: str) -> None:
    """Delete an import and its job, running or not. The mirror on disk stays."""
    conn, client = session.open()
    imp = find_import(conn, name)
    confirm(f"Delete import {imp.id}, {imp.target}?", yes)
    client.delete(imp.id, person)
    tell(session, None, f"import {imp.id}, {imp.target}, is deleted")


# Runs


@imports.command(
    "request",
    sql="code_import_request",
    examples=["import request project/repo", "import request 7 --once"],
)
@import_argument
@click.option(
    "--once",
    "error_if_already_requested",
    is_flag=True,
    help="Refuse if it is requested already, and say by whom.",
)
@person_option
@pass_session
def request_import(
    session: Session, name: str, error_if_already_requested: bool, person: str
) -> None:
    """Ask for a run as soon as possible; refused while one is going on."""
    conn, client = session.open()
    imp = find_import(conn, name)
    job = client.request(imp.id, person, error_if_already_requested)
    _tell_job(session, imp, job, reading.now(conn))


@imports.command(
    "request-again",
    sql="code_import_request_again",
    examples=["import request-again project/repo"],
)
@import_argument
@person_option
@pass_session
def request_import_again(session: Session, name: str, person: str) -> None:
    """Ask for a run that sees what was pushed until now: while one goes on, for one more."""
    conn, client = session.open()
    imp = find_import(conn, name)
    _tell_job(session, imp, client.request_again(imp.id, person), reading.now(conn))


@imports.command(
    "try-again", sql="code_import_try_again", examples=["import try-again project/repo"]
)
@import_argument
@person_option
@pass_session
def try_import_again(session: Session, name: str, person: str) -> None:
    """Give a `failing` import another chance, with its failures forgotten."""
    conn, client = session.open()
    imp = find_import(conn, name)
    _tell_job(session, imp, client.try_again(imp.id, person), reading.now(conn))


# What they share


def _update(session: Session, name: str, changes: Mapping[str, str | None], person: str) -> None:
    conn, client = session.open()
    imp = find_import(conn, name)
    _tell_change(session, imp, client.update(imp.id, changes, person))
    if not changes.keys().isdisjoint(_SOURCE):
        now = {name: changes.get(name, getattr(imp, name)) for name in _SOURCE}
        _foretell(conn, Source(imp.rcs_type, **now))


def _tell_change(session: Session, imp: ImportLine, change: Event | None) -> None:
    what = f"is changed: {brief(change.data)}" if change else "is like that already"
    tell(session, change, f"import {imp.id}, {imp.target}, {what}")


def _foretell(conn: Connection[Any], source: Source) -> None:
    """Say so at once when no worker will fetch from a source."""
    from ..policy import Policy, hosts_listed

    excluded = reading.setting(conn, "excluded_hosts")
    policy = Policy.load(excluded_hosts=hosts_listed(excluded.value if excluded else None))
    if why := policy.foresee(source):
        click.echo(f"but workers will refuse it: {why}", err=True)


def _tell_job(session: Session, imp: ImportLine, job: Job, now: datetime) -> None:
    if job.again_requested_by and job.state == "running":
        when = f"runs once more after job {job.id}, for {job.again_requested_by}"
    else:
        when = f"is due {ago(job.date_due, now)} as job {job.id}, for {job.requesting_user}"
    tell(session, job, f"import {imp.id}, {imp.target}, {when}")


def _parse_many(text: str) -> list[dict[str, Any]]:
    try:
        if text.lstrip().startswith("["):
            given = json.loads(text)
        else:
            given = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as err:
        raise click.UsageError(f"FILE is not JSON: {err}.") from err
    return list(given)


def _next_run(imp: ImportLine, now: datetime) -> str:
    if imp.job_state == "running" and imp.date_started:
        return f"running {span(now - imp.date_started)}"
    return due(imp.date_due, now)


def _columns(now: datetime) -> list[Column[ImportLine]]:
    return [
        Column("ID", lambda imp: imp.id, right=True),
        Column("TARGET", lambda imp: imp.target, folds=True),
        Column("TYPE", lambda imp: imp.rcs_type),
        Column("STATUS", lambda imp: imp.review_status),
        Column("FAILED", lambda imp: imp.consecutive_failure_count or None, right=True),
        Column("NEXT RUN", lambda imp: _next_run(imp, now)),
        Column("SUCCESS", lambda imp: ago(imp.date_last_successful, now, never="never")),
    ]


def _history_columns(now: datetime) -> list[Column[ResultLine]]:
    return [
        Column("RESULT", lambda result: result.id, right=True),
        Column("WHEN", lambda result: ago(result.date_created, now)),
        Column("STATUS", lambda result: result.status),
        Column("TOOK", lambda result: span(result.job_duration), right=True),
        Column("LAST LINE OF THE LOG", lambda result: result.last_line, folds=True),
    ]


def _facts(imp: ImportLine, now: datetime) -> list[tuple[str, object]]:
    default = "" if imp.update_interval else f", the default of {imp.rcs_type}"
    requested = f", requested by {imp.requesting_user}" if imp.requesting_user else ""
    failures = imp.consecutive_failure_count
    return [
        ("import", imp.id),
        ("target", imp.target),
        ("type", imp.rcs_type),
        ("url", imp.url),
        ("cvs root", imp.cvs_root),
        ("cvs module", imp.cvs_module),
        ("status", imp.review_status),
        ("failures", f"{failures} in a row" if failures else None),
        ("owner", imp.owner),
        ("assignee", imp.assignee),
        ("registered", f"{exact(imp.date_created, now)}, by {imp.registrant}"),
        ("runs every", every(imp.effective_update_interval) + default),
        ("last success", exact(imp.date_last_successful, now) or "never"),
        ("job", f"{imp.job_id}, {imp.job_state}{requested}" if imp.job_id else "none"),
        ("due", exact(imp.date_due, now)),
        ("started", exact(imp.date_started, now)),
    ]
