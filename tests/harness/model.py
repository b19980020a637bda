"""What the calls are to do, in plain Python: the reference that a database is compared with.

One :class:`Model` is the whole database. Before a call it is told the time and who calls; a call
changes it and returns what the caller is to be told, or raises :class:`Refused`. It knows nothing
of SQL, of locks, or of how anything is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

SECOND = timedelta(seconds=1)
LONGEST = timedelta(days=3650)
MACHINE_LAG = 10 * SECOND
WIDTH = timedelta(hours=25)
"""How much longer than its retention something may be there."""

Caller = Literal["operator", "worker", "other_worker"]
WORKER_CALLS = frozenset(
    {
        *("job_claim", "job_for_machine", "job_start", "job_finish", "job_finish_many"),
        *("job_update_heartbeat", "job_update_heartbeats", "job_release", "job_reclaim"),
        *("log_file_new", "job_reclaim_stale", "tidy_up"),
        *("job_get", "job_next_due", "job_reclaimable"),
    }
)
STATUSES = (
    *("success", "success_nochange", "success_partial", "failure", "failure_invalid"),
    *("failure_unsupported_feature", "failure_forbidden", "failure_remote_broken"),
    *("internal_failure", "killed"),
)
REVIEW_STATUSES = ("new", "invalid", "reviewed", "suspended", "failing")
RCS_TYPES = ("git", "svn", "hg", "cvs", "bzr")

NORMAL_URLS: dict[str | None, str | None] = {
    "https://example.org/a": "https://example.org/a",
    "HTTPS://Example.ORG:443/a/": "https://example.org/a",
    "https://example.org/a.git": "https://example.org/a.git",
    "git@example.org:a": "ssh://git@example.org/a",
    "ssh://git@example.org/a": "ssh://git@example.org/a",
    "/srv/a": "file:///srv/a",
    "/srv/c": "file:///srv/c",
    "https://example.org/other": "https://example.org/other",
    "svn://example.org/a": "svn://example.org/a",
    "https://ada:secret@example.org/a": None,
    "gopher://example.org/a": None,
    "-https://example.org/a": None,
    "https://example.org/a b": None,
    None: None,
}
"""The urls that are used, in their normal form; None for one that cannot be."""
GOOD_TARGETS = ("a", "b", "c", "group/d", "group/e")
BAD_TARGETS = ("", "/a", "a/../b", "a.git", "-a", "a b", None)


class Refused(Exception):
    """A call is refused with this SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@dataclass(eq=False)
class Machine:
    """A machine; its id is learned from the database."""

    hostname: str
    date_created: datetime
    state: str = "offline"
    heartbeat: datetime | None = None
    owner_role: str | None = None
    id: int | None = None


@dataclass(eq=False)
class Job:
    """A job; its id is learned, and ids come in the order of the serials."""

    serial: int
    date_created: datetime
    date_due: datetime
    state: str = "pending"
    machine: Machine | None = None
    requesting_user: str | None = None
    ordering: int | None = None
    is_pinned: bool = False
    date_started: datetime | None = None
    heartbeat: datetime | None = None
    logtail: str | None = None
    kill_requested_by: str | None = None
    again_requested_by: str | None = None
    source_changed: bool = False
    id: int | None = None


@dataclass(eq=False)
class Import:
    """An import with its job, if it has one."""

    date_created: datetime
    registrant: str
    owner: str
    target: str
    rcs_type: str
    url: str | None
    cvs_root: str | None
    cvs_module: str | None
    review_status: str
    update_interval: timedelta | None
    assignee: str | None = None
    date_last_successful: datetime | None = None
    date_last_started: datetime | None = None
    date_last_ended: datetime | None = None
    failures: int = 0
    reclaims: int = 0
    job: Job | None = None
    last_job_id: int = 0
    is_deleted: bool = False
    id: int | None = None

    def source(self) -> tuple[str | None, ...]:
        """What it is imported from, in its normal form."""
        return (NORMAL_URLS[self.url], self.cvs_root, self.cvs_module)


@dataclass(eq=False)
class Result:
    """How a run ended."""

    date_created: datetime
    code_import: Import
    machine: Machine
    job: Job
    requesting_user: str | None
    log_excerpt: str
    log_file: LogFile | None
    status: str
    date_job_started: datetime
    id: int | None = None


@dataclass(eq=False)
class LogFile:
    """A stored log."""

    date_created: datetime
    job: Job
    content: bytes
    id: int | None = None


@dataclass(eq=False)
class Event:
    """Something that happened; ``data`` holds what has to be among its data."""

    event_type: str
    date_created: datetime
    code_import: Import | None = None
    machine: Machine | None = None
    person: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    job: Job | None = None
    """The run that is named in its data."""
    id: int | None = None


