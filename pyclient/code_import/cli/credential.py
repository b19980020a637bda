"""``code-import credential``: who workers are to the hosts that they fetch from."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .. import reading
from .base import (
    ID,
    Failure,
    Group,
    Session,
    key_file_option,
    limit_option,
    nothing,
    pass_session,
    person_option,
)
from .names import find_import, find_job_id
from .output import Column, ago, given, print_facts, print_json, print_rows, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..credentials import Keys
    from ..reading import CredentialLine

credential_argument = click.argument("credential_id", metavar="CREDENTIAL", type=ID)


class _Day(click.DateTime):
    """A day or a time in UTC."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """As click does it, in UTC."""
        return super().convert(value, param, ctx).replace(tzinfo=UTC)


def _login_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of whatever stores a login."""
    for option in (
        pass_session,
        person_option,
        key_file_option,
        click.option(
            "--unencrypted", "allow_unencrypted", is_flag=True,
            help="Use it where others can read it on its way: http, svn, pserver.",
        ),
        click.option(
            "--expires", "date_expires", metavar="DAY", type=_Day(),
            help="No run gets it from this day on (UTC), as 2030-01-31.",
        ),
        click.option("--username", metavar="NAME", required=True, help="Shown to all who look."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group("credential", cls=Group)
def credential() -> None:
    """Store the logins that workers use at hosts that ask for one.

    A login is for a host, or for one import alone, and is shown to that host only. Its password,
    or token, is sealed before it reaches the database, with a key that the database does not have:
    each machine with workers needs a copy of the key file.
    """


@credential.command(
    "add",
    sql="code_import_credential_new",
    examples=[
        "credential add git.example.org --username robot",
        "credential add --import project/repo --username bot < token",
        "credential add example.org --username bot --expires 2030-01-31",
    ],
)
@click.argument("host", required=False)
@click.option("--import", "name", metavar="IMPORT", help="For this import alone.")
@_login_options
def add_credential(
    session: Session,
    host: str | None,
    name: str | None,
    username: str,
    key_file: Path,
    person: str,
    allow_unencrypted: bool,
    date_expires: datetime | None,
) -> None:
    """Store a login. Its password is asked for, or read from stdin.

    HOST is a name, with a port if it is not the usual one: git.example.org:8443. That of an import
    need not be said. The key file is made if there is none.
    """
    from ..credentials import Bound

    if host is None and name is None:
        raise click.UsageError("Say which host, or which import.")
    conn, client = session.open()
    imp = find_import(conn, name) if name else None
    host = host.lower() if host else _host_of(imp)
    keys = _keys(key_file)
    bound = Bound(
        host, imp.id if imp else None, username, _read_password(username, host), allow_unencrypted
    )
    made = client.credential_new(
        host, username, keys.seal(bound), keys.name, person, bound.code_import_id,
        allow_unencrypted, date_expires,
    )  # fmt: skip
    tell(session, made, f"credential {made.id}, {username} at {host}, is stored")


@credential.command("list", examples=["credential list", "credential list --import project/repo"])
@click.option("--host", metavar="HOST", help="Of this host.")
@click.option("--import", "name", metavar="IMPORT", help="Of this import alone.")
@click.option("--after", metavar="ID", type=ID, default=0, help="The page after this one.")
@limit_option()
@pass_session
def list_credentials(session: Session, name: str | None, **filters: Any) -> None:
    """List the logins, without what is secret in them."""
    conn = session.connect()
    imp = find_import(conn, name) if name else None
    found = reading.credentials(conn, code_import_id=imp.id if imp else None, **given(filters))
    print_rows(session, found, _columns(reading.now(conn)), none="no credentials")
    if len(found) == filters["limit"]:
        click.echo(f"more, perhaps: --after {found[-1].id}", err=True)


@credential.command(
    "replace",
    sql="code_import_credential_replace",
    examples=["credential replace 3 --username robot", "credential replace 3 --username x < new"],
)
@credential_argument
@_login_options
def replace_credential(
    session: Session,
    credential_id: int,
    username: str,
    key_file: Path,
    person: str,
    allow_unencrypted: bool,
    date_expires: datetime | None,
) -> None:
    """Put another login in the place of one: a new password, a new key, another end.

    The host and the import stay; all else is what is said now.
    """
    from ..credentials import Bound

    conn, client = session.open()
    old = reading.credential(conn, credential_id)
    if old is None:
        raise Failure(f"credential {credential_id} does not exist", sqlstate="IJ404")
    keys = _keys(key_file)
    bound = Bound(
        old.host, old.code_import_id, username, _read_password(username, old.host),
        allow_unencrypted,
    )  # fmt: skip
    made = client.credential_replace(
        credential_id, username, keys.seal(bound), keys.name, person, allow_unencrypted,
        date_expires,
    )  # fmt: skip
    tell(session, made, f"credential {made.id}, {username} at {made.host}, is replaced")


@credential.command("remove", sql="code_import_credential_delete", examples=["credential remove 3"])
@credential_argument
@person_option
@pass_session
def remove_credential(session: Session, credential_id: int, person: str) -> None:
    """Remove a login. A run that has it keeps it to its end."""
    _, client = session.open()
    client.credential_delete(credential_id, person)
    tell(session, None, f"credential {credential_id} is removed")


@credential.command("new-key", examples=["credential new-key"])
@key_file_option
@pass_session
def new_key(session: Session, key_file: Path) -> None:
    """Seal with a new key from now on. Each machine with a worker needs a copy of the file.

    What the old keys have sealed they still open: keep them until every login is replaced.
    """
    from ..credentials import KeysUnusable, add_key

    try:
        keys = add_key(key_file)
    except KeysUnusable as err:
        raise Failure(str(err)) from None
    tell(session, {"key_name": keys.name}, f"{key_file} seals with the new key {keys.name}")


@credential.command(
    "for-job",
    sql="code_import_credential_for_job",
    examples=["credential for-job project/repo --json"],
)
@click.argument("name", metavar="JOB")
@pass_session
def credential_for_job(session: Session, name: str) -> None:
    """Show which login a run gets, sealed: for the worker that runs it alone."""
    conn, client = session.open()
    found = client.credential_for_job(find_job_id(conn, name))
    if found is None:
        nothing("no credential", session=session)
    if session.json:
        print_json(found)
    else:
        print_facts([
            ("credential", found.id),
            ("user", f"{found.username} at {found.host}"),
            ("for", "this import" if found.code_import_id else "all imports from there"),
            ("key", found.key_name),
            ("expires", found.date_expires),
            ("refused", found.refusal),
        ])  # fmt: skip


def _host_of(imp: reading.ImportLine | None) -> str:
    """The host of an import, as broadly as a credential may name it."""
    from ..credentials import places
    from ..importers import Source

    assert imp is not None
    named = places(Source(imp.rcs_type, imp.url, imp.cvs_root, imp.cvs_module))
    if not named:
        raise Failure(f"import {imp.id}, {imp.target}, has a source that takes no password")
    return named[-1]


def _read_password(username: str, host: str) -> str:
    """Ask for it without showing it, or take all of stdin but a line end at its end."""
    from ..credentials import password_refusal

    if sys.stdin.isatty():
        password: str = click.prompt(
            f"Password of {username} at {host}", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        try:
            password = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise Failure("that is no password: it is not text in UTF-8") from None
        password = password.removesuffix("\n").removesuffix("\r")
    if why := password_refusal(password):
        raise Failure(f"that is no password: {why}")
    return password


def _keys(file: Path) -> Keys:
    """The keys, the first of them made now if there is none."""
    from ..credentials import KeysUnusable, load_keys, make_keys

    try:
        if make_keys(file):
            click.echo(f"made {file}: every machine with workers needs a copy of it", err=True)
        return load_keys(file)
    except KeysUnusable as err:
        raise Failure(str(err)) from None


def _columns(now: datetime) -> list[Column[CredentialLine]]:
    return [
        Column("ID", lambda line: line.id, right=True),
        Column("HOST", lambda line: line.host, folds=True),
        Column("USER", lambda line: line.username, folds=True),
        Column("IMPORT", lambda line: line.target, folds=True),
        Column("EXPIRES", lambda line: ago(line.date_expires, now)),
        Column("UNENCRYPTED", lambda line: "yes" if line.allow_unencrypted else None),
        Column("KEY", lambda line: line.key_name),
        Column("STORED", lambda line: ago(line.date_created, now)),
    ]
