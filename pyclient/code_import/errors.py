"""Errors that the SQL functions raise, one class per SQLSTATE.

The codes are defined in ``sql/errors.sql``; a test compares the two lists.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


class CodeImportError(Exception):
    """A refusal: nothing was changed, and the SQLSTATE says why.

    ``message`` names the thing and its state. ``hint``, when there is one, says what to do,
    ``detail`` gives facts, ``table`` names the relation meant, and ``constraint`` the rule that
    would have been broken.
    """

    sqlstate: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        table: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.table = table
        self.constraint = constraint


class BadValue(CodeImportError):
    """A value that cannot be: source details, target, status, limit, setting, or null."""

    sqlstate = "IJ400"


class NotYours(CodeImportError):
    """The machine or job belongs to another role."""

    sqlstate = "IJ403"


class NotFound(CodeImportError):
    """No such import, machine, credential or log file, or a log file of another run."""

    sqlstate = "IJ404"


class WrongState(CodeImportError):
    """The import, job or machine is there, but not in the state that the call needs."""

    sqlstate = "IJ409"


class RunGone(CodeImportError):
    """No such run: it has ended, or never was. A worker stops quietly and publishes nothing."""

    sqlstate = "IJ410"


class AlreadyRunning(CodeImportError):
    """A request for what is running already."""

    sqlstate = "IJ423"


class AlreadyRequested(CodeImportError):
    """Somebody has requested it already; ``detail`` names them."""

    sqlstate = "IJ429"


class AlreadyThere(CodeImportError):
    """The source, target or hostname is taken; ``constraint`` says which, ``detail`` by whom."""

    sqlstate = "23505"


class NotAllowed(CodeImportError):
    """The role of this session has no right to make this call."""

    sqlstate = "42501"


class NotSupported(CodeImportError):
    """Not possible here, such as a claim above READ COMMITTED."""

    sqlstate = "0A000"


BY_SQLSTATE: dict[str, type[CodeImportError]] = {
    cls.sqlstate: cls for cls in CodeImportError.__subclasses__()
}


@contextmanager
def typed_errors() -> Iterator[None]:
    """Raise our class for each of our SQLSTATEs, and let every other error through as it is."""
    try:
        yield
    except psycopg.Error as err:
        cls = BY_SQLSTATE.get(err.sqlstate or "")
        if cls is None:
            raise
        raise cls(
            err.diag.message_primary or str(err),
            detail=err.diag.message_detail,
            hint=err.diag.message_hint,
            table=err.diag.table_name,
            constraint=err.diag.constraint_name,
        ) from err
