"""What the database is told when a run is over. Each call may be made again after a lost answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from code_import.errors import BadValue, RunGone, WrongState
from code_import.journal import Journal
from code_import.mirror import Store

if TYPE_CHECKING:
    from code_import.client import Client
    from code_import.models import FinishStatus, Result

    from .database import Database
    from .runs import RunProcess

LOG_ATTEMPTS = 2
CHANGES_AT_ONCE = 5_000

logger = logging.getLogger(__name__)


def tell(database: Database, run: RunProcess) -> Result | None:
    """Finish or release a run that has ended. Returns the result, if it is to have one.

    Raises RunGone when it was no longer ours, other refusals as they come, and psycopg.Error when
    it has to be told again.
    """
    undone = run.ending in ("released", "expired") or run.lost is not None
    if undone and run.outcome is None and run.ending != "killed":
        return _release(database, run)
    return _finish(database, run, _status(run))


def give_back(database: Database, job_id: int) -> None:
    """Release a run that this worker never heard of; one that was killed is finished as such."""
    try:
        database.call(lambda client: client.job_release(job_id))
    except WrongState:
        database.call(lambda client: client.job_finish(job_id, "killed"))


def _status(run: RunProcess) -> FinishStatus:
    if run.outcome is not None:
        return run.outcome.status
    match run.ending:
        case "killed":
            return "killed"
        case "overdue" | "silent" | "excessive":
            return "failure"
        case _:
            return "internal_failure"


def _release(database: Database, run: RunProcess) -> Result | None:
    try:
        database.call(lambda client: client.job_release(run.job_id))
    except WrongState:  # An operator killed it meanwhile.
        return _finish(database, run, "killed")
    return None


def _finish(database: Database, run: RunProcess, status: FinishStatus) -> Result:
    """Tell the end of a run together with its log; after a lost answer perhaps the end alone."""
    was_tried, run.finish_tried = run.finish_tried, True
    try:
        return database.call(lambda client: _finish_with_log(client, run, status))
    except RunGone:
        if not was_tried:
            raise
        return database.call(lambda client: client.job_finish(run.job_id, status))
    except BadValue as err:
        logger.error("run %d: its log is not kept: %s", run.job_id, err.message)
        return database.call(lambda client: client.job_finish(run.job_id, status))


def _finish_with_log(client: Client, run: RunProcess, status: FinishStatus) -> Result:
    """The newest lines become the result's excerpt. A log that does not get through is left out."""
    client.job_update_heartbeat(run.job_id, run.log.tail())
    _report(client, run)
    log_file_id = None
    if run.log_attempts < LOG_ATTEMPTS and (content := run.log.content()):
        run.log_attempts += 1
        log_file_id = client.log_file_new(run.job_id, content)
    return client.job_finish(run.job_id, status, log_file_id)


def _report(client: Client, run: RunProcess) -> None:
    """Tell what has become of the mirror, and what earlier runs could not tell."""
    order = run.order
    journal = Journal.read(Store(order.store).journal(order.code_import_id))
    changes = [each for each in journal.changes if order.told < each["job_id"] <= run.job_id]
    held = journal.held if journal.held_by == run.job_id else None
    is_verified = journal.verified_by == run.job_id
    for start in range(0, len(changes), CHANGES_AT_ONCE):
        client.mirror_report(run.job_id, changes[start : start + CHANGES_AT_ONCE])
    if held is not None or is_verified:
        damage = journal.damage if is_verified else None
        client.mirror_report(run.job_id, None, held, is_verified, damage)
