"""Rows of the database as frozen dataclasses.

Times are aware datetimes, spans are timedeltas, ids are ints; people and machines are names.
``columns`` of each class is what a query selects: named, so that a newer database may have more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, LiteralString

if TYPE_CHECKING:
    from datetime import datetime, timedelta

RcsType = Literal["git", "svn", "hg", "cvs", "bzr"]
ReviewStatus = Literal["new", "invalid", "reviewed", "suspended", "failing"]
JobState = Literal["pending", "scheduled", "running"]
MachineState = Literal["offline", "online", "quiescing"]
OfflineReason = Literal["stopped", "quiesced", "watchdog"]
Directive = Literal["continue", "stop", "gone"]
FinishStatus = Literal[
    "success",
    "success_nochange",
    "success_partial",
    "failure",
    "failure_invalid",
    "failure_unsupported_feature",
    "failure_forbidden",
    "failure_remote_broken",
    "internal_failure",
    "killed",
]
ResultStatus = Literal[FinishStatus, "reclaimed"]
CredentialRefusal = Literal["expired", "unencrypted"]
EventType = Literal[
    "create",
    "modify",
    "delete",
    "start",
    "finish",
    "publish",
    "reclaim",
    "release",
    "request",
    "kill",
    "online",
    "offline",
    "quiesce",
]


@dataclass(frozen=True, slots=True)
class Import:
    """A foreign repository that is mirrored again and again."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, registrant, owner, assignee, target, rcs_type, url, cvs_root,"
        " cvs_module, review_status, update_interval, effective_update_interval,"
        " date_last_successful, consecutive_failure_count"
    )

    id: int
    date_created: datetime
    registrant: str
    owner: str
    assignee: str | None
    target: str
    """Unique name of the mirror, such as ``project/repo``."""
    rcs_type: RcsType
    url: str | None
    """Where the code comes from, as it was given; None for cvs."""
    cvs_root: str | None
    cvs_module: str | None
    review_status: ReviewStatus
    update_interval: timedelta | None
    """None: the default of the rcs type."""
    effective_update_interval: timedelta
    date_last_successful: datetime | None
    """End of the newest run that left nothing to fetch."""
    consecutive_failure_count: int
    """Failures of the source since the last success."""


@dataclass(frozen=True, slots=True)
class Job:
    """The next run of an import, or the one going on. Its id names that one run for ever."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, machine_id, date_due, state, requesting_user,"
        " ordering, heartbeat, logtail, date_started, kill_requested_by, again_requested_by,"
        " rcs_type"
    )

    id: int
    date_created: datetime
    code_import_id: int
    machine_id: int | None
    """Where it runs, or is pinned to."""
    date_due: datetime
    """Not before."""
    state: JobState
    requesting_user: str | None
    ordering: int | None
    """Among due jobs that nobody requested, lower goes first, None last."""
    heartbeat: datetime | None
    """Last sign of life of the worker that runs it."""
    logtail: str | None
    """Newest lines of its log while it runs."""
    date_started: datetime | None
    kill_requested_by: str | None
    again_requested_by: str | None
    """Who gets a follow-up run as soon as this one ends."""
    rcs_type: RcsType


@dataclass(frozen=True, slots=True)
class Assignment(Job):
    """A running job, and what its worker must know of the import."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, machine_id, date_due, state, requesting_user,"
        " ordering, heartbeat, logtail, date_started, kill_requested_by, again_requested_by,"
        " rcs_type, url, cvs_root, cvs_module, target"
    )

    url: str | None
    cvs_root: str | None
    cvs_module: str | None
    target: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs jobs."""

    columns: ClassVar[LiteralString] = "id, date_created, hostname, state, heartbeat, owner_role"

    id: int
    date_created: datetime
    hostname: str
    state: MachineState
    heartbeat: datetime | None
    """When it last asked for work or beat for a job; it may lag by ten seconds."""
    owner_role: str | None
    """The database role that works as this machine; None until the first claim."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. It outlives what it speaks of."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, event_type, code_import_id, machine_id, person, data"
    )

    id: int
    date_created: datetime
    event_type: EventType
    code_import_id: int | None
    machine_id: int | None
    person: str | None
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Result:
    """How one run ended."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, machine_id, job_id, requesting_user, log_excerpt,"
        " log_file_id, status, date_job_started, job_duration"
    )

    id: int
    date_created: datetime
    """When it finished."""
    code_import_id: int
    machine_id: int
    job_id: int
    """The run."""
    requesting_user: str | None
    log_excerpt: str | None
    """The last lines of its log."""
    log_file_id: int | None
    """The whole log, while it is kept."""
    status: ResultStatus
    date_job_started: datetime
    job_duration: timedelta


@dataclass(frozen=True, slots=True)
class LogFile:
    """The whole log of a run, or the newest part of a very long one."""

    columns: ClassVar[LiteralString] = "id, date_created, job_id, size, content"

    id: int
    date_created: datetime
    job_id: int
    size: int
    """In bytes."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """A login that workers use at a host. What is secret in it is not here."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, host, username, key_name, allow_unencrypted,"
        " date_expires"
    )

    id: int
    date_created: datetime
    code_import_id: int | None
    """The only import that uses it; None: all from this host that have none of their own."""
    host: str
    """The only host that it is shown to, or ``host:port``."""
    username: str
    key_name: str
    """Which key its secret is sealed with."""
    allow_unencrypted: bool
    """Whether it may cross the network for others to read."""
    date_expires: datetime | None