@dataclass
class Settings:
    """The settings that matter to the model."""

    maximum_heartbeat_interval: timedelta = timedelta(seconds=300)
    consecutive_failure_limit: int = 5
    maximum_retry_interval: timedelta = timedelta(days=30)
    default_interval_git: timedelta = timedelta(hours=6)
    default_interval_svn: timedelta = timedelta(hours=6)
    default_interval_hg: timedelta = timedelta(hours=6)
    default_interval_bzr: timedelta = timedelta(hours=6)
    default_interval_cvs: timedelta = timedelta(hours=12)
    logtail_limit: int = 65536
    log_file_limit: int = 16 << 20
    event_retention: timedelta = timedelta(days=30)
    result_retention: timedelta = timedelta(days=30)
    log_retention: timedelta = timedelta(days=30)
    results_kept: int = 5
    consecutive_reclaim_limit: int | None = None
    machine_silent_after: timedelta | None = None


Dated = TypeVar("Dated", Result, LogFile, Event)


@dataclass
class Model:
    """All imports, machines, results, logs and events."""

    now: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    caller: Caller = "operator"
    settings: Settings = field(default_factory=Settings)
    imports: list[Import] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    logs: list[LogFile] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ended_job_ids: list[int] = field(default_factory=list)
    serials: int = 0
    woken: bool = False
    """Whether the transaction that goes on wakes workers."""
    doubtful: list[Result | LogFile | Event] = field(default_factory=list)
    """What retention may have removed: history goes by whole partitions, a day wide at most."""
    has_forgotten: bool = False
    """Whether retention has removed any history."""

    # --- who and what ---------------------------------------------------------------------------

    def call(self, name: str, *arguments: Any) -> Any:
        """Make a call by the name that it has in the client."""
        if self.caller != "operator" and name not in WORKER_CALLS:
            raise Refused("42501")
        return getattr(self, name)(*arguments)

    def living(self) -> list[Import]:
        """The imports that are there."""
        return [one for one in self.imports if not one.is_deleted]

    def jobs(self) -> list[tuple[Import, Job]]:
        """The jobs that are there, each with its import."""
        return [(one, one.job) for one in self.living() if one.job is not None]

    def _import(self, import_id: int | None) -> Import:
        if import_id is None:
            raise Refused("IJ400")
        for one in self.living():
            if one.id == import_id:
                return one
        raise Refused("IJ404")

    def _job(self, job_id: int | None) -> tuple[Import, Job]:
        if job_id is None:
            raise Refused("IJ400")
        for one, job in self.jobs():
            if job.id == job_id:
                return one, job
        raise Refused("IJ410")

    def _run(self, job_id: int | None) -> tuple[Import, Job]:
        """A running job that the caller may act for."""
        one, job = self._job(job_id)
        if job.state != "running":
            raise Refused("IJ409")
        if not self._may_act_for(job.machine):
            raise Refused("IJ403")
        return one, job

    def _machine(self, machine_id: int | None) -> Machine:
        if machine_id is None:
            raise Refused("IJ400")
        for machine in self.machines:
            if machine.id == machine_id:
                return machine
        raise Refused("IJ404")

    def _may_act_for(self, machine: Machine | None) -> bool:
        if machine is None or machine not in self.machines or self.caller == "operator":
            return True
        return machine.owner_role in (None, self._role())

    def _role(self) -> str:
        return f"tester_{self.caller}"

    def _own(self, machine: Machine) -> None:
        """The first worker role to act as a machine owns it."""
        if machine.owner_role is None and self.caller != "operator":
            self._tell(
                "modify",
                machine=machine,
                data={"owner_role": self._role(), "old_owner_role": None},
            )
            machine.owner_role = self._role()

    def effective(self, one: Import) -> timedelta:
        """The interval in force."""
        default: timedelta = getattr(self.settings, f"default_interval_{one.rcs_type}")
        return one.update_interval or default

    def _tell(self, event_type: str, at: datetime | None = None, **what: Any) -> None:
        self.events.append(Event(event_type, at or self.now, **what))

    def _serial(self) -> int:
        self.serials += 1
        return self.serials

    def _wake_if_due(self, job: Job | None) -> None:
        if job is not None and job.date_due <= self.now:
            self.woken = True

    def pass_by(self, span: timedelta) -> None:
        """Let time go by: everything is so much older."""
        things: list[Any] = [*self.machines, *self.imports, *self.results, *self.logs]
        things += [*self.events, *(job for _, job in self.jobs())]
        for thing in things:
            for one in fields(thing):
                if isinstance(value := getattr(thing, one.name), datetime):
                    setattr(thing, one.name, value - span)

    # --- imports --------------------------------------------------------------------------------

    def new(
        self,
        registrant: str | None,
        target: str | None,
        rcs_type: str | None,
        url: str | None = None,
        cvs_root: str | None = None,
        cvs_module: str | None = None,
        review_status: str | None = "reviewed",
        owner: str | None = None,
        update_interval: timedelta | None = None,
    ) -> Import:
        one = Import(
            self.now,
            registrant or "",
            owner or registrant or "",
            target or "",
            rcs_type or "",
            url,
            cvs_root,
            cvs_module,
            review_status or "",
            update_interval,
        )
        self._check(one)
        self.imports.append(one)
        self._tell("create", code_import=one, person=registrant, data={"": record(one, self)})
        if review_status == "reviewed":
            self._job_new(one)
        return one

    def new_many(
        self, imports: list[dict[str, Any]], registrant: str | None
    ) -> list[tuple[str | None, Import | None, str | None]]:
        _check_person(registrant)
        rows: list[tuple[str | None, Import | None, str | None]] = []
        for given in imports:
            try:
                made = self.new(**{"registrant": registrant, **given})
                rows.append((given["target"], made, None))
            except Refused as refused:
                rows.append((given["target"], None, refused.sqlstate))
        return rows

    def _check(self, one: Import) -> None:
        """Refuse an import that cannot be, or that is there already."""
        _check_person(one.registrant)
        _check_person(one.owner)
        _check_person(one.assignee, needed=False)
        is_cvs = one.rcs_type == "cvs"
        source_fits = (
            one.url is None and None not in (one.cvs_root, one.cvs_module)
            if is_cvs
            else NORMAL_URLS[one.url] is not None and (one.cvs_root, one.cvs_module) == (None, None)
        )
        if (
            one.target not in GOOD_TARGETS
            or one.rcs_type not in RCS_TYPES
            or one.review_status not in REVIEW_STATUSES
            or not source_fits
            or not (one.update_interval is None or timedelta() < one.update_interval <= LONGEST)
        ):
            raise Refused("IJ400")
        for other in self.living():
            is_another = other.id != one.id or one.id is None
            if is_another and (other.target == one.target or other.source() == one.source()):
                raise Refused("23505")

    def update(
        self, import_id: int | None, changes: dict[str, Any], person: str | None = None
    ) -> dict[str, Any] | None:
        """Returns the data of the event, or None."""
        _check_person(person, needed=False)
        one = self._import(import_id)
        was = Import(**{f.name: getattr(one, f.name) for f in fields(Import)})
        was_interval = self.effective(one)
        before = record(one, self)
        wanted = Import(**{f.name: getattr(one, f.name) for f in fields(Import)})
        for key, value in changes.items():
            if key not in CHANGEABLE:
                raise Refused("IJ400")
            setattr(wanted, key, value)
        self._check(wanted)
        if all(getattr(one, key) == value for key, value in changes.items()):
            return None
        for key, value in changes.items():
            setattr(one, key, value)
        self._follow_change(one, was, was_interval)
        after = record(one, self)
        data = after | {
            f"old_{key}": before[key] for key in CHANGEABLE if before[key] != after[key]
        }
        self._tell("modify", code_import=one, person=person, data={"": data})
        return data

    def _follow_change(self, one: Import, was: Import, was_interval: timedelta) -> None:
        """What a change means for the counts and the job."""
        is_new_source = one.source() != was.source()
        if is_new_source or (was.review_status, one.review_status) == ("failing", "reviewed"):
            one.failures = one.reclaims = 0
        job = one.job
        if one.review_status != "reviewed":
            if job is not None and job.state == "running":
                job.again_requested_by = None
            else:
                one.job = None
        elif job is None:
            self._job_new(one)
        job = one.job
        if job is None:
            return
        if job.state == "running":
            job.source_changed |= is_new_source
            return
        due = job.date_due
        if is_new_source:
            due = min(due, self.now)
        elif self.effective(one) < was_interval and one.failures == 0:
            soonest = self.now
            if one.date_last_started is not None:
                soonest = max(self.now, one.date_last_started + self.effective(one))
            due = min(due, soonest)
        if due < job.date_due:
            job.date_due = due
            self._wake_if_due(job)

    def set_url(
        self, import_id: int | None, url: str | None, person: str | None
    ) -> dict[str, Any] | None:
        _check_person(person)
        return self.update(import_id, {"url": url}, person)

    def delete(self, import_id: int | None, person: str | None = None) -> None:
        _check_person(person, needed=False)
        one = self._import(import_id)
        self._tell("delete", code_import=one, person=person, data={"": record(one, self)})
        if one.job is not None:
            self._gone(one.job)
        one.job = None
        one.is_deleted = True

    def request(self, import_id: int | None, person: str | None, strictly: bool = False) -> Job:
        _check_person(person)
        one = self._import(import_id)
        if one.job is None:
            raise Refused("IJ409")
        if one.job.state != "running" and one.job.requesting_user and not strictly:
            return one.job
        return self.job_request(one.job.id, person)

    def request_again(self, import_id: int | None, person: str | None) -> Job:
        _check_person(person)
        one = self._import(import_id)
        if one.job is None or one.job.state != "running":
            return self.request(import_id, person)
        if one.review_status != "reviewed":
            raise Refused("IJ409")
        if one.job.again_requested_by is None:
            one.job.again_requested_by = person
            self._tell("request", code_import=one, person=person)
        return one.job

    def try_again(self, import_id: int | None, person: str | None) -> Job:
        _check_person(person)
        one = self._import(import_id)
        if one.review_status != "failing":
            raise Refused("IJ409")
        if one.job is not None:
            raise Refused("IJ423")
        self.update(import_id, {"review_status": "reviewed"}, person)
        job = next(job for other, job in self.jobs() if other is one)
        self._request(one, job, person)
        return job

    # --- jobs that wait -------------------------------------------------------------------------

    def _job_new(self, one: Import) -> None:
        due = self.now
        if one.date_last_started is not None:
            due = max(self.now, one.date_last_started + self.effective(one))
        created = max(self.now, one.date_last_ended or self.now)
        one.job = Job(self._serial(), created, due)
        self._wake_if_due(one.job)

    def job_new(self, import_id: int | None, _: timedelta | None = None) -> None:
        self._import(import_id)
        raise Refused("IJ409")

    def job_delete_pending(self, import_id: int | None) -> None:
        self._import(import_id)
        raise Refused("IJ409")

    def job_request(self, job_id: int | None, person: str | None) -> Job:
        _check_person(person)
        one, job = self._job(job_id)
        if job.state == "running":
            raise Refused("IJ423")
        if job.requesting_user is not None:
            raise Refused("IJ429")
        self._request(one, job, person)
        return job

    def _request(self, one: Import, job: Job, person: str | None) -> None:
        job.requesting_user = person
        job.date_due = min(job.date_due, self.now)
        self._tell("request", code_import=one, person=person)
        self.woken = True

    def job_schedule(
        self,
        job_id: int | None,
        machine_id: int | None,
        ordering: int | None = None,
        person: str | None = None,
    ) -> Job:
        _check_person(person, needed=False)
        machine = None if machine_id is None else self._machine(machine_id)
        one, job = self._job(job_id)
        if job.state == "running":
            raise Refused("IJ409")
        self._pin(one, job, machine, ordering, person)
        return job

    def _pin(
        self,
        one: Import,
        job: Job,
        machine: Machine | None,
        ordering: int | None,
        person: str | None,
    ) -> None:
        if (job.machine, job.ordering) == (machine, ordering):
            return
        data = {
            "machine_id": machine and machine.id,
            "old_machine_id": job.machine and job.machine.id,
            "ordering": ordering,
            "old_ordering": job.ordering,
        }
        self._tell("modify", code_import=one, machine=machine, person=person, data=data, job=job)
        job.machine, job.ordering = machine, ordering
        job.is_pinned = machine is not None
        job.state = "pending" if machine is None else "scheduled"
        self._wake_if_due(job)

    def job_get(self, job_id: int | None) -> Job | None:
        if job_id is None:
            raise Refused("IJ400")
        return next((job for _, job in self.jobs() if job.id == job_id), None)

    def job_next_due(
        self, hostname: str | None = None, rcs_types: list[str] | None = None
    ) -> datetime | None:
        if hostname == "":
            raise Refused("IJ400")
        machine = next((one for one in self.machines if one.hostname == hostname), None)
        if machine is not None and machine.state != "online":
            return None
        times = [
            job.date_due
            for one, job in self.jobs()
            if job.state == "pending" or (job.state == "scheduled" and job.machine is machine)
            if rcs_types is None or one.rcs_type in rcs_types
        ]
        times += [
            job.heartbeat + self.settings.maximum_heartbeat_interval
            for _, job in self.jobs()
            if job.heartbeat is not None
        ]
        return min(times, default=None)

    def job_reclaimable(self) -> list[Job]:
        return sorted((job for _, job in self._stale()), key=lambda job: (job.heartbeat, job.id))

    # --- claims ---------------------------------------------------------------------------------

    def job_for_machine(
        self, hostname: str | None, limit: int | None, rcs_types: list[str] | None = None
    ) -> Job | None:
        return next(iter(self.job_claim(hostname, limit, 1, rcs_types)), None)

    def job_claim(
        self,
        hostname: str | None,
        limit: int | None,
        max_jobs: int | None,
        rcs_types: list[str] | None = None,
    ) -> list[Job]:
        if not hostname or limit is None or max_jobs is None or min(limit, max_jobs) < 0:
            raise Refused("IJ400")
        machine = next((one for one in self.machines if one.hostname == hostname), None)
        if not self._may_act_for(machine):
            raise Refused("IJ403")
        self._reclaim_stale(100)
        if machine is None:
            machine = Machine(hostname, self.now, "online")
            if self.caller != "operator":
                machine.owner_role = self._role()
            self.machines.append(machine)
            self._tell("online", machine=machine)
        elif machine.state == "offline":
            return []
        self._own(machine)
        machine.heartbeat = self.now
        running = sum(job.machine is machine for _, job in self.jobs() if job.state == "running")
        if machine.state == "quiescing":
            if running == 0:
                machine.state = "offline"
                self._tell("offline", machine=machine, data={"reason": "quiesced"})
            return []
        chosen = self._due(machine, rcs_types)[: max(0, min(limit - running, max_jobs))]
        for one, job in chosen:
            self._start(one, job, machine)
        return [job for _, job in chosen]

    def _due(self, machine: Machine, rcs_types: list[str] | None) -> list[tuple[Import, Job]]:
        due = [
            (one, job)
            for one, job in self.jobs()
            if job.state == "pending" or (job.state == "scheduled" and job.machine is machine)
            if job.date_due <= self.now and (rcs_types is None or one.rcs_type in rcs_types)
        ]
        return sorted(
            due,
            key=lambda pair: (
                pair[1].requesting_user is None,
                pair[1].ordering is None,
                pair[1].ordering or 0,
                pair[1].date_due,
                pair[1].serial,
            ),
        )

    def _start(self, one: Import, job: Job, machine: Machine) -> None:
        job.state, job.machine, job.logtail = "running", machine, ""
        job.date_started = job.heartbeat = max(self.now, job.date_created)
        self._tell("start", job.date_started, code_import=one, machine=machine, job=job)

    def job_start(self, job_id: int | None, machine_id: int | None) -> Job:
        if job_id is None:
            raise Refused("IJ400")
        machine = self._machine(machine_id)
        if not self._may_act_for(machine):
            raise Refused("IJ403")
        if machine.state != "online":
            raise Refused("IJ409")
        one, job = self._job(job_id)
        if job.state == "running" or job.machine not in (None, machine):
            raise Refused("IJ409")
        self._own(machine)
        self._start(one, job, machine)
        return job

    # --- runs -----------------------------------------------------------------------------------

    def job_update_heartbeat(self, job_id: int | None, logtail: str | None) -> str:
        _, job = self._run(job_id)
        self._beat(job, logtail)
        return "stop" if job.kill_requested_by else "continue"

    def job_update_heartbeats(
        self, job_ids: list[int | None], logtails: list[str | None]
    ) -> list[tuple[int, str]]:
        _check_ids(job_ids, logtails)
        rows = []
        for job_id, logtail in zip(job_ids, logtails, strict=True):
            try:
                rows.append((job_id or 0, self.job_update_heartbeat(job_id, logtail)))
            except Refused:
                rows.append((job_id or 0, "gone"))
        return rows

    def _beat(self, job: Job, logtail: str | None) -> None:
        assert job.heartbeat is not None
        assert job.machine is not None
        job.heartbeat = max(self.now, job.heartbeat)
        job.machine.heartbeat = self.now
        if logtail is not None:
            newest = logtail.encode()[-self.settings.logtail_limit :]
            job.logtail = newest.decode(errors="ignore")

    def log_file_new(self, job_id: int | None, content: bytes | None) -> LogFile:
        if content is None:
            raise Refused("IJ400")
        _, job = self._run(job_id)
        log = LogFile(self.now, job, content[-self.settings.log_file_limit :])
        self.logs.append(log)
        return log

    def job_kill(self, job_id: int | None, person: str | None) -> Job:
        _check_person(person)
        one, job = self._job(job_id)
        if job.state != "running":
            raise Refused("IJ409")
        if job.kill_requested_by is None:
            job.kill_requested_by = person
            self._tell("kill", code_import=one, machine=job.machine, person=person, job=job)
        return job

    def job_release(self, job_id: int | None) -> Job | None:
        one, job = self._run(job_id)
        if job.kill_requested_by is not None:
            raise Refused("IJ409")
        assert job.heartbeat is not None
        self._tell("release", code_import=one, machine=job.machine, job=job)
        self._gone(job)
        one.job = None
        if one.review_status == "reviewed":
            due = job.date_due
            if job.again_requested_by or job.source_changed:
                due = min(due, self.now)
            one.job = Job(self._serial(), max(self.now, job.heartbeat), due)
            one.job.requesting_user = job.again_requested_by or job.requesting_user
            one.job.ordering = job.ordering
            if job.is_pinned:
                one.job.state, one.job.machine, one.job.is_pinned = "scheduled", job.machine, True
            self._wake_if_due(one.job)
        return one.job

    def _gone(self, job: Job) -> None:
        if job.id is not None:
            self.ended_job_ids.append(job.id)

    # --- the end of runs ------------------------------------------------------------------------

    def job_finish(
        self, job_id: int | None, status: str | None, log_file_id: int | None = None
    ) -> Result:
        if job_id is None or status not in STATUSES:
            raise Refused("IJ400")
        for result in self.results:
            if result.job.id == job_id:
                return self._finished_before(result, status)
        one, job = self._run(job_id)
        log = None
        if log_file_id is not None:
            log = next((log for log in self.logs if (log.id, log.job) == (log_file_id, job)), None)
            if log is None:
                raise Refused("IJ404")
        return self._end(one, job, status, log)

    def _finished_before(self, result: Result, status: str) -> Result:
        if not self._may_act_for(result.machine):
            raise Refused("IJ403")
        if result.status == "reclaimed":
            raise Refused("IJ410")
        if result.status != status:
            raise Refused("IJ409")
        return result

    def job_finish_many(
        self,
        job_ids: list[int | None],
        statuses: list[str | None],
        log_file_ids: list[int | None] | None = None,
    ) -> list[tuple[int, Result | None, str | None]]:
        logs = log_file_ids if log_file_ids is not None else [None] * len(job_ids)
        _check_ids(job_ids, statuses, logs)
        order = sorted(range(len(job_ids)), key=lambda n: self._place(job_ids[n]))
        rows: dict[int, tuple[int, Result | None, str | None]] = {}
        for n in order:
            job_id = job_ids[n]
            assert job_id is not None
            try:
                rows[n] = (job_id, self.job_finish(job_id, statuses[n], logs[n]), None)
            except Refused as refused:
                rows[n] = (job_id, None, refused.sqlstate)
        return [rows[n] for n in range(len(job_ids))]

    def _place(self, job_id: int | None) -> int:
        """The place of a job's import among all: what ends at once gets its next job so."""
        return next((one.id or 0 for one, job in self.jobs() if job.id == job_id), 0)

    def job_reclaim(self, job_id: int | None) -> Result:
        one, job = self._job(job_id)
        if job.state != "running":
            raise Refused("IJ409")
        assert job.machine is not None
        if self.caller != "operator" and job.machine.owner_role != self._role():
            raise Refused("IJ403")
        return self._end(one, job, "reclaimed", None)

    def _stale(self) -> list[tuple[Import, Job]]:
        oldest = self.now - self.settings.maximum_heartbeat_interval
        return [(one, job) for one, job in self.jobs() if job.heartbeat and job.heartbeat < oldest]

    def _reclaim_stale(self, max_jobs: int) -> int:
        stale = sorted(self._stale(), key=lambda pair: pair[0].id or 0)[:max_jobs]
        for one, job in stale:
            self._end(one, job, "reclaimed", None)
        return len(stale)

    def job_reclaim_stale(self, max_jobs: int | None = 1000) -> int:
        if max_jobs is None or max_jobs < 0:
            raise Refused("IJ400")
        return self._reclaim_stale(max_jobs)

    def _end(self, one: Import, job: Job, status: str, log: LogFile | None) -> Result:
        assert job.date_started is not None
        assert job.heartbeat is not None
        assert job.machine is not None
        at = max(self.now, job.heartbeat)
        told = {"code_import": one, "machine": job.machine, "job": job}
        self._count(one, status)
        if status == "reclaimed":
            self._tell("reclaim", at, **told)
        if status in ("success", "success_nochange"):
            if one.date_last_successful is None:
                self._tell("publish", at, **told)
            one.date_last_successful = at
        due = self._next_due(one, job, status)
        one.job = None
        one.date_last_started, one.date_last_ended = job.date_started, at
        if one.review_status == "reviewed" and due is None:
            before = record(one, self)
            one.review_status = "failing"
            data = record(one, self) | {"old_review_status": before["review_status"]}
            del data["date_last_successful"], data["consecutive_failure_count"]
            self._tell("modify", at, code_import=one, data={"": data})
        elif due is not None:
            one.job = Job(self._serial(), at, due, requesting_user=job.again_requested_by)
            self._wake_if_due(one.job)
        self._tell("finish", at, **told, data={"status": status})
        self._gone(job)
        result = Result(
            at,
            one,
            job.machine,
            job,
            job.requesting_user,
            job.logtail or "",
            log,
            status,
            job.date_started,
        )
        self.results.append(result)
        return result

    def _count(self, one: Import, status: str) -> None:
        one.reclaims = one.reclaims + 1 if status == "reclaimed" else 0
        if status.startswith("success"):
            one.failures = 0
        elif status.startswith("failure"):
            one.failures += 1

    def _next_due(self, one: Import, job: Job, status: str) -> datetime | None:
        """When it runs next; None if never."""
        is_failure = status.startswith("failure")
        limit = self.settings.consecutive_reclaim_limit
        if one.review_status != "reviewed":
            return None
        if is_failure and one.failures > self.settings.consecutive_failure_limit:
            return None
        if status == "reclaimed" and limit is not None and one.reclaims >= limit:
            return None
        if status in ("reclaimed", "success_partial"):
            return self.now
        if job.again_requested_by or job.source_changed:
            return self.now
        interval = self.effective(one)
        wait = interval
        if is_failure:
            longest = max(self.settings.maximum_retry_interval, interval)
            wait = min(interval * 2 ** (one.failures - 1), longest)
        assert job.date_started is not None
        return max(self.now, job.date_due + wait, job.date_started + wait / 2)

    # --- machines -------------------------------------------------------------------------------

    def machine_new(self, hostname: str | None, state: str | None = "offline") -> Machine:
        if not hostname or state not in ("offline", "online"):
            raise Refused("IJ400")
        if any(machine.hostname == hostname for machine in self.machines):
            raise Refused("23505")
        machine = Machine(hostname, self.now, state)
        self.machines.append(machine)
        if state == "online":
            self._tell("online", machine=machine)
        return machine

    def machine_set_online(
        self, machine_id: int | None, person: str | None = None, message: str | None = None
    ) -> Machine:
        _check_person(person, needed=False)
        return self._turn(machine_id, ("offline", "quiescing"), "online", "online", person, message)

    def machine_set_quiescing(
        self, machine_id: int | None, person: str | None, message: str | None = None
    ) -> Machine:
        _check_person(person)
        return self._turn(machine_id, ("online",), "quiescing", "quiesce", person, message)

    def machine_set_offline(
        self,
        machine_id: int | None,
        reason: str | None,
        person: str | None = None,
        message: str | None = None,
    ) -> Machine:
        _check_person(person, needed=False)
        if reason not in ("stopped", "quiesced", "watchdog"):
            raise Refused("IJ400")
        states = ("online", "quiescing")
        return self._turn(machine_id, states, "offline", "offline", person, message, reason)

    def _turn(
        self,
        machine_id: int | None,
        states: tuple[str, ...],
        state: str,
        event_type: str,
        person: str | None,
        message: str | None,
        reason: str | None = None,
    ) -> Machine:
        machine = self._machine(machine_id)
        if machine.state not in states:
            raise Refused("IJ409")
        machine.state = state
        given = {"reason": reason, "message": message}
        data = {key: value for key, value in given.items() if value is not None}
        self._tell(event_type, machine=machine, person=person, data=data)
        return machine

    def machine_delete(self, machine_id: int | None, person: str | None) -> None:
        _check_person(person)
        machine = self._machine(machine_id)
        mine = [(one, job) for one, job in self.jobs() if job.machine is machine]
        if machine.state != "offline" or any(job.state == "running" for _, job in mine):
            raise Refused("IJ409")
        for one, job in mine:
            self._pin(one, job, None, job.ordering, person)
        data = {"hostname": machine.hostname}
        self._tell("delete", machine=machine, person=person, data=data)
        self.machines.remove(machine)

    def machine_disown(self, machine_id: int | None, person: str | None) -> Machine:
        _check_person(person)
        machine = self._machine(machine_id)
        if machine.owner_role is not None:
            data = {"owner_role": None, "old_owner_role": machine.owner_role}
            self._tell("modify", machine=machine, person=person, data=data)
            machine.owner_role = None
        return machine

    # --- settings and upkeep --------------------------------------------------------------------

    def configure(self, name: str, value: str | None, person: str | None) -> None:
        _check_person(person)
        if name not in SETTING_VALUES or value not in (None, *SETTING_VALUES[name]):
            raise Refused("IJ400")
        default = getattr(Settings(), name)
        known = default if value is None else SETTING_VALUES[name][value]
        is_new = (name, value) != (name, self.configured.get(name))
        setattr(self.settings, name, known)
        if is_new:
            self._tell("modify", person=person, data={"setting": name})
        self.configured[name] = value

    configured: dict[str, str | None] = field(default_factory=dict)

    def tidy_up(self) -> int:
        """Returns how many machines were silent."""
        self.doubtful = []
        results = self._tidy_results()
        events = self._tidy_events()
        self.has_forgotten |= results + events > 0
        self.logs = self._kept(self.logs, self._ago("log_retention"))
        machines = 0
        for machine in self.machines:
            if machine.state != "offline" and self._is_silent(machine):
                machine.state = "offline"
                self._tell("offline", machine=machine, data={"reason": "watchdog"})
                machines += 1
        return machines

    def forget(self, results: set[int], logs: set[int], events: set[int]) -> None:
        """Of what is doubtful, forget what is not among these."""
        there = {Result: results, LogFile: logs, Event: events}
        gone = [thing for thing in self.doubtful if thing.id not in there[type(thing)]]
        self.results = [thing for thing in self.results if thing not in gone]
        self.logs = [thing for thing in self.logs if thing not in gone]
        self.events = [thing for thing in self.events if thing not in gone]
        self.has_forgotten |= any(not isinstance(thing, LogFile) for thing in gone)
        self.doubtful = []

    def _kept(self, things: list[Dated], oldest: datetime) -> list[Dated]:
        """Those that are there still, and those that may be."""
        self.doubtful += [
            thing for thing in things if oldest - WIDTH <= thing.date_created < oldest
        ]
        return [thing for thing in things if thing.date_created >= oldest - WIDTH]

    def _is_silent(self, machine: Machine) -> bool:
        """One that was put online just now is given the time to be heard."""
        if self.settings.machine_silent_after is None:
            return False
        heard = [machine.heartbeat or machine.date_created]
        heard += [
            event.date_created
            for event in self.events
            if event.machine is machine and event.event_type == "online"
        ]
        return max(heard) < self._ago("machine_silent_after")

    def _ago(self, setting: str) -> datetime:
        span: timedelta = getattr(self.settings, setting)
        return self.now - span

    def _tidy_results(self) -> int:
        def newer(result: Result) -> int:
            return sum(
                other.code_import is result.code_import and (other.id or 0) > (result.id or 0)
                for other in self.results
            )

        free = [
            result
            for result in self.results
            if result.code_import.is_deleted or newer(result) >= self.settings.results_kept
        ]
        # Starts and finishes are read from the results: these stay as long as events do.
        oldest = min(self._ago("result_retention"), self._ago("event_retention"))
        kept = self._kept(free, oldest)
        gone = [result for result in free if result not in kept]
        self.results = [result for result in self.results if result not in gone]
        return len(gone)

    def _tidy_events(self) -> int:
        """Old events go, but for the starts and finishes of runs that are still told of."""
        doubtful = {thing.job for thing in self.doubtful if isinstance(thing, Result)}
        told = {result.job for result in self.results}
        told |= {job for _, job in self.jobs() if job.state == "running"}
        runs = [
            event
            for event in self.events
            if event.event_type in ("start", "finish") and event.job in told
        ]
        self.doubtful += [event for event in runs if event.job in doubtful]
        others = [event for event in self.events if event not in runs]
        kept = self._kept(others, self._ago("event_retention"))
        gone = [event for event in others if event not in kept]
        self.events = [event for event in self.events if event not in gone]
        return len(gone)


