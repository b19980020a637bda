"""Questions to the public views: what the command line shows, and what a worker must know.

Functions take any psycopg 3 connection, change nothing and never commit. A ``…Line`` is a row of
a listing: the record, and the names behind its ids. Listings have a limit, and the place after
which (or, newest first, before which) the next page begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString, TypeVar, get_args

from .models import (
    Assignment,
    Credential,
    Event,
    EventType,
    HeldRef,
    Import,
    JobState,
    LogFile,
    Machine,
    MachineState,
    Mirror,
    RcsType,
    RefChange,
    ResultStatus,
    ReviewStatus,
    Setting,
)
from .wire import fetch_all, fetch_listing, fetch_maybe, fetch_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from psycopg import Connection


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ImportLine(Import):
    """An import, and the job that it has."""

    columns: ClassVar[LiteralString] = (
        Import.columns + ", job_id, job_state, date_due, date_started, requesting_user"
    )

    job_id: int | None
    job_state: JobState | None
    date_due: datetime | None
    date_started: datetime | None
    requesting_user: str | None


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job without its log, with the names of its import and machine."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, target, rcs_type, machine_id, hostname, date_due, state,"
        " requesting_user, ordering, heartbeat, date_started, kill_requested_by, again_requested_by"
    )

    id: int
    date_created: datetime
    code_import_id: int
    target: str
    rcs_type: RcsType
    machine_id: int | None
    hostname: str | None
    date_due: datetime
    state: JobState
    requesting_user: str | None
    ordering: int | None
    heartbeat: datetime | None
    date_started: datetime | None
    kill_requested_by: str | None
    again_requested_by: str | None


@dataclass(frozen=True, slots=True)
class MachineLine(Machine):
    """A machine, and how many jobs it runs and has pinned to it."""

    columns: ClassVar[LiteralString] = Machine.columns + ", running, scheduled"

    running: int
    scheduled: int


@dataclass(frozen=True, slots=True)
class EventLine(Event):
    """An event with the names of its import and machine, while these exist."""

    columns: ClassVar[LiteralString] = Event.columns + ", target, hostname"

    target: str | None
    hostname: str | None


@dataclass(frozen=True, slots=True)
class CredentialLine(Credential):
    """A credential, with the name of its import."""

    columns: ClassVar[LiteralString] = Credential.columns + ", target"

    target: str | None


@dataclass(frozen=True, slots=True)
class ResultLine:
    """A result with names, and the last line of the log in place of the log."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, target, machine_id, hostname, job_id, requesting_user,"
        " status, date_job_started, job_duration, log_file_id, last_line"
    )

    id: int
    date_created: datetime
    code_import_id: int
    target: str | None
    machine_id: int
    hostname: str | None
    job_id: int
    requesting_user: str | None
    status: ResultStatus
    date_job_started: datetime
    job_duration: timedelta
    log_file_id: int | None
    last_line: str | None


@dataclass(frozen=True, slots=True)
class ResultInFull(ResultLine):
    """A result with names, and the excerpt of its log."""

    columns: ClassVar[LiteralString] = ResultLine.columns + ", log_excerpt"

    log_excerpt: str | None


@dataclass(frozen=True, slots=True)
class ApiLine:
    """A function that programs may call, and the sentence that says what it does."""

    columns: ClassVar[LiteralString] = "function, arguments, result, does"

    function: str
    arguments: str
    result: str
    does: str


_IMPORT_LINES: LiteralString = f"""
select {ImportLine.columns}
from vcs.code_import as imp
left join lateral (
    select job.id as job_id, job.state as job_state,
           job.date_due, job.date_started, job.requesting_user
    from vcs.code_import_job as job
    where job.code_import_id = imp.id
) as job on true
"""

# What waits lies in three indexes, by (machine that it is pinned to or 0, rcs_type, date_due, id):
# ordinary jobs, requested ones, and those with an ordering. What runs lies in a fourth. So the head
# of each range is read, and no more. The conditions are those of the indexes, word for word.

