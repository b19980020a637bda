"""``code-import job``: the next run of each import, or the one going on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

import click

from .. import reading
from ..models import Assignment, Finished, FinishStatus, JobDirective, JobState, RcsType
from .base import (
    COUNT,
    ID,
    NOTHING,
    Failure,
    Group,
    Session,
    limit_option,
    nothing,
    pass_session,
    person_option,
)
from .names import find_import, find_job, find_job_id, find_machine
from .output import (
    Column,
    due,
    exact,
    print_facts,
    print_json,
    print_log_tail,
    print_rows,
    span,
    tell,
)

if TYPE_CHECKING:
    from ..reading import JobLine

LOOK = "Look"
STEER = "Steer"
WORK = "Work, from a script"

job_argument = click.argument("name", metavar="JOB")
import_argument = click.argument("name", metavar="IMPORT")
type_option = click.option(
    "--type",
    "rcs_types",
    type=click.Choice(get_args(RcsType)),
    multiple=True,
    help="A type that it serves; all, unless given.",
)


@click.group("job", cls=Group)
def job() -> None:
    """See what waits and what runs; run jobs by hand or from a script.

    A job is the next run of an import, or the one going on: `pending`, `scheduled` (pinned to a
    machine) or `running`. Its id names that one run. JOB is an id, or the target of an import.
    """


# Look


@job.command(
    "list",
    section=LOOK,
    examples=["job list --state running", "job list --due", "job list --machine build1"],
)
@click.option(
    "--state", "states", type=click.Choice(get_args(JobState)), multiple=True, help="In this state."
)
@click.option("--import", "of_import", metavar="IMPORT", help="Of this import.")
@click.option("--machine", metavar="MACHINE", help="Running on this machine, or pinned to it.")
@click.option("--due", "is_due", is_flag=True, help="Whose time has come, and not running yet.")
@click.option("--requested", is_flag=True, help="That somebody asked for.")
@click.option("--after", metavar="TIME/ID", help="The page after this due time and job.")
@limit_option()
@pass_session
def list_jobs(
    session: Session,
    states: tuple[JobState, ...],
    of_import: str | None,
    machine: str | None,
    is_due: bool,
    requested: bool,
    after: str | None,
    limit: int,
) -> None:
    """List jobs by due date."""
    conn = session.connect()
    found = reading.jobs(
        conn,
        states=states or None,
        code_import_id=find_import(conn, of_import).id if of_import else None,
        machine_id=find_machine(conn, machine).id if machine else None,
        due=is_due,
        requested=requested,
        after=_place(after) if after else None,
        limit=limit,
    )
    print_rows(session, found, _columns(reading.now(conn)), none="no jobs")
    if len(found) == limit:
        last = found[-1]
        click.echo(f"more, perhaps: --after {last.date_due.isoformat()}/{last.id}", err=True)


@job.command("show", section=LOOK, examples=["job show 7", "job show project/repo"])
@job_argument
@pass_session
def show_job(session: Session, name: str) -> None:
    """Show a job, with the newest lines of its log while it runs."""
    conn, client = session.open()
    line = find_job(conn, name)
    full = client.job_get(line.id)
    if session.json:
        print_json(full)
        return
    print_facts(_facts(line, reading.now(conn)))
    print_log_tail(full.logtail if full else None)


@job.command("get", section=LOOK, sql="code_import_job_get", examples=["job get 7 --json"])
@click.argument("job_id", type=ID)
@pass_session
def get_job(session: Session, job_id: int) -> None:
    """Show a job by its id; ends with 3 when that run has ended, or never was."""
    conn, client = session.open()
    found = client.job_get(job_id)
    if found is None:
        nothing(f"job {job_id} is not there: its run has ended, or never was", session=session)
    if session.json:
        print_json(found)
    else:
        print_facts(_facts(find_job(conn, str(job_id)), reading.now(conn)))


@job.command(
    "next-due",
    section=LOOK,
    sql="code_import_job_next_due",
    examples=["job next-due", "job next-due --hostname build1 --type git"],
)
@click.option("--hostname", help="Among what this machine may take.")
@type_option
@pass_session
def next_due(session: Session, hostname: str | None, rcs_types: tuple[RcsType, ...]) -> None:
    """Print when there may be work next; ends with 3 when no such time is known."""
    conn, client = session.open()
    time = client.job_next_due(hostname, rcs_types or None)
    if time is None:
        nothing("nothing is due, now or later", session=session)
    tell(session, time, exact(time, reading.now(conn)))


@job.command(
    "is-overdue", section=LOOK, sql="code_import_job_is_overdue", examples=["job is-overdue 7"]
)
@job_argument
@pass_session
def is_overdue(session: Session, name: str) -> None:
    """Say whether a job's due time has come: ends with 0 if so, with 3 if not."""
    conn, client = session.open()
    found = client.job_get(find_job(conn, name).id)
    if found is None:
        nothing("its run has ended", session=session)
    overdue = client.job_is_overdue(found)
    judged = "is overdue" if overdue else "is not due yet"
    when = exact(found.date_due, reading.now(conn))
    tell(session, overdue, f"job {found.id} {judged}: {when}")
    if not overdue:
        raise click.exceptions.Exit(NOTHING)


