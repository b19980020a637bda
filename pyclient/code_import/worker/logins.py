"""The login of a run: fetched when it starts, opened here, and handed to its process alone.

A run whose credential cannot be used ends before it fetches anything. Many servers show strangers
less than they show a friend, and a mirror made by a friend must not lose what strangers are not
shown. A credential that is not meant for the connection, as over http, is none: its run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from code_import.client import Client
from code_import.errors import NotYours
from code_import.importers import Login, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from code_import.importers import RunStatus, Source
    from code_import.models import Assignment, JobCredential

    from .database import Database


@dataclass(frozen=True, slots=True)
class Granted:
    """What a run is told of its login: at most one of the three."""

    login: Login | None = None
    note: str | None = None
    """A line for its log: why it goes without one."""
    refusal: Outcome | None = None
    """Why it ends before it has begun."""


def grant(database: Database, assignment: Assignment, source: Source, key_file: Path) -> Granted:
    """Fetch and open the login of a run. Raises RunGone, and psycopg.Error without a database."""
    try:
        credential = database.look(lambda conn: Client(conn).credential_for_job(assignment.id))
    except NotYours as err:
        return _refused("internal_failure", f"{err.message}: {err.hint}")
    if credential is None:
        return Granted()
    named = f"the credential of {credential.host} (user {credential.username})"
    if credential.refusal == "expired":
        return _refused("failure_invalid", f"{named} expired on {_day(credential)}: replace it")
    if credential.refusal == "unencrypted":
        return Granted(note=f"{named} is not used: others could read it on its way")
    return _open(credential, assignment, source, key_file, named)


def _open(
    credential: JobCredential, assignment: Assignment, source: Source, key_file: Path, named: str
) -> Granted:
    # Not every worker needs it, and it takes a moment to load.
    from code_import.credentials import BadSeal, KeysUnusable, load_keys, open_for

    try:
        keys = load_keys(key_file)
        return Granted(open_for(keys, credential, assignment.code_import_id, source))
    except (KeysUnusable, BadSeal) as err:
        return _refused("internal_failure", f"{named} cannot be opened: {err}")


def _day(credential: JobCredential) -> str:
    expired = credential.date_expires
    return f"{expired.astimezone(UTC):%Y-%m-%d}" if expired else ""


def _refused(status: RunStatus, why: str) -> Granted:
    return Granted(refusal=Outcome(status, f"{why[:1].upper()}{why[1:]}."))