_ORDINARY: LiteralString = """
    job.state in ('pending', 'scheduled') and job.requesting_user is null and job.ordering is null
"""
_REQUESTED: LiteralString = """
    job.state in ('pending', 'scheduled') and job.requesting_user is not null
    and job.ordering is null
"""
_ORDERED: LiteralString = """
    job.state in ('pending', 'scheduled') and job.ordering is not null
"""
_JOB: LiteralString = """
    select job.id, job.date_created, job.code_import_id, job.machine_id, job.date_due, job.state,
           job.requesting_user, job.ordering, job.heartbeat, job.date_started,
           job.kill_requested_by, job.again_requested_by, job.rcs_type
    from vcs.code_import_job as job
"""
_PAGE: LiteralString = """
    and (job.date_due, job.id) > (%(after_due)s::timestamptz, %(after_id)s::bigint)
    and (not %(due)s or job.date_due <= now())
    and (not %(requested)s or job.requesting_user is not null)
    order by job.date_due, job.id
    limit %(limit)s
"""
_PENDING: LiteralString = f"""
    select job.*
    from (values ('git'), ('svn'), ('hg'), ('cvs'), ('bzr')) as type (rcs_type)
    cross join lateral (
        ({_JOB} where {_ORDINARY}
            and coalesce(job.machine_id, 0) = 0 and job.rcs_type = type.rcs_type {_PAGE})
        union all
        ({_JOB} where {_REQUESTED}
            and coalesce(job.machine_id, 0) = 0 and job.rcs_type = type.rcs_type {_PAGE})
        union all
        ({_JOB} where {_ORDERED}
            and coalesce(job.machine_id, 0) = 0 and job.rcs_type = type.rcs_type {_PAGE})
    ) as job
"""
_SCHEDULED: LiteralString = f"""
    select job.*
    from vcs.code_import_machine as machine
    cross join lateral (
        ({_JOB} where {_ORDINARY} and coalesce(job.machine_id, 0) = machine.id {_PAGE})
        union all
        ({_JOB} where {_REQUESTED} and coalesce(job.machine_id, 0) = machine.id {_PAGE})
        union all
        ({_JOB} where {_ORDERED} and coalesce(job.machine_id, 0) = machine.id {_PAGE})
    ) as job
    where %(machine_id)s::bigint is null or machine.id = %(machine_id)s::bigint
"""
_RUNNING: LiteralString = f"""
    {_JOB} where job.state = 'running'
      and (%(machine_id)s::bigint is null or job.machine_id = %(machine_id)s::bigint) {_PAGE}
"""
_IN_STATE: dict[JobState, LiteralString] = {
    "pending": _PENDING,
    "scheduled": _SCHEDULED,
    "running": _RUNNING,
}
_OF_AN_IMPORT: LiteralString = f"{_JOB} where job.code_import_id = %(code_import_id)s::bigint"
_BY_ID: LiteralString = """
    select job.*
    from unnest(%(job_ids)s::bigint[]) as given (job_id)
    cross join lateral vcs.code_import_job_get(given.job_id) as job
"""

_JOB_NAMES: LiteralString = """
join lateral (
    select imp.target from vcs.code_import as imp where imp.id = job.code_import_id
) as imp on true
left join lateral (
    select machine.hostname from vcs.code_import_machine as machine
    where machine.id = job.machine_id
) as machine on true
order by job.date_due, job.id
"""

_MACHINE_LINES: LiteralString = f"""
select {MachineLine.columns}
from vcs.code_import_machine as machine
cross join lateral (
    select count(*) as running
    from vcs.code_import_job as job
    where job.state = 'running' and job.machine_id = machine.id
) as run
cross join lateral (
    select count(*) as scheduled
    from vcs.code_import_job as job
    where coalesce(job.machine_id, 0) = machine.id and job.state in ('pending', 'scheduled')
      and (({_ORDINARY}) or ({_ORDERED}) or ({_REQUESTED}))
) as waiting
"""

_NAMES: LiteralString = """
left join lateral (
    select imp.target from vcs.code_import as imp where imp.id = record.code_import_id
) as imp on true
left join lateral (
    select machine.hostname from vcs.code_import_machine as machine
    where machine.id = record.machine_id
) as machine on true
"""

_NEWEST: LiteralString = """
    order by record.id desc
    limit %(limit)s
"""
_EVENTS: LiteralString = """
    select record.*
    from vcs.code_import_event as record
    where (%(code_import_id)s::bigint is null
           or record.code_import_id = %(code_import_id)s::bigint)
      and (%(machine_id)s::bigint is null or record.machine_id = %(machine_id)s::bigint)
      and (%(person)s::text is null or record.person = %(person)s::text)
      and (%(before)s::bigint is null or record.id < %(before)s::bigint)
"""
# Each type is a part, so that it is a range of an index in the order of ids, and named in it, so
# that the planner knows how rare it is.
_EVENTS_OF_TYPE: dict[EventType, LiteralString] = {
    event_type: f"({_EVENTS} and record.event_type = '{event_type}' {_NEWEST})"
    for event_type in get_args(EventType)
}