@job.command(
    "reclaimable", section=LOOK, sql="code_import_job_reclaimable", examples=["job reclaimable"]
)
@pass_session
def reclaimable(session: Session) -> None:
    """List running jobs that have been silent for too long."""
    conn, client = session.open()
    found = client.job_reclaimable()
    now = reading.now(conn)
    if session.json:
        print_json(found)
        return
    lines = reading.jobs(conn, job_ids=[stale.id for stale in found], limit=len(found))
    silent = Column[reading.JobLine]("SILENT", lambda line: _silence(line, now))
    print_rows(session, lines, [*_columns(now), silent], none="no silent runs")


# What operators do


@job.command("request", section=STEER, sql="code_import_job_request", examples=["job request 7"])
@job_argument
@person_option
@pass_session
def request_job(session: Session, name: str, person: str) -> None:
    """Make a waiting job due now, in your name."""
    conn, client = session.open()
    asked = client.job_request(find_job_id(conn, name), person)
    tell(session, asked, f"job {asked.id} is {due(asked.date_due, reading.now(conn))}")


@job.command("kill", section=STEER, sql="code_import_job_kill", examples=["job kill project/repo"])
@job_argument
@person_option
@pass_session
def kill_job(session: Session, name: str, person: str) -> None:
    """Tell the worker of a run to stop; it does so at its next heartbeat."""
    conn, client = session.open()
    killed = client.job_kill(find_job_id(conn, name), person)
    tell(session, killed, f"job {killed.id} will stop, for {killed.kill_requested_by}")


@job.command(
    "schedule",
    section=STEER,
    sql="code_import_job_schedule",
    examples=[
        "job schedule project/repo build1",
        "job schedule 7 build1 --ordering 1",
        "job schedule 7 --unpin",
    ],
)
@job_argument
@click.argument("machine", required=False)
@click.option("--unpin", is_flag=True, help="Let any machine take it.")
@click.option("--ordering", type=COUNT, metavar="N", help="Its place: lower goes first.")
@person_option
@pass_session
def schedule_job(
    session: Session, name: str, machine: str | None, unpin: bool, ordering: int | None, person: str
) -> None:
    """Pin a waiting job to MACHINE, and set its place in the queue, for its next run."""
    if (machine is None) != unpin:
        raise click.UsageError("Name a machine, or say --unpin.")
    conn, client = session.open()
    job_id = find_job_id(conn, name)
    machine_id = find_machine(conn, machine).id if machine else None
    pinned = client.job_schedule(job_id, machine_id, ordering, person)
    where = f"pinned to {machine}" if machine else "for any machine"
    tell(session, pinned, f"job {pinned.id} is {where}, {due(pinned.date_due, reading.now(conn))}")


