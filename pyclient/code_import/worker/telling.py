"""What the database is told when a run is over. Each call may be made again after a lost answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from code_import.errors import BadValue, RunGone, WrongState

if TYPE_CHECKING:
    from code_import.models import FinishStatus, Result

    from .database import Database
    from .runs import RunProcess

LOG_ATTEMPTS = 2

logger = logging.getLogger(__name__)


def tell(database: Database, run: RunProcess) -> Result | None:
    """Finish or release a run that has ended. Returns the result, if it is to have one.

    Raises RunGone when it was no longer ours, other refusals as they come, and psycopg.Error when
    it has to be told again.
    """
    if run.ending in ("released", "expired") and run.outcome is None:
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
        case "overdue" | "silent":
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
    """Its last lines first, which become the result's excerpt; then its log, then the end of it.

    Once the end has been tried, the run may be over for the database, and only the end is told.
    """
    if not run.finish_tried:
        database.call(lambda client: client.job_update_heartbeat(run.job_id, run.log.tail()))
        _store_log(database, run)
        run.finish_tried = True
    return database.call(lambda client: client.job_finish(run.job_id, status, run.log_file_id))


def _store_log(database: Database, run: RunProcess) -> None:
    """Store the whole log, but rather lose it than the outcome."""
    content = run.log.content()
    if run.log_file_id is not None or not content or run.log_attempts >= LOG_ATTEMPTS:
        return
    run.log_attempts += 1
    try:
        run.log_file_id = database.call(lambda client: client.log_file_new(run.job_id, content))
    except RunGone:
        raise
    except BadValue as err:
        logger.error("run %d: its log is not kept: %s", run.job_id, err.message)
