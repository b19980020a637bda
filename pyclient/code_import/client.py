"""The SQL functions as Python methods: ``vcs.code_import_job_start`` is ``Client.job_start``.

No logic lives here. If a method needs an ``if``, the ``if`` belongs in ``sql/``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .models import (
    Assignment,
    Credential,
    Directive,
    Event,
    Finished,
    FinishStatus,
    HeldRef,
    Import,
    Job,
    JobCredential,
    JobDirective,
    Machine,
    MachineState,
    Mirror,
    NewImport,
    OfflineReason,
    RcsType,
    RefAsOf,
    Result,
    ReviewStatus,
    Setting,
    Tidied,
)
from .wire import fetch_all, fetch_maybe, fetch_one, fetch_value, jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from psycopg import Connection


class Client:
    """Calls on one psycopg 3 connection, which stays the caller's.

    Methods never commit: group them with ``with conn.transaction():``, or use an autocommit
    connection and each call is a transaction of its own. A worker wants the latter, since a
    transaction has one instant that is its "now". Claims need READ COMMITTED.

    Refusals are raised as the classes of :mod:`code_import.errors`. Besides those named below,
    any call raises BadValue for a value that cannot be, None where one is needed included, and
    NotAllowed to a role without the right to make it. Intervals may be given as timedelta or in
    PostgreSQL's words, such as ``"6 hours"``.
    """

    def __init__(self, conn: Connection[Any]) -> None:
        self._conn = conn

    # Imports

    def new(
        self,
        registrant: str,
        target: str,
        rcs_type: RcsType,
        url: str | None = None,
        cvs_root: str | None = None,
        cvs_module: str | None = None,
        review_status: ReviewStatus = "reviewed",
        owner: str | None = None,
        update_interval: timedelta | str | None = None,
    ) -> Import:
        """Register an import, and give it a job if it is ``reviewed``.

        Needs a url, or for cvs a root and a module; a source and a target that no other import
        has. The owner is the registrant unless named, the interval the rcs type's unless given.
        Returns the import. Raises AlreadyThere.
        """
        return fetch_one(
            self._conn,
            Import,
            f"select {Import.columns}"
            " from vcs.code_import_new(%s, %s, %s, %s, %s, %s, %s, %s, %s::interval)",
            registrant,
            target,
            rcs_type,
            url,
            cvs_root,
            cvs_module,
            review_status,
            owner,
            update_interval,
        )

    def new_many(self, imports: Sequence[Mapping[str, Any]], registrant: str) -> list[NewImport]:
        """Register many imports in one round trip.

        Needs a sequence of mappings with the parameter names of :meth:`new` as keys. A refused
        one does not undo the others. Returns a row each: the import's id, or the SQLSTATE and
        message of its refusal.
        """
        return fetch_all(
            self._conn,
            NewImport,
            f"select {NewImport.columns} from vcs.code_import_new_many(%s, %s)",
            jsonb(list(imports)),
            registrant,
        )

    def update(
        self, code_import_id: int, changes: Mapping[str, Any], person: str | None = None
    ) -> Event | None:
        """Change an import.

        Needs a mapping with any of owner, assignee, review_status, update_interval, url,
        cvs_root, cvs_module and target as keys. To ``reviewed`` makes a job; to anything else
        removes one that is not running. Returns the ``modify`` event, or None when nothing
        differs. Raises NotFound, AlreadyThere.
        """
        return fetch_maybe(
            self._conn,
            Event,
            f"select {Event.columns} from vcs.code_import_update(%s, %s, %s)",
            code_import_id,
            jsonb(changes),
            person,
        )

    def set_url(self, code_import_id: int, url: str, person: str) -> Event | None:
        """Change where an import's code comes from; its next run is due now.

        Returns the ``modify`` event, or None when it is the same url. Raises NotFound,
        AlreadyThere.
        """
        return fetch_maybe(
            self._conn,
            Event,
            f"select {Event.columns} from vcs.code_import_set_url(%s, %s, %s)",
            code_import_id,
            url,
            person,
        )

    def delete(self, code_import_id: int, person: str | None = None) -> None:
        """Delete an import and its job, running or not; the worker is told by RunGone.

        Its events and results stay until retention removes them. Raises NotFound.
        """
        fetch_value(self._conn, "select vcs.code_import_delete(%s, %s)", code_import_id, person)

    def request(
        self, code_import_id: int, person: str, error_if_already_requested: bool = False
    ) -> Job:
        """Ask for a run of an import as soon as possible.

        Needs an import whose job is not running. If it is requested already, nothing happens.
        Returns the job. Raises NotFound, WrongState (no job), AlreadyRunning, and if asked for
        AlreadyRequested.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_request(%s, %s, %s)",
            code_import_id,
            person,
            error_if_already_requested,
        )

    def request_again(self, code_import_id: int, person: str) -> Job:
        """Ask for a run that sees everything pushed until now.

        As :meth:`request`; made while the import runs, it is kept, and one follow-up run is due
        when this one ends, however many ask. Returns the job. Raises NotFound, WrongState.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_request_again(%s, %s)",
            code_import_id,
            person,
        )

    def try_again(self, code_import_id: int, person: str) -> Job:
        """Give a ``failing`` import another chance.

        It is ``reviewed`` again, its failures are forgotten and a run is requested. Returns the
        job. Raises NotFound, WrongState (not failing), AlreadyRunning (its last run goes on).
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_try_again(%s, %s)",
            code_import_id,
            person,
        )

    # Jobs

    def job_new(self, code_import_id: int, update_interval: timedelta | str | None = None) -> Job:
        """Make the job of a ``reviewed`` import that has none; by hand it mostly refuses.

        Due now if the import never ran, else one interval after its newest start. Returns the
        job. Raises NotFound, WrongState.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_new(%s, %s::interval)",
            code_import_id,
            update_interval,
        )

    def job_delete_pending(self, code_import_id: int) -> None:
        """Delete the waiting job of an import that is not ``reviewed``.

        Raises NotFound, WrongState.
        """
        fetch_value(self._conn, "select vcs.code_import_job_delete_pending(%s)", code_import_id)

    def job_request(self, job_id: int, person: str) -> Job:
        """Make a waiting job due now, in a person's name.

        Returns the job. Raises RunGone, AlreadyRunning, AlreadyRequested.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_request(%s, %s)",
            job_id,
            person,
        )

    def job_start(self, job_id: int, machine_id: int) -> Job:
        """Start a job on a machine.

        Needs the job pending, or scheduled for this machine, and the machine online. Returns the
        running job. Raises NotYours, NotFound (machine), WrongState, RunGone.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_start(%s, %s)",
            job_id,
            machine_id,
        )

    def job_update_heartbeat(self, job_id: int, logtail: str | None) -> Directive:
        """Say that a run is alive, with the newest lines of its log; None leaves those as they are.

        Returns ``continue``, or ``stop`` to a killed run, which its worker finishes as
        ``killed``. Raises NotYours, WrongState (not running), RunGone.
        """
        directive: Directive = fetch_value(
            self._conn,
            "select vcs.code_import_job_update_heartbeat(%s, %s)",
            job_id,
            logtail,
        )
        return directive

    def job_update_heartbeats(
        self, job_ids: Sequence[int], logtails: Sequence[str | None]
    ) -> list[JobDirective]:
        """Say that many runs are alive, in one round trip.

        Returns a row each: ``continue``, ``stop``, or ``gone`` for what is not a run of one's
        own. Raises BadValue (arrays that do not match).
        """
        return fetch_all(
            self._conn,
            JobDirective,
            f"select {JobDirective.columns}"
            " from vcs.code_import_job_update_heartbeats(%s::bigint[], %s::text[])",
            list(job_ids),
            list(logtails),
        )

    def job_finish(
        self, job_id: int, status: FinishStatus, log_file_id: int | None = None
    ) -> Result:
        """End a run with a status; the import gets its next job, or turns ``failing``.

        Finishing again with the same status returns the first result and changes nothing.
        Returns the result. Raises NotYours, NotFound (log file), WrongState (not
        running, or finished with another status), RunGone.
        """
        return fetch_one(
            self._conn,
            Result,
            f"select {Result.columns} from vcs.code_import_job_finish(%s, %s, %s)",
            job_id,
            status,
            log_file_id,
        )

    def job_finish_many(
        self,
        job_ids: Sequence[int],
        statuses: Sequence[FinishStatus],
        log_file_ids: Sequence[int | None] | None = None,
    ) -> list[Finished]:
        """End many runs in one round trip; a refused one does not undo the others.

        Returns a row each: the result's id, or the SQLSTATE and message of its refusal. Raises
        BadValue (arrays that do not match).
        """
        return fetch_all(
            self._conn,
            Finished,
            f"select {Finished.columns}"
            " from vcs.code_import_job_finish_many(%s::bigint[], %s::text[], %s::bigint[])",
            list(job_ids),
            list(statuses),
            log_file_ids and list(log_file_ids),
        )

    def job_reclaim(self, job_id: int) -> Result:
        """End a run whose worker is dead; a ``reviewed`` import has a new job, due now.

        Returns the result, ``reclaimed``. Raises NotYours, WrongState (not running), RunGone.
        """
        return fetch_one(
            self._conn,
            Result,
            f"select {Result.columns} from vcs.code_import_job_reclaim(%s)",
            job_id,
        )

    def job_reclaim_stale(self, max_jobs: int = 1000) -> int:
        """Reclaim up to ``max_jobs`` runs that have been silent for too long.

        Many callers at once are safe. Returns how many it reclaimed.
        """
        reclaimed: int = fetch_value(
            self._conn, "select vcs.code_import_job_reclaim_stale(%s::integer)", max_jobs
        )
        return reclaimed

    def job_reclaimable(self) -> list[Job]:
        """Return the running jobs that have been silent for too long."""
        return fetch_all(
            self._conn, Job, f"select {Job.columns} from vcs.code_import_job_reclaimable()"
        )

    def job_release(self, job_id: int) -> Job | None:
        """Give a run back undone: no result, nothing counted.

        Needs a running job that was not killed. Returns the job that takes its place, or None
        when the import is no longer ``reviewed``. Raises NotYours, WrongState, RunGone.
        """
        return fetch_maybe(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_release(%s)",
            job_id,
        )

    def job_kill(self, job_id: int, person: str) -> Job:
        """Tell the worker of a run to stop; its next heartbeat answers ``stop``.

        Killing again changes nothing. Returns the job. Raises WrongState (not running), RunGone.
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_kill(%s, %s)",
            job_id,
            person,
        )

    def job_schedule(
        self,
        job_id: int,
        machine_id: int | None,
        ordering: int | None = None,
        person: str | None = None,
    ) -> Job:
        """Pin a waiting job to a machine, or unpin it with None, and set its place in the queue.

        Both hold for the next run alone. Returns the job. Raises NotFound (machine), RunGone,
        WrongState (running).
        """
        return fetch_one(
            self._conn,
            Job,
            f"select {Job.columns} from vcs.code_import_job_schedule(%s, %s, %s::integer, %s)",
            job_id,
            machine_id,
            ordering,
            person,
        )

    def job_is_overdue(self, job: Job) -> bool:
        """Return whether the job's due time has come, by the database's clock."""
        overdue: bool = fetch_value(
            self._conn,
            "select vcs.code_import_job_is_overdue("
            "jsonb_populate_record(null::vcs.code_import_job, %s))",
            jsonb(asdict(job)),
        )
        return overdue

    def job_get(self, job_id: int) -> Job | None:
        """Return the job, or None when its run has ended or never was."""
        return fetch_maybe(
            self._conn, Job, f"select {Job.columns} from vcs.code_import_job_get(%s)", job_id
        )

    def job_next_due(
        self, hostname: str | None = None, rcs_types: Sequence[RcsType] | None = None
    ) -> datetime | None:
        """Return when there may be work: what an idle worker sleeps until.

        The earlier of the next due time among jobs it may take and the next moment at which a
        run can be reclaimed; None when there is neither, or the machine takes nothing.
        """
        due: datetime | None = fetch_value(
            self._conn,
            "select vcs.code_import_job_next_due(%s, %s::text[])",
            hostname,
            rcs_types and list(rcs_types),
        )
        return due

    def job_for_machine(
        self, hostname: str, worker_limit: int, rcs_types: Sequence[RcsType] | None = None
    ) -> Assignment | None:
        """Claim the first due job for a machine, already started.

        Makes an unknown machine ``online``. Returns None when nothing is due, the machine runs
        ``worker_limit`` jobs, or it is not online. Raises NotYours, NotSupported (above READ
        COMMITTED).
        """
        return fetch_maybe(
            self._conn,
            Assignment,
            f"select {Assignment.columns}"
            " from vcs.code_import_job_for_machine(%s, %s::integer, %s::text[])",
            hostname,
            worker_limit,
            rcs_types and list(rcs_types),
        )

    def job_claim(
        self,
        hostname: str,
        worker_limit: int,
        max_jobs: int,
        rcs_types: Sequence[RcsType] | None = None,
    ) -> list[Assignment]:
        """Claim up to ``max_jobs`` due jobs for a machine, by the rules of :meth:`job_for_machine`.

        Returns them started, none when there is nothing to do. Raises NotYours, NotSupported.
        """
        return fetch_all(
            self._conn,
            Assignment,
            f"select {Assignment.columns}"
            " from vcs.code_import_job_claim(%s, %s::integer, %s::integer, %s::text[])",
            hostname,
            worker_limit,
            max_jobs,
            rcs_types and list(rcs_types),
        )

    # Machines

    def machine_new(self, hostname: str, state: MachineState = "offline") -> Machine:
        """Register a machine; one that asks for work registers itself.

        Returns it. Raises AlreadyThere.
        """
        return fetch_one(
            self._conn,
            Machine,
            f"select {Machine.columns} from vcs.code_import_machine_new(%s, %s)",
            hostname,
            state,
        )

    def machine_set_online(
        self, machine_id: int, person: str | None = None, message: str | None = None
    ) -> Machine:
        """Let a machine take jobs. Needs it offline or quiescing.

        Returns it. Raises NotFound, WrongState.
        """
        return fetch_one(
            self._conn,
            Machine,
            f"select {Machine.columns} from vcs.code_import_machine_set_online(%s, %s, %s)",
            machine_id,
            person,
            message,
        )

    def machine_set_quiescing(
        self, machine_id: int, person: str, message: str | None = None
    ) -> Machine:
        """Let a machine finish what it runs and take nothing new. Needs it online.

        It goes offline when it asks for work and runs nothing. Returns it. Raises NotFound,
        WrongState.
        """
        return fetch_one(
            self._conn,
            Machine,
            f"select {Machine.columns} from vcs.code_import_machine_set_quiescing(%s, %s, %s)",
            machine_id,
            person,
            message,
        )

    def machine_set_offline(
        self,
        machine_id: int,
        reason: OfflineReason,
        person: str | None = None,
        message: str | None = None,
    ) -> Machine:
        """Give a machine nothing more; what it runs is left alone. Needs it online or quiescing.

        Returns it. Raises NotFound, WrongState.
        """
        return fetch_one(
            self._conn,
            Machine,
            f"select {Machine.columns} from vcs.code_import_machine_set_offline(%s, %s, %s, %s)",
            machine_id,
            reason,
            person,
            message,
        )

    def machine_delete(self, machine_id: int, person: str) -> None:
        """Delete a machine. Needs it offline and without running jobs.

        Raises NotFound, WrongState.
        """
        fetch_value(self._conn, "select vcs.code_import_machine_delete(%s, %s)", machine_id, person)

    def machine_disown(self, machine_id: int, person: str) -> Machine:
        """Free a machine for another worker role: the next one to claim as it becomes its owner.

        Returns it. Raises NotFound.
        """
        return fetch_one(
            self._conn,
            Machine,
            f"select {Machine.columns} from vcs.code_import_machine_disown(%s, %s)",
            machine_id,
            person,
        )

    # Credentials

    def credential_new(
        self,
        host: str,
        username: str,
        secret: bytes,
        key_name: str,
        person: str,
        code_import_id: int | None = None,
        allow_unencrypted: bool = False,
        date_expires: datetime | None = None,
    ) -> Credential:
        """Store a login for a host (``host`` or ``host:port``), or for one import from it.

        Needs the secret sealed: :mod:`code_import.credentials` does it. An import's own credential
        comes before its host's. Returns the credential. Raises NotFound, AlreadyThere.
        """
        return fetch_one(
            self._conn,
            Credential,
            f"select {Credential.columns} from vcs.code_import_credential_new("
            "%s, %s, %s, %s, %s, %s::bigint, %s, %s::timestamptz)",
            host,
            username,
            secret,
            key_name,
            person,
            code_import_id,
            allow_unencrypted,
            date_expires,
        )

    def credential_replace(
        self,
        credential_id: int,
        username: str,
        secret: bytes,
        key_name: str,
        person: str,
        allow_unencrypted: bool = False,
        date_expires: datetime | None = None,
    ) -> Credential:
        """Replace all of a credential but the host and the import that it is for.

        Returns it. Raises NotFound.
        """
        return fetch_one(
            self._conn,
            Credential,
            f"select {Credential.columns} from vcs.code_import_credential_replace("
            "%s, %s, %s, %s, %s, %s, %s::timestamptz)",
            credential_id,
            username,
            secret,
            key_name,
            person,
            allow_unencrypted,
            date_expires,
        )

    def credential_delete(self, credential_id: int, person: str) -> None:
        """Delete a credential; a run that has it keeps it to its end.

        Raises NotFound.
        """
        fetch_value(
            self._conn, "select vcs.code_import_credential_delete(%s, %s)", credential_id, person
        )

    def credential_for_job(self, job_id: int) -> JobCredential | None:
        """Return the sealed login for a running job of one's own, or None when there is none.

        One that has expired, or is not for an unencrypted connection, comes with a ``refusal`` in
        place of its secret. Raises NotYours, WrongState (not running), RunGone.
        """
        return fetch_maybe(
            self._conn,
            JobCredential,
            f"select {JobCredential.columns} from vcs.code_import_credential_for_job(%s)",
            job_id,
        )

    # Mirrors

    def mirror_report(
        self,
        job_id: int,
        changes: Sequence[Mapping[str, Any]] | None = None,
        held: Sequence[Mapping[str, Any]] | None = None,
        is_verified: bool = False,
        damage: str | None = None,
    ) -> Mirror:
        """Record what a running job of one's own has made of its mirror.

        ``changes`` and ``held`` are mappings with ref, kind (new, updated, rewritten or deleted),
        old and new; a change may carry the job_id of an earlier run that could not tell. ``held``
        replaces what was held before, None leaves either. ``is_verified`` says that all of the
        mirror was read, and ``damage`` what was wrong.

        Returns it. Raises NotYours, WrongState, RunGone.
        """
        return fetch_one(
            self._conn,
            Mirror,
            f"select {Mirror.columns} from vcs.code_import_mirror_report(%s, %s, %s, %s, %s)",
            job_id,
            None if changes is None else jsonb(list(changes)),
            None if held is None else jsonb(list(held)),
            is_verified,
            damage,
        )

    def mirror_accept(
        self, code_import_id: int, person: str, refs: Sequence[str] | None = None
    ) -> list[HeldRef]:
        """Let held changes be published by the next run, which is requested.

        ``refs`` names some of them by their full names, None is all. What the source changes once
        more is held again. Returns them. Raises NotFound, WrongState.
        """
        return fetch_all(
            self._conn,
            HeldRef,
            f"select {HeldRef.columns} from vcs.code_import_mirror_accept(%s, %s, %s::text[])",
            code_import_id,
            person,
            refs if refs is None else list(refs),
        )

    def mirror_keep(
        self, code_import_id: int, person: str, refs: Sequence[str] | None = None
    ) -> list[HeldRef]:
        """Let a mirror keep the refs whose changes are held; a run is requested.

        ``refs`` names some of them by their full names, None is all. Runs count as successes again,
        whatever the source makes of these refs, until they are accepted. Returns them.

        Raises NotFound, WrongState.
        """
        return fetch_all(
            self._conn,
            HeldRef,
            f"select {HeldRef.columns} from vcs.code_import_mirror_keep(%s, %s, %s::text[])",
            code_import_id,
            person,
            refs if refs is None else list(refs),
        )

    def mirror_set_maximum_loss(
        self, code_import_id: int, percent: int | None, person: str
    ) -> Mirror:
        """Set how many percent of a mirror one run may lose unasked; None is what the setting says.

        Returns the mirror. Raises NotFound.
        """
        return fetch_one(
            self._conn,
            Mirror,
            f"select {Mirror.columns}"
            " from vcs.code_import_mirror_set_maximum_loss(%s, %s::integer, %s)",
            code_import_id,
            percent,
            person,
        )

    def mirror_as_of(self, code_import_id: int, date: datetime) -> list[RefAsOf]:
        """Return what a mirror's refs were at a date, as far as they differ now.

        Raises NotFound.
        """
        return fetch_all(
            self._conn,
            RefAsOf,
            f"select {RefAsOf.columns} from vcs.code_import_mirror_as_of(%s, %s)",
            code_import_id,
            date,
        )

    def mirror_restore(
        self, code_import_id: int, changes: Sequence[Mapping[str, Any]], person: str
    ) -> Import:
        """Record that a person restores refs of a mirror, and suspend its import.

        Needs an import that does not run. Restore the refs on disk before this transaction ends:
        until then no run can start. Returns the import. Raises NotFound, AlreadyRunning.
        """
        return fetch_one(
            self._conn,
            Import,
            f"select {Import.columns} from vcs.code_import_mirror_restore(%s, %s, %s)",
            code_import_id,
            jsonb(list(changes)),
            person,
        )

    # The rest

    def log_file_new(self, job_id: int, content: bytes) -> int:
        """Store the whole log of a running job of one's own, its newest part if it is very long.

        Returns the log file's id, for :meth:`job_finish`. Raises NotYours, WrongState, RunGone.
        """
        log_file_id: int = fetch_value(
            self._conn, "select vcs.code_import_log_file_new(%s, %s)", job_id, content
        )
        return log_file_id

    def configure(self, name: str, value: str | None, person: str) -> Setting:
        """Change a setting; None goes back to its default.

        Returns it.
        """
        return fetch_one(
            self._conn,
            Setting,
            f"select {Setting.columns} from vcs.code_import_configure(%s, %s, %s)",
            name,
            value,
            person,
        )

    def tidy_up(self) -> Tidied:
        """Remove what retention no longer keeps, and take silent machines offline; bounded.

        Returns what it did; while ``partitions_due`` is not 0, there is more to do. Others wait
        for the history until the transaction of this call has ended.
        """
        return fetch_one(
            self._conn, Tidied, f"select {Tidied.columns} from vcs.code_import_tidy_up()"
        )