@job.command("reclaim", section=STEER, sql="code_import_job_reclaim", examples=["job reclaim 7"])
@job_argument
@pass_session
def reclaim_job(session: Session, name: str) -> None:
    """End a run whose worker is dead; the import has a new job, due now."""
    conn, client = session.open()
    result = client.job_reclaim(find_job_id(conn, name))
    tell(session, result, f"job {result.job_id} is reclaimed: result {result.id}")


@job.command(
    "reclaim-stale",
    section=STEER,
    sql="code_import_job_reclaim_stale",
    examples=["job reclaim-stale", "job reclaim-stale --max-jobs 10 --json"],
)
@click.option("--max-jobs", type=COUNT, metavar="N", default=1000, show_default=True)
@pass_session
def reclaim_stale(session: Session, max_jobs: int) -> None:
    """Reclaim the runs that have been silent for too long; safe at any time."""
    _, client = session.open()
    count = client.job_reclaim_stale(max_jobs)
    tell(session, count, f"{count} reclaimed")


@job.command("new", section=STEER, sql="code_import_job_new", examples=["job new project/repo"])
@import_argument
@click.option("--interval", metavar="TIME", help="Since its newest start, such as '6 h'.")
@pass_session
def new_job(session: Session, name: str, interval: str | None) -> None:
    """Make the job of a reviewed import that has none; others do so by themselves."""
    conn, client = session.open()
    made = client.job_new(find_import(conn, name).id, interval)
    tell(session, made, f"job {made.id} is {due(made.date_due, reading.now(conn))}")


@job.command(
    "delete-pending",
    section=STEER,
    sql="code_import_job_delete_pending",
    examples=["job delete-pending project/repo"],
)
@import_argument
@pass_session
def delete_pending(session: Session, name: str) -> None:
    """Delete the waiting job of an import that is not reviewed."""
    conn, client = session.open()
    imp = find_import(conn, name)
    client.job_delete_pending(imp.id)
    tell(session, None, f"the job of import {imp.id}, {imp.target}, is deleted")


# What workers do


@job.command(
    "for-machine",
    section=WORK,
    sql="code_import_job_for_machine",
    examples=["job for-machine build1 3 --type git --json"],
)
@click.argument("hostname")
@click.argument("worker_limit", type=COUNT)
@type_option
@pass_session
def job_for_machine(
    session: Session, hostname: str, worker_limit: int, rcs_types: tuple[RcsType, ...]
) -> None:
    """Claim one due job for a machine, started; ends with 3 when there is none for it.

    The run is yours from then on: beat (`job heartbeat`) every minute or so, and finish it. A run
    that is silent for maximum_heartbeat_interval, five minutes unless changed, is reclaimed.
    """
    _, client = session.open()
    claimed = client.job_for_machine(hostname, worker_limit, rcs_types or None)
    if claimed is None:
        nothing("nothing to do", session=session)
    tell(session, claimed, _claimed(claimed))


@job.command(
    "claim",
    section=WORK,
    sql="code_import_job_claim",
    examples=["job claim build1 --limit 3 --max-jobs 3 --json"],
)
@click.argument("hostname")
@click.option(
    "--limit",
    "worker_limit",
    type=COUNT,
    metavar="N",
    default=1,
    show_default=True,
    help="How many jobs this machine runs at most, with those that it runs.",
)
@click.option(
    "--max-jobs",
    type=COUNT,
    metavar="N",
    default=1,
    show_default=True,
    help="How many to claim at most.",
)
@type_option
@pass_session
def claim_jobs(
    session: Session,
    hostname: str,
    worker_limit: int,
    max_jobs: int,
    rcs_types: tuple[RcsType, ...],
) -> None:
    """Claim due jobs for a machine, started; ends with 3 when there is none for it.

    The runs are yours from then on: beat (`job heartbeats`) every minute or so, and finish them.
    A run that is silent for maximum_heartbeat_interval, five minutes unless changed, is reclaimed.
    """
    _, client = session.open()
    claimed = client.job_claim(hostname, worker_limit, max_jobs, rcs_types or None)
    columns = [
        Column[Assignment]("ID", lambda row: row.id, right=True),
        Column[Assignment]("TARGET", lambda row: row.target, folds=True),
        Column[Assignment]("TYPE", lambda row: row.rcs_type),
        Column[Assignment]("SOURCE", _source, folds=True),
    ]
    print_rows(session, claimed, columns, none="nothing to do")
    if not claimed:
        raise click.exceptions.Exit(NOTHING)