CHANGEABLE = (
    *("owner", "assignee", "review_status", "update_interval"),
    *("url", "cvs_root", "cvs_module", "target"),
)
SETTING_VALUES: dict[str, dict[str, Any]] = {
    "maximum_heartbeat_interval": {"20 s": 20 * SECOND, "10 min": 600 * SECOND},
    "consecutive_failure_limit": {"0": 0, "1": 1, "10000": 10000},
    "maximum_retry_interval": {"2 h": timedelta(hours=2), "10 years": LONGEST},
    "default_interval_git": {"30 min": timedelta(minutes=30), "2 days": timedelta(days=2)},
    "logtail_limit": {"5": 5, "1 kB": 1024},
    "log_file_limit": {"4": 4},
    "event_retention": {"1 day": timedelta(days=1)},
    "result_retention": {"1 h": timedelta(hours=1)},
    "log_retention": {"1 h": timedelta(hours=1)},
    "results_kept": {"0": 0, "1": 1},
    "consecutive_reclaim_limit": {"1": 1, "2": 2},
    "machine_silent_after": {"1 h": timedelta(hours=1)},
}


def record(one: Import, model: Model) -> dict[str, Any]:
    """An import as the data of its events show it."""
    return {
        "registrant": one.registrant,
        "owner": one.owner,
        "assignee": one.assignee,
        "target": one.target,
        "rcs_type": one.rcs_type,
        "url": one.url,
        "cvs_root": one.cvs_root,
        "cvs_module": one.cvs_module,
        "review_status": one.review_status,
        "update_interval": one.update_interval,
        "effective_update_interval": model.effective(one),
        "date_last_successful": one.date_last_successful,
        "consecutive_failure_count": one.failures,
        "date_created": one.date_created,
    }


def _check_person(name: str | None, needed: bool = True) -> None:
    if name is None and not needed:
        return
    if not name or not name.strip():
        raise Refused("IJ400")


def _check_ids(job_ids: list[int | None], *others: list[Any]) -> None:
    if any(len(other) != len(job_ids) for other in others):
        raise Refused("IJ400")
    if None in job_ids or len(set(job_ids)) < len(job_ids):
        raise Refused("IJ400")