_RESULTS: LiteralString = f"""
from (
    select result.*,
           reverse(split_part(
               ltrim(reverse(right(result.log_excerpt, 2000)), E' \\t\\r\\n'), E'\\n', 1
           )) as last_line
    from vcs.code_import_result as result
) as record
{_NAMES}
"""


def now(conn: Connection[Any]) -> datetime:
    """Return the database's time, from which ages and waits are to be counted."""
    time: datetime = fetch_value(conn, "select now()")
    return time


def imports(
    conn: Connection[Any],
    *,
    statuses: Sequence[ReviewStatus] | None = None,
    rcs_types: Sequence[RcsType] | None = None,
    owner: str | None = None,
    url: str | None = None,
    text: str | None = None,
    after: str = "",
    limit: int = 50,
) -> list[ImportLine]:
    """Return imports by target: of any of these statuses and types, registered with this ``url``
    letter for letter, with ``text`` in their target or url. ``after`` is the target before this
    page."""
    return fetch_listing(
        conn,
        ImportLine,
        _IMPORT_LINES
        + """
        where (%(statuses)s::text[] is null or imp.review_status = any (%(statuses)s::text[]))
          and (%(rcs_types)s::text[] is null or imp.rcs_type = any (%(rcs_types)s::text[]))
          and (%(owner)s::text is null or imp.owner = %(owner)s::text)
          and (%(url)s::text is null or imp.url = %(url)s::text)
          and (%(text)s::text is null
               or strpos(lower(imp.target), lower(%(text)s::text)) > 0
               or strpos(lower(imp.url), lower(%(text)s::text)) > 0)
          and imp.target > %(after)s::text
        order by imp.target
        limit %(limit)s
        """,
        statuses=_array(statuses),
        rcs_types=_array(rcs_types),
        owner=owner,
        url=url,
        text=text,
        after=after,
        limit=limit,
    )


def sources(conn: Connection[Any], targets: Sequence[str]) -> list[Import]:
    """Return the imports of these targets."""
    return fetch_all(
        conn,
        Import,
        f"select {Import.columns} from vcs.code_import where target = any (%s::text[])",
        list(targets),
    )


def imports_named(conn: Connection[Any], name: str) -> list[ImportLine]:
    """Return the import of this target or, for a number, this id: two if a target is a number."""
    return fetch_all(
        conn,
        ImportLine,
        _IMPORT_LINES + " where imp.target = %s or imp.id = %s::bigint order by imp.id",
        name,
        as_id(name),
    )


def jobs(
    conn: Connection[Any],
    *,
    job_ids: Sequence[int] | None = None,
    states: Sequence[JobState] | None = None,
    code_import_id: int | None = None,
    machine_id: int | None = None,
    due: bool = False,
    requested: bool = False,
    after: tuple[datetime, int] | None = None,
    limit: int = 50,
) -> list[JobLine]:
    """Return jobs by due date: ``due`` ones alone are those whose time has come and which do not
    run yet. ``after`` is the (date_due, id) before this page."""
    if job_ids is not None:
        which = _BY_ID
    elif code_import_id is not None:
        which = _OF_AN_IMPORT
    else:
        left_out = {"running"} if due else set()
        wanted = [state for state in states or get_args(JobState) if state not in left_out]
        which = " union all ".join(f"({_IN_STATE[state]})" for state in dict.fromkeys(wanted))
        if not which:
            return []
    return fetch_listing(
        conn,
        JobLine,
        f"""
        select {JobLine.columns}
        from (
            select job.* from ({which}) as job
            where (%(code_import_id)s::bigint is null
                   or job.code_import_id = %(code_import_id)s::bigint)
              and (%(states)s::text[] is null or job.state = any (%(states)s::text[]))
              and (%(machine_id)s::bigint is null or job.machine_id = %(machine_id)s::bigint)
              and (not %(due)s or (job.date_due <= now() and job.state <> 'running'))
              and (not %(requested)s or job.requesting_user is not null)
              and (job.date_due, job.id) > (%(after_due)s::timestamptz, %(after_id)s::bigint)
            order by job.date_due, job.id
            limit %(limit)s
        ) as job
        {_JOB_NAMES}
        """,
        job_ids=_array(job_ids),
        states=_array(states),
        code_import_id=code_import_id,
        machine_id=machine_id,
        due=due,
        requested=requested,
        after_due=after[0] if after else "-infinity",
        after_id=after[1] if after else 0,
        limit=limit,
    )