@job.command("start", section=WORK, sql="code_import_job_start", examples=["job start 7 build1"])
@job_argument
@click.argument("machine")
@pass_session
def start_job(session: Session, name: str, machine: str) -> None:
    """Start one job on an online machine, whether it is due or not."""
    conn, client = session.open()
    started = client.job_start(find_job_id(conn, name), find_machine(conn, machine).id)
    tell(session, started, f"job {started.id} is running on {machine}")


@job.command(
    "heartbeat",
    section=WORK,
    sql="code_import_job_update_heartbeat",
    examples=["job heartbeat 7", "job heartbeat 7 --log run.log"],
)
@click.argument("job_id", type=ID)
@click.option("--log", type=click.File("rb"), metavar="FILE", help="Its newest lines are shown.")
@pass_session
def heartbeat(session: Session, job_id: int, log: BinaryIO | None) -> None:
    """Say that a run is alive, and print the answer: continue or stop.

    At `stop`, end the run and finish it as killed. A refusal with IJ410 means that it has ended
    without you: stop, and publish nothing.
    """
    _, client = session.open()
    directive = client.job_update_heartbeat(job_id, _as_text(log.read()) if log else None)
    tell(session, directive, directive)


@job.command(
    "heartbeats",
    section=WORK,
    sql="code_import_job_update_heartbeats",
    examples=["job heartbeats 7 8 9"],
)
@click.argument("job_ids", metavar="JOB_ID...", type=ID, nargs=-1, required=True)
@pass_session
def heartbeats(session: Session, job_ids: tuple[int, ...]) -> None:
    """Say that runs are alive, and print the answers: continue, stop or gone."""
    _, client = session.open()
    answers = client.job_update_heartbeats(job_ids, [None] * len(job_ids))
    columns = [
        Column[JobDirective]("JOB", lambda row: row.job_id, right=True),
        Column[JobDirective]("DIRECTIVE", lambda row: row.directive),
    ]
    print_rows(session, answers, columns, none="no runs given")


@job.command(
    "finish",
    section=WORK,
    sql="code_import_job_finish",
    examples=["job finish 7 success --log run.log", "job finish 7 failure_invalid"],
)
@click.argument("job_id", type=ID)
@click.argument("status", type=click.Choice(get_args(FinishStatus)), metavar="STATUS")
@click.option("--log", type=click.File("rb"), metavar="FILE", help="Store this as its whole log.")
@click.option("--log-file-id", type=ID, metavar="ID", help="Its log, stored before.")
@pass_session
def finish_job(
    session: Session,
    job_id: int,
    status: FinishStatus,
    log: BinaryIO | None,
    log_file_id: int | None,
) -> None:
    """End a run with STATUS; again with the same one, the same result is returned.

    \b
    success, success_nochange  all is fetched
    success_partial            there is more to fetch: run again at once
    failure, failure_invalid, failure_unsupported_feature,
    failure_forbidden, failure_remote_broken   the source's
    internal_failure           ours
    killed                     after the answer stop
    """
    if log and log_file_id is not None:
        raise click.UsageError("Give --log or --log-file-id, not both.")
    conn, client = session.open()
    with conn.transaction():
        if log:
            log_file_id = client.log_file_new(job_id, log.read())
        result = client.job_finish(job_id, status, log_file_id)
    tell(session, result, f"job {job_id} is finished as {result.status}: result {result.id}")