@dataclass(frozen=True, slots=True)
class JobCredential(Credential):
    """The credential of a run, sealed, for :mod:`code_import.credentials` to open."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, host, username, key_name, allow_unencrypted,"
        " date_expires, secret, refusal"
    )

    secret: bytes | None = field(repr=False)
    refusal: CredentialRefusal | None
    """Why there is no secret."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting; values are texts in PostgreSQL's own forms, such as ``300 s`` or ``64 kB``."""

    columns: ClassVar[LiteralString] = "name, value, default_value, description"

    name: str
    value: str | None
    default_value: str | None
    description: str


@dataclass(frozen=True, slots=True)
class NewImport:
    """One row of ``new_many``: the new import's id, or why it was refused."""

    columns: ClassVar[LiteralString] = "target, code_import_id, error_code, message"

    target: str | None
    code_import_id: int | None
    error_code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One row of ``job_finish_many``: the run's result, or why it was refused."""

    columns: ClassVar[LiteralString] = "job_id, result_id, status, error_code, message"

    job_id: int
    result_id: int | None
    status: ResultStatus | None
    error_code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class JobDirective:
    """One row of ``job_update_heartbeats``: what the worker of this run must do now."""

    columns: ClassVar[LiteralString] = "job_id, directive"

    job_id: int
    directive: Directive


@dataclass(frozen=True, slots=True)
class Tidied:
    """What ``tidy_up`` did to the history, and how many silent machines it took offline."""

    columns: ClassVar[LiteralString] = (
        "partitions_made, partitions_dropped, partitions_due, results_kept, rows_deleted,"
        " rows_astray, machines"
    )

    partitions_made: int
    partitions_dropped: int
    partitions_due: int
    """Past their retention, and there still."""
    results_kept: int
    """Moved out of a partition that is due, being among the newest of their import."""
    rows_deleted: int
    rows_astray: int
    """In a partition for times that have none: something is wrong."""
    machines: int


RefChangeKind = Literal["new", "updated", "rewritten", "deleted", "restored"]
HeldDecision = Literal["accept", "keep"]


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror of an import, by what its runs have told."""

    columns: ClassVar[LiteralString] = (
        "code_import_id, target, maximum_loss_percent, refs_held, job_id, date_verified, damage,"
        " date_verification_due"
    )

    code_import_id: int
    target: str
    maximum_loss_percent: int
    """A run that would lose more of the branches, the tags or the commits holds it back."""
    refs_held: int
    """Changes at the source that are held back."""
    job_id: int | None
    """The newest run that has told of a change of refs."""
    date_verified: datetime | None
    """When all objects were read and checked last."""
    damage: str | None
    """What was wrong then."""
    date_verification_due: datetime | None
    """From when on a run reads and checks all of it."""


@dataclass(frozen=True, slots=True)
class RefChange:
    """What has become of one ref of a mirror."""

    columns: ClassVar[LiteralString] = (
        "id, date_created, code_import_id, job_id, kind, ref, old_value, new_value"
    )

    id: int
    date_created: datetime
    code_import_id: int
    job_id: int | None
    """The run that published it; None when a person restored it."""
    kind: RefChangeKind
    ref: str
    r"""Its full name, or ``HEAD``. A byte that is not UTF-8 is written ``\xff``."""
    old_value: str | None
    new_value: str | None


@dataclass(frozen=True, slots=True)
class HeldRef:
    """A change at the source that is held back until a person decides."""

    columns: ClassVar[LiteralString] = (
        "code_import_id, ref, kind, old_value, new_value, date_held, job_id, decision, person,"
        " date_decided"
    )

    code_import_id: int
    ref: str
    kind: RefChangeKind
    old_value: str | None
    """What the mirror has."""
    new_value: str | None
    """What the source has; None when it is gone there."""
    date_held: datetime
    job_id: int
    """The run that held it back first."""
    decision: HeldDecision | None
    person: str | None
    date_decided: datetime | None


@dataclass(frozen=True, slots=True)
class RefAsOf:
    """A ref that was something else at a date; None where it was, or is, not there."""

    columns: ClassVar[LiteralString] = "ref, value_then, value_now"

    ref: str
    value_then: str | None
    value_now: str | None