def assignments(conn: Connection[Any], hostname: str) -> list[Assignment]:
    """Return the runs that the machine of this name has, by the database's account."""
    return fetch_all(
        conn,
        Assignment,
        f"""
        select {Assignment.columns}
        from vcs.code_import_assignment
        where machine_id = (
            select machine.id from vcs.code_import_machine as machine where machine.hostname = %s
        )
        order by id
        """,
        hostname,
    )


def machines(
    conn: Connection[Any],
    *,
    states: Sequence[MachineState] | None = None,
    after: str = "",
    limit: int = 50,
) -> list[MachineLine]:
    """Return machines by hostname, with their counts. ``after`` is the one before this page."""
    return fetch_listing(
        conn,
        MachineLine,
        _MACHINE_LINES
        + """
        where (%(states)s::text[] is null or machine.state = any (%(states)s::text[]))
          and machine.hostname > %(after)s::text
        order by machine.hostname
        limit %(limit)s
        """,
        states=_array(states),
        after=after,
        limit=limit,
    )


def machines_named(conn: Connection[Any], name: str) -> list[MachineLine]:
    """Return the machine of this hostname or, for a number, this id."""
    return fetch_all(
        conn,
        MachineLine,
        _MACHINE_LINES
        + " where machine.hostname = %s or machine.id = %s::bigint order by machine.id",
        name,
        as_id(name),
    )


def machine(conn: Connection[Any], hostname: str) -> Machine | None:
    """Return the machine of this hostname, or None."""
    return fetch_maybe(
        conn,
        Machine,
        f"select {Machine.columns} from vcs.code_import_machine where hostname = %s",
        hostname,
    )