@job.command(
    "finish-many",
    section=WORK,
    sql="code_import_job_finish_many",
    examples=["job finish-many 7=success 8=failure", "job finish-many 7=success,31"],
)
@click.argument("runs", metavar="JOB_ID=STATUS[,LOG_FILE_ID]...", nargs=-1, required=True)
@pass_session
def finish_jobs(session: Session, runs: tuple[str, ...]) -> None:
    """End many runs in one transaction; a refused one does not undo the others.

    Ends with 1 if any was refused.
    """
    job_ids, statuses, log_file_ids = zip(*map(_finish, runs), strict=True)
    _, client = session.open()
    rows = client.job_finish_many(job_ids, statuses, log_file_ids)
    columns = [
        Column[Finished]("JOB", lambda row: row.job_id, right=True),
        Column[Finished]("RESULT", lambda row: row.result_id, right=True),
        Column[Finished]("STATUS", lambda row: row.status),
        Column[Finished]("REFUSED", lambda row: row.error_code),
        Column[Finished]("BECAUSE", lambda row: row.message, folds=True),
    ]
    print_rows(session, rows, columns, none="no runs given")
    refused = sum(row.error_code is not None for row in rows)
    if refused:
        raise Failure(f"{refused} of {len(rows)} runs could not be finished")


@job.command("release", section=WORK, sql="code_import_job_release", examples=["job release 7"])
@job_argument
@pass_session
def release_job(session: Session, name: str) -> None:
    """Give a run back undone: nothing is counted, and another worker may take it."""
    conn, client = session.open()
    job_id = find_job_id(conn, name)
    after = client.job_release(job_id)
    follows = f"job {after.id} takes its place" if after else "no job follows"
    tell(session, after, f"job {job_id} is given back; {follows}")


# What they share


def _place(text: str) -> tuple[datetime, int]:
    time, _, job_id = text.rpartition("/")
    try:
        return datetime.fromisoformat(time), int(job_id)
    except ValueError as err:
        raise click.UsageError("--after takes what the page before it said.") from err


def _finish(text: str) -> tuple[int, Any, int | None]:
    job_id, _, rest = text.partition("=")
    status, _, log_file_id = rest.partition(",")
    try:
        return int(job_id), status, int(log_file_id) if log_file_id else None
    except ValueError as err:
        raise click.UsageError(f"{text} is not JOB_ID=STATUS[,LOG_FILE_ID].") from err


def _as_text(log: bytes) -> str:
    """Text as PostgreSQL takes it: no bytes that are not UTF-8, and no NUL."""
    return log.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _when(line: JobLine, now: datetime) -> str:
    if line.state == "running" and line.date_started:
        return f"for {span(now - line.date_started)}"
    return due(line.date_due, now)


def _silence(line: JobLine, now: datetime) -> str:
    return span(now - line.heartbeat) if line.heartbeat else ""


def _source(claimed: Assignment) -> str:
    return claimed.url or f"{claimed.cvs_root} {claimed.cvs_module}"


def _claimed(claimed: Assignment) -> str:
    return f"job {claimed.id} is yours: {claimed.rcs_type} {_source(claimed)} to {claimed.target}"


def _columns(now: datetime) -> list[Column[JobLine]]:
    return [
        Column("ID", lambda line: line.id, right=True),
        Column("TARGET", lambda line: line.target, folds=True),
        Column("STATE", lambda line: "stopping" if line.kill_requested_by else line.state),
        Column("WHEN", lambda line: _when(line, now)),
        Column("MACHINE", lambda line: line.hostname, folds=True),
        Column("FOR", lambda line: line.requesting_user, folds=True),
        Column("ORDER", lambda line: line.ordering, right=True),
    ]


def _facts(line: JobLine, now: datetime) -> list[tuple[str, object]]:
    return [
        ("job", line.id),
        ("import", f"{line.code_import_id}, {line.target}"),
        ("type", line.rcs_type),
        ("state", line.state),
        ("due", exact(line.date_due, now)),
        ("requested by", line.requesting_user),
        ("ordering", line.ordering),
        ("machine", line.hostname),
        ("started", exact(line.date_started, now)),
        ("heartbeat", exact(line.heartbeat, now)),
        ("to be stopped", line.kill_requested_by and f"for {line.kill_requested_by}"),
        ("once more", line.again_requested_by and f"for {line.again_requested_by}"),
    ]
