"""From what a person types to the thing meant: an import by target or id, and so on.

A number is an id; a target or hostname that is a number works too, unless it is ambiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import reading
from .base import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from ..reading import ImportLine, JobLine, MachineLine, ResultInFull


def find_import(conn: psycopg.Connection[Any], name: str) -> ImportLine:
    """Return the import of this target or id."""
    found = reading.imports_named(conn, name)
    _check_one(name, found, "import")
    return found[0]


def find_machine(conn: psycopg.Connection[Any], name: str) -> MachineLine:
    """Return the machine of this hostname or id."""
    found = reading.machines_named(conn, name)
    _check_one(name, found, "machine")
    return found[0]


def find_job_id(conn: psycopg.Connection[Any], name: str) -> int:
    """Return the job id that this is, or the id of the job that the import of this target has."""
    job_id = reading.as_id(name)
    if job_id is not None:
        return job_id
    imp = find_import(conn, name)
    if imp.job_id is None:
        raise Failure(
            f"import {imp.id}, {imp.target}, is {imp.review_status} and has no job",
            sqlstate="IJ409",
        )
    return imp.job_id


def find_job(conn: psycopg.Connection[Any], name: str) -> JobLine:
    """Return the job of this id, or of the import of this target."""
    job_id = find_job_id(conn, name)
    found = reading.jobs(conn, job_ids=[job_id])
    if not found:
        raise Failure(
            f"job {job_id} is not there: its run has ended, or never was",
            sqlstate="IJ410",
            hint="See `code-import result list`.",
        )
    return found[0]


def find_result(conn: psycopg.Connection[Any], name: str) -> ResultInFull:
    """Return the result of this id, or the newest one of the import of this target."""
    result_id = reading.as_id(name)
    if result_id is None:
        imp = find_import(conn, name)
        newest = reading.results(conn, code_import_id=imp.id, limit=1)
        if not newest:
            raise Failure(f"import {imp.id}, {imp.target}, has no result yet", sqlstate="IJ404")
        result_id = newest[0].id
    result = reading.result(conn, result_id)
    if result is None:
        raise Failure(f"result {result_id} does not exist", sqlstate="IJ404")
    return result


def _check_one(name: str, found: Sequence[object], noun: str) -> None:
    if not found:
        raise Failure(
            f"{noun} {name} does not exist",
            sqlstate="IJ404",
            hint=f"See `code-import {noun} list`.",
        )
    if len(found) > 1:
        raise Failure(
            f"{name} is the id of one {noun} and the name of another",
            sqlstate="IJ400",
            hint="Give the name of the one, or the id of the other.",
        )