def events(
    conn: Connection[Any],
    *,
    code_import_id: int | None = None,
    machine_id: int | None = None,
    event_types: Sequence[EventType] | None = None,
    person: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[EventLine]:
    """Return events, newest first. ``before`` is the id of the event before this page."""
    which = _EVENTS
    if event_types:
        parts = " union all ".join(_EVENTS_OF_TYPE[one] for one in sorted(set(event_types)))
        which = f"select record.* from ({parts}) as record"
    return fetch_listing(
        conn,
        EventLine,
        f"select {EventLine.columns} from ({which} {_NEWEST}) as record {_NAMES}"
        " order by record.id desc",
        code_import_id=code_import_id,
        machine_id=machine_id,
        person=person,
        before=before,
        limit=limit,
    )


def credentials(
    conn: Connection[Any],
    *,
    host: str | None = None,
    code_import_id: int | None = None,
    after: int = 0,
    limit: int = 50,
) -> list[CredentialLine]:
    """List credentials by id: those of a host, or of an import alone."""
    return fetch_listing(
        conn,
        CredentialLine,
        f"""
        select {CredentialLine.columns}
        from vcs.code_import_credential as record
        left join lateral (
            select imp.target from vcs.code_import as imp where imp.id = record.code_import_id
        ) as imp on true
        where (%(host)s::text is null or record.host = %(host)s)
          and (%(code_import_id)s::bigint is null or record.code_import_id = %(code_import_id)s)
          and record.id > %(after)s
        order by record.id
        limit %(limit)s
        """,
        host=host,
        code_import_id=code_import_id,
        after=after,
        limit=limit,
    )


def credential(conn: Connection[Any], credential_id: int) -> Credential | None:
    """Return the credential of this id, or None."""
    return fetch_maybe(
        conn,
        Credential,
        f"select {Credential.columns} from vcs.code_import_credential where id = %s",
        credential_id,
    )


def results(
    conn: Connection[Any],
    *,
    code_import_id: int | None = None,
    machine_id: int | None = None,
    statuses: Sequence[ResultStatus] | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[ResultLine]:
    """Return results, newest first. ``before`` is the id of the result before this page."""
    # A machine's are one range of its index, asked for as such: with an equality the planner would
    # rather walk past the results of all others, not knowing how few one machine has.
    of_machine: LiteralString = """
          and record.machine_id >= %(machine_id)s::bigint
          and (record.machine_id, record.id)
              <= (%(machine_id)s::bigint, coalesce(%(before)s::bigint - 1, 9223372036854775807))
        order by record.machine_id desc, record.id desc
    """
    of_all: LiteralString = """
          and (%(before)s::bigint is null or record.id < %(before)s::bigint)
        order by record.id desc
    """
    return fetch_listing(
        conn,
        ResultLine,
        f"select {ResultLine.columns} {_RESULTS}"
        f"""
        where (%(code_import_id)s::bigint is null
               or record.code_import_id = %(code_import_id)s::bigint)
          and (%(statuses)s::text[] is null or record.status = any (%(statuses)s::text[]))
          {of_all if machine_id is None else of_machine}
        limit %(limit)s
        """,
        code_import_id=code_import_id,
        machine_id=machine_id,
        statuses=_array(statuses),
        before=before,
        limit=limit,
    )


def result(conn: Connection[Any], result_id: int) -> ResultInFull | None:
    """Return one result, or None when it is no longer kept, or never was."""
    return fetch_maybe(
        conn,
        ResultInFull,
        f"select {ResultInFull.columns} {_RESULTS} where record.id = %s",
        result_id,
    )


def log_file(conn: Connection[Any], log_file_id: int) -> LogFile | None:
    """Return a whole log, or None when it is no longer kept."""
    return fetch_maybe(
        conn,
        LogFile,
        f"select {LogFile.columns} from vcs.code_import_log_file where id = %s",
        log_file_id,
    )


def settings(conn: Connection[Any]) -> list[Setting]:
    """Return all settings by name."""
    return fetch_all(
        conn, Setting, f"select {Setting.columns} from vcs.code_import_settings order by name"
    )


def setting(conn: Connection[Any], name: str) -> Setting | None:
    """Return one setting, or None when there is none of this name."""
    return fetch_maybe(
        conn,
        Setting,
        f"select {Setting.columns} from vcs.code_import_settings where name = %s",
        name,
    )


def setting_as_interval(conn: Connection[Any], name: str) -> timedelta | None:
    """Return a setting that is an interval, as one; None when it is not set."""
    span: timedelta | None = fetch_value(
        conn, "select value::interval from vcs.code_import_settings where name = %s", name
    )
    return span


def api(conn: Connection[Any]) -> list[ApiLine]:
    """Return the functions that programs may call, as the database lists them."""
    return fetch_all(
        conn, ApiLine, f"select {ApiLine.columns} from vcs.code_import_api order by function"
    )


def as_id(name: str) -> int | None:
    """Return the id that a text is, or None when it is not one."""
    if name.isascii() and name.isdigit() and len(name) < 20 and int(name) < 2**63:
        return int(name)
    return None


def _array(values: Sequence[Value] | None) -> list[Value] | None:
    return None if values is None else list(values)


def mirrors(
    conn: Connection[Any],
    *,
    held: bool = False,
    damaged: bool = False,
    after: str = "",
    limit: int = 50,
) -> list[Mirror]:
    """Return mirrors by target: all, those of which something is held, or that were damaged."""
    return fetch_listing(
        conn,
        Mirror,
        f"""
        select {Mirror.columns}
        from vcs.code_import_mirror as mirror
        where mirror.target > %(after)s::text
          and (not %(held)s or mirror.code_import_id in (
              select held.code_import_id from vcs.code_import_held_ref as held))
          and (not %(damaged)s or mirror.damage is not null)
        order by mirror.target
        limit %(limit)s
        """,
        held=held,
        damaged=damaged,
        after=after,
        limit=limit,
    )


def ref_changes(
    conn: Connection[Any],
    code_import_id: int,
    *,
    ref: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[RefChange]:
    """Return what has become of the refs of a mirror, newest first; ``before`` is an id."""
    return fetch_listing(
        conn,
        RefChange,
        f"""
        select {RefChange.columns}
        from vcs.code_import_ref_change as change
        where change.code_import_id = %(code_import_id)s::bigint
          and (%(ref)s::text is null or change.ref = %(ref)s::text)
          and (%(before)s::bigint is null or change.id < %(before)s::bigint)
        order by change.id desc
        limit %(limit)s
        """,
        code_import_id=code_import_id,
        ref=ref,
        before=before,
        limit=limit,
    )


def held_refs(conn: Connection[Any], code_import_id: int) -> list[HeldRef]:
    """Return what a mirror holds back, by name."""
    return fetch_all(
        conn,
        HeldRef,
        f"select {HeldRef.columns} from vcs.code_import_held_ref"
        " where code_import_id = %s order by ref",
        code_import_id,
    )


def instant(conn: Connection[Any], words: str) -> datetime:
    """Return the time that some words mean to the database. Raises psycopg.DataError."""
    when: datetime = fetch_value(conn, "select %s::timestamptz", words)
    return when


def seconds(conn: Connection[Any], setting: str) -> float:
    """Return a setting that is an interval, in seconds."""
    value: float = fetch_value(
        conn,
        "select extract(epoch from value::interval)::float8 from vcs.code_import_settings"
        " where name = %s",
        setting,
    )
    return value
