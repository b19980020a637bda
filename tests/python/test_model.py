"""Random sequences of calls, compared step by step with a model in plain Python.

After each call the whole of what can be read is compared: every record, every event in its order,
what the caller was told or refused, and whether workers were woken. Time is moved by making
everything older. ``CODE_IMPORT_TEST_LONG=10`` searches for ten minutes.
"""

from __future__ import annotations

import copy
import random
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from code_import import models
from code_import.client import Client
from code_import.errors import CodeImportError
from code_import.wire import duration, fetch_all
from harness import effort
from harness.ageing import age
from harness.calls import load_scenes
from harness.invariants import assert_rules_hold
from harness.model import (
    BAD_TARGETS,
    GOOD_TARGETS,
    MACHINE_LAG,
    NORMAL_URLS,
    REVIEW_STATUSES,
    SECOND,
    SETTING_VALUES,
    STATUSES,
    Caller,
    Event,
    Import,
    Job,
    LogFile,
    Machine,
    Model,
    Refused,
    Result,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from conftest import Connect

pytestmark = effort.marks()

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATER = [5 * SECOND, 30 * SECOND, 6 * MINUTE, HOUR, 4 * HOUR, DAY, 32 * DAY]
Pick = tuple[str, int]
"""Which of the things of a kind."""
HOSTNAMES = ("anvil", "bellows", "crucible")

# --- what calls are made with: mostly what can be, now and then what cannot ---------------------

callers: st.SearchStrategy[Caller] = st.sampled_from(
    ["operator", "operator", "worker", "worker", "worker", "other_worker"]
)
people = st.sampled_from([*["ada", "bob", "eve"] * 6, None, ""])
targets = st.sampled_from([*GOOD_TARGETS * 8, *BAD_TARGETS])
urls = st.sampled_from([*[url for url, normal in NORMAL_URLS.items() if normal] * 3, *NORMAL_URLS])
rcs_types = st.sampled_from(["git"] * 8 + ["svn", "cvs", "fossil"])
review_statuses = st.sampled_from(["reviewed"] * 9 + [*REVIEW_STATUSES * 2, "paused", None])
spans = [None, 30 * MINUTE, HOUR, 6 * HOUR, DAY, 40 * DAY]
intervals = st.sampled_from([*spans * 3, timedelta(), -HOUR, 4000 * DAY])
hostnames = st.sampled_from(HOSTNAMES)
limits = st.sampled_from([*[1, 2, 3, 9] * 5, 0, -1, None])
served = st.sampled_from([None, None, None, ["git"], ["svn", "cvs"], []])
statuses = st.sampled_from([*STATUSES * 3, "reclaimed", None, "?"])
failures = [status for status in STATUSES if status.startswith("failure")]
endings = st.tuples(
    st.sampled_from([*STATUSES, *["job_reclaim", "job_release", "job_release"] * 3]),
    st.frozensets(st.sampled_from(["beat", "log", "kill", "again", "suspend", "url"]), max_size=3),
)
bad_endings = st.tuples(
    st.sampled_from([*failures, *failures, *["job_reclaim"] * 8, "success", "killed"]),
    st.just(frozenset[str]()),
)
settings = st.sampled_from(
    [
        *((name, value) for name, values in SETTING_VALUES.items() for value in values),
        *((name, None) for name in SETTING_VALUES),
        *((name, bad) for name, bad in zip(SETTING_VALUES, ["-1", "much"] * 6, strict=True)),
        *[("consecutive_reclaim_limit", "2"), ("consecutive_failure_limit", "1")] * 5,
        ("no_such_setting", "1"),
    ]
)
tails = st.sampled_from([None, "", "One line.\n", "Fünf Grüße, 日本語.\n"])
numbers = st.integers(0, 7)
import_picks = st.tuples(st.sampled_from(["living"] * 9 + ["deleted", "unknown"]), numbers)
failing_picks = st.tuples(st.sampled_from(["failing"] * 3 + ["living"]), numbers)
machine_picks = st.tuples(st.sampled_from(["online"] * 5 + ["known"] * 4 + ["unknown"]), numbers)


def job_picks(kind: str) -> st.SearchStrategy[Pick]:
    """Mostly jobs of a kind, but others too."""
    return st.tuples(st.sampled_from([kind] * 6 + ["any", "ended", "unknown"]), numbers)


changes = st.fixed_dictionaries(
    {},
    optional={
        "owner": people,
        "assignee": people,
        "review_status": review_statuses,
        "update_interval": intervals,
        "url": urls,
        "target": targets,
    },
)
given_imports = st.fixed_dictionaries(
    {"target": targets, "rcs_type": rcs_types, "url": urls, "review_status": review_statuses}
)


class Play(RuleBasedStateMachine):
    """Both worlds, and the calls that are made in both."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.conn = conn
        self.client = Client(conn)
        self.model = Model()
        self.known_events: dict[int, dict[str, Any]] = {}
        self.before: tuple[Model, dict[int, dict[str, Any]]] | None = None
        self.heard = 0
        conn.add_notify_handler(self._hear)
        for name in SETTING_VALUES:
            self.client.configure(name, None, "ada")
        conn.execute("select scene.clear()")
        conn.execute("listen code_import_job_due")

    def teardown(self) -> None:
        self.conn.remove_notify_handler(self._hear)
        if self.in_transaction:
            self.rollback()
        self.conn.execute("rollback; reset session authorization")
        assert_rules_hold(self.conn, whole_history=not self.model.has_forgotten)

    def _hear(self, _: object) -> None:
        self.heard += 1

    # --- transactions ---------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self.before is not None

    @precondition(lambda self: not self.in_transaction)
    @rule()
    def begin(self) -> None:
        """What follows is one transaction."""
        self.conn.execute("begin")
        self.before = copy.deepcopy((self.model, self.known_events))

    @precondition(lambda self: self.in_transaction)
    @rule()
    def commit(self) -> None:
        self.before = None
        self._commit()

    @precondition(lambda self: self.in_transaction)
    @rule()
    def rollback(self) -> None:
        assert self.before is not None
        self.model, self.known_events = self.before
        self.before = None
        self.conn.execute("rollback")
        self._compare()

    def _commit(self) -> None:
        self.conn.execute("commit")
        self.conn.execute("reset session authorization")
        assert self.heard == self.model.woken, "wakes workers" if self.heard else "wakes nobody"
        self.heard, self.model.woken = 0, False

    # --- calls ----------------------------------------------------------------------------------

    def call(self, caller: Caller, name: str, *arguments: Any) -> None:
        """Make a call in both worlds: the same has to come of it."""
        if not self.in_transaction:
            self.conn.execute("begin")
        self.conn.execute(f"set session authorization tester_{caller}".encode())
        row = self.conn.execute("select now()").fetchone()
        assert row is not None
        self.model.now, self.model.caller = row[0], caller
        answer, refused = None, None
        try:
            with self.conn.transaction():
                answer = getattr(self.client, name)(*arguments)
        except CodeImportError as error:
            refused = error.sqlstate
        told, expected = None, None
        try:
            told = self.model.call(name, *arguments)
        except Refused as error:
            expected = error.sqlstate
        assert refused == expected, f"refused with {refused}, not {expected}"
        self.conn.execute("reset session authorization")
        self._compare()
        assert plain(answer) == plain(told)
        if not self.in_transaction:
            self._commit()

    # --- comparing ------------------------------------------------------------------------------

    def _rows(self, cls: type[Any], view: str) -> list[Any]:
        return fetch_all(self.conn, cls, f"select {cls.columns} from vcs.{view} order by id")

    def _compare(self) -> None:
        """Everything that can be read is what the model has; ids that are new are learned."""
        imports = self._rows(models.Import, "code_import")
        machines = self._rows(models.Machine, "code_import_machine")
        jobs = self._rows(models.Job, "code_import_job")
        logs = self._rows(models.LogFile, "code_import_log_file")
        results = self._rows(models.Result, "code_import_result")
        events = self._rows(models.Event, "code_import_event")
        self.model.forget(
            *({row.id for row in rows} for rows in (results, logs, events))  # type: ignore[attr-defined]
        )
        self._learn(imports, machines, jobs, logs, results)
        model = self.model
        assert imports == [import_row(one, model) for one in model.living()]
        self._compare_machines(machines)
        assert jobs == sorted(
            (job_row(one, job) for one, job in model.jobs()), key=lambda job: job.id
        )
        assert logs == [
            models.LogFile(known(log.id), log.date_created, known(log.job.id), *sized(log.content))
            for log in model.logs
        ]
        assert results == [result_row(result, model) for result in model.results]
        self._compare_events(events)

    def _compare_machines(self, machines: list[models.Machine]) -> None:
        """Their heartbeats may lag; how far they do is learned."""
        for machine in self.model.machines:
            row = next(row for row in machines if row.id == machine.id)
            if machine.heartbeat is not None:
                assert row.heartbeat is not None
                assert machine.heartbeat - MACHINE_LAG <= row.heartbeat <= machine.heartbeat
                machine.heartbeat = row.heartbeat
        assert machines == sorted(
            (machine_row(machine) for machine in self.model.machines), key=lambda one: one.id
        )

    def _learn(
        self,
        imports: list[models.Import],
        machines: list[models.Machine],
        jobs: list[models.Job],
        logs: list[models.LogFile],
        results: list[models.Result],
    ) -> None:
        self._learn_in_order(self.model.living(), imports)
        self._learn_in_order(self.model.logs, logs)
        self._learn_in_order(self.model.results, results)
        for machine in self.model.machines:
            machine.id = next(row.id for row in machines if row.hostname == machine.hostname)
        new = [(one, job) for one, job in self.model.jobs() if job.id is None]
        for one, job in sorted(new, key=lambda pair: pair[1].serial):
            job.id = next(row.id for row in jobs if row.code_import_id == one.id)
            assert job.id > one.last_job_id, "job ids grow within an import"
            one.last_job_id = job.id
        ids = [job.id for _, job in sorted(self.model.jobs(), key=lambda pair: pair[1].serial)]
        assert ids == sorted(ids, key=known)

    @staticmethod
    def _learn_in_order(things: Sequence[Any], rows: Sequence[Any]) -> None:
        taken = {thing.id for thing in things}
        new = iter(row.id for row in rows if row.id not in taken)
        for thing in things:
            if thing.id is None:
                thing.id = next(new)

    def _compare_events(self, rows: list[models.Event]) -> None:
        for row in rows:
            if row.id not in self.known_events:
                self._learn_event(row)
        self._check_order()
        events = {known(event.id): event for event in self.model.events}
        assert [row.id for row in rows] == sorted(events)
        for row in rows:
            event = events[row.id]
            assert key_of_row(row) == key_of(event), "events never change"
            assert row.data == self.known_events[row.id]

    def _learn_event(self, row: models.Event) -> None:
        """A new event is one that the model expects, with the data that it expects."""
        expected = [event for event in self.model.events if event.id is None]
        event = next((event for event in expected if key_of(event) == key_of_row(row)), None)
        assert event is not None, f"not expected: {row}, but {expected}"
        event.id = row.id
        self.known_events[row.id] = row.data or {}
        check_data(event, row.data or {})

    def _check_order(self) -> None:
        """Ids grow within an import and within a machine, in the order in which things happened."""
        last: dict[object, int] = {}
        for event in self.model.events:
            for thing in (event.code_import, event.machine):
                if thing is not None:
                    assert event.id is not None, f"missing: {event}"
                    assert event.id > last.get(thing, 0)
                    last[thing] = event.id

    # --- picking --------------------------------------------------------------------------------

    def import_id(self, pick: Pick) -> int:
        """Of a failing one if there is any, of any that is there, or of one that is not."""
        kind, n = pick
        living = self.model.living()
        failing = [one for one in living if one.review_status == "failing"]
        kinds = {
            "failing": failing or living,
            "living": living,
            "deleted": [one for one in self.model.imports if one.is_deleted],
        }
        ids = [known(one.id) for one in kinds.get(kind, [])]
        return ids[n % len(ids)] if ids else 0

    def machine_id(self, pick: Pick) -> int:
        """Of one that is online if there is any, of any that is there, or of none."""
        kind, n = pick
        machines = self.model.machines
        online = [machine for machine in machines if machine.state == "online"]
        kinds = {"online": online or machines, "known": machines}
        ids = [known(machine.id) for machine in kinds.get(kind, [])]
        return ids[n % len(ids)] if ids else 0

    def job_id(self, pick: Pick) -> int:
        kind, n = pick
        jobs = [job for _, job in self.model.jobs()]
        kinds: dict[str, Sequence[int | None]] = {
            "running": [job.id for job in jobs if job.state == "running"],
            "waiting": [job.id for job in jobs if job.state != "running"],
            "ended": self.model.ended_job_ids[-4:],
            "unknown": [0],
        }
        ids = kinds.get(kind) or [job.id for job in jobs] or [0]
        return known(ids[n % len(ids)])

    def job_ids(self, picks: list[Pick]) -> list[int]:
        """Each once, but for one twice now and then."""
        ids = [self.job_id(pick) for pick in picks]
        return ids if len(picks) == 4 else list(dict.fromkeys(ids))

    def has(self, *states: str) -> bool:
        """Whether there is a job in one of these states."""
        return any(job.state in states for _, job in self.model.jobs())

    # --- the rules ------------------------------------------------------------------------------

    @initialize(settings=st.lists(settings, max_size=5))
    def make_a_start(self, settings: list[tuple[str, str | None]]) -> None:
        """Three imports, a machine, and a few settings."""
        for setting in settings:
            self.configure(setting, "con")
        for target, url in {"a": "https://example.org/a", "b": "/srv/a", "c": "/srv/c"}.items():
            self.call("operator", "new", "ada", target, "git", url)
        self.call("operator", "machine_new", "anvil", "online")

    @rule(span=st.sampled_from(LATER))
    def let_time_pass(self, span: timedelta) -> None:
        age(self.conn, span)
        self.model.pass_by(span)
        self._compare()

    @rule(caller=callers, person=people, given=given_imports, owner=people, interval=intervals)
    def register(
        self,
        caller: Caller,
        person: str | None,
        given: dict[str, Any],
        owner: str | None,
        interval: timedelta | None,
    ) -> None:
        source = [given["url"], None, None]
        if given["rcs_type"] == "cvs":
            source = [None, ":pserver:example.org:/cvs", given["target"]]
        what = (given["target"], given["rcs_type"], *source, given["review_status"])
        self.call(caller, "new", person, *what, owner or None, interval)

    @rule(person=people, given=st.lists(given_imports, max_size=4))
    def register_many(self, person: str | None, given: list[dict[str, Any]]) -> None:
        self.call("operator", "new_many", given, person)

    @rule(
        pick=import_picks,
        changed=st.one_of(
            changes,
            st.fixed_dictionaries({"review_status": review_statuses}),
            st.fixed_dictionaries({"update_interval": intervals}),
        ),
        person=people,
    )
    def change(self, pick: Pick, changed: dict[str, Any], person: str | None) -> None:
        self.call("operator", "update", self.import_id(pick), changed, person)

    @rule(pick=import_picks, url=urls, person=people)
    def set_url(self, pick: Pick, url: str | None, person: str | None) -> None:
        self.call("operator", "set_url", self.import_id(pick), url, person)

    @rule(pick=import_picks, person=people, is_meant=st.sampled_from([True, False, False]))
    def delete(self, pick: Pick, person: str | None, is_meant: bool) -> None:
        if is_meant:
            self.call("operator", "delete", self.import_id(pick), person)

    @rule(
        name=st.sampled_from(["request", "request_again"]),
        pick=import_picks,
        person=people,
        strictly=st.sampled_from([(), (), (True,)]),
    )
    def ask_for_a_run(
        self, name: str, pick: Pick, person: str | None, strictly: tuple[bool, ...]
    ) -> None:
        more = strictly if name == "request" else ()
        self.call("operator", name, self.import_id(pick), person, *more)

    @precondition(lambda self: any(one.review_status == "failing" for one in self.model.living()))
    @rule(pick=failing_picks, person=people)
    def try_again(self, pick: Pick, person: str | None) -> None:
        self.call("operator", "try_again", self.import_id(pick), person)

    @precondition(lambda self: self.has("pending", "scheduled"))
    @rule(pick=job_picks("waiting"), person=people)
    def request_job(self, pick: Pick, person: str | None) -> None:
        self.call("operator", "job_request", self.job_id(pick), person)

    @precondition(lambda self: self.has("pending", "scheduled"))
    @rule(
        pick=job_picks("waiting"),
        machine=st.one_of(machine_picks, st.none()),
        ordering=st.sampled_from([None, -1, 2, 3]),
        person=people,
    )
    def schedule(
        self, pick: Pick, machine: Pick | None, ordering: int | None, person: str | None
    ) -> None:
        machine_id = None if machine is None else self.machine_id(machine)
        self.call("operator", "job_schedule", self.job_id(pick), machine_id, ordering, person)

    @rule(
        caller=callers,
        hostname=hostnames,
        limit=limits,
        most=st.one_of(st.none(), limits),
        types=served,
    )
    def claim(
        self,
        caller: Caller,
        hostname: str,
        limit: int | None,
        most: int | None,
        types: list[str] | None,
    ) -> None:
        """One job, or ``most`` of them."""
        if most is None:
            self.call(caller, "job_for_machine", hostname, limit, types)
        else:
            self.call(caller, "job_claim", hostname, limit, most, types)

    @rule(
        orderings=st.lists(st.sampled_from([None, -1, 2, 3]), min_size=5, max_size=5),
        requested=numbers,
        hostname=hostnames,
        most=limits,
    )
    def rush(
        self, orderings: list[int | None], requested: int, hostname: str, most: int | None
    ) -> None:
        """All that waits is due, in an order of people's own, and a machine asks."""
        waiting = [job.id for _, job in self.model.jobs() if job.state != "running"]
        for n, (job_id, ordering) in enumerate(zip(waiting, orderings, strict=False)):
            self.call("operator", "job_schedule", job_id, None, ordering)
            if n == requested:
                self.call("operator", "job_request", job_id, "ray")
            self.let_time_pass(HOUR)
        self.let_time_pass(DAY)
        self.call("operator", "job_claim", hostname, most, most)

    @precondition(lambda self: self.has("pending", "scheduled"))
    @rule(caller=callers, pick=job_picks("waiting"), machine=machine_picks)
    def start(self, caller: Caller, pick: Pick, machine: Pick) -> None:
        self.call(caller, "job_start", self.job_id(pick), self.machine_id(machine))

    @precondition(lambda self: self.has("running"))
    @rule(caller=callers, pick=job_picks("running"), tail=tails)
    def beat(self, caller: Caller, pick: Pick, tail: str | None) -> None:
        self.call(caller, "job_update_heartbeat", self.job_id(pick), tail)

    @precondition(lambda self: self.has("running"))
    @rule(
        caller=callers,
        picks=st.lists(job_picks("running"), max_size=4),
        tail=tails,
        is_long=st.sampled_from([False] * 9 + [True]),
    )
    def beat_for_many(
        self, caller: Caller, picks: list[Pick], tail: str | None, is_long: bool
    ) -> None:
        ids = self.job_ids(picks)
        self.call(caller, "job_update_heartbeats", ids, [tail] * (len(ids) + is_long))

    @precondition(lambda self: self.has("running"))
    @rule(caller=callers, pick=job_picks("running"), content=st.sampled_from([b"", b"A log."]))
    def store_log(self, caller: Caller, pick: Pick, content: bytes) -> None:
        self.call(caller, "log_file_new", self.job_id(pick), content)

    @precondition(lambda self: self.has("running"))
    @rule(pick=job_picks("running"), person=people)
    def kill(self, pick: Pick, person: str | None) -> None:
        self.call("operator", "job_kill", self.job_id(pick), person)

    @precondition(lambda self: self.has("running"))
    @rule(caller=callers, pick=job_picks("running"), status=statuses, log=numbers)
    def finish(self, caller: Caller, pick: Pick, status: str | None, log: int) -> None:
        self.call(caller, "job_finish", self.job_id(pick), status, self._a_log(log))

    @precondition(lambda self: self.model.results)
    @rule(caller=callers, n=numbers, status=statuses)
    def finish_again(self, caller: Caller, n: int, status: str | None) -> None:
        """A finish that is said again, with the status that it had or with another."""
        result = self.model.results[n % len(self.model.results)]
        first = result.status if n % 2 and result.status != "reclaimed" else status
        self.call(caller, "job_finish", result.job.id, first)

    @precondition(lambda self: self.has("running"))
    @rule(
        caller=callers,
        picks=st.lists(job_picks("running"), max_size=4),
        status=st.lists(statuses, min_size=5, max_size=5),
        log=numbers,
        with_logs=st.booleans(),
    )
    def finish_many(
        self,
        caller: Caller,
        picks: list[Pick],
        status: list[str | None],
        log: int,
        with_logs: bool,
    ) -> None:
        ids = self.job_ids(picks)
        logs = [self._a_log(log + n) for n in range(len(ids))] if with_logs else None
        self.call(caller, "job_finish_many", ids, status[: len(ids)], logs)

    def _a_log(self, n: int) -> int | None:
        """Mostly none; else one that was stored, or one that was not."""
        logs = [log.id for log in self.model.logs[-3:]]
        return [*logs, 0, None, None, None, None, None][n % (len(logs) + 6)]

    @precondition(lambda self: self.has("running"))
    @rule(
        caller=callers,
        name=st.sampled_from(["job_reclaim", "job_release"]),
        pick=job_picks("running"),
    )
    def reclaim_or_release(self, caller: Caller, name: str, pick: Pick) -> None:
        self.call(caller, name, self.job_id(pick))

    @rule(caller=callers, most=limits)
    def reclaim_stale(self, caller: Caller, most: int | None) -> None:
        self.call(caller, "job_reclaim_stale", most)

    @rule(
        endings=st.one_of(
            st.lists(endings, min_size=1, max_size=3), st.lists(bad_endings, min_size=2, max_size=7)
        ),
        late=st.sampled_from([None, None, timedelta(), HOUR, 9 * HOUR]),
        duration=st.sampled_from([timedelta(), 3 * MINUTE, HOUR]),
        pick=import_picks,
    )
    def run(
        self,
        endings: list[tuple[str, frozenset[str]]],
        late: timedelta | None,
        duration: timedelta,
        pick: Pick,
    ) -> None:
        """A few runs of one import, started at once or late, and what happens meanwhile."""
        for ending, meanwhile in endings:
            one = next((one for one in self.model.living() if one.id == self.import_id(pick)), None)
            job = one.job if one else None
            if one is None or job is None or job.state == "running":
                return
            job_id = job.id
            if late is not None:
                self.let_time_pass(max(timedelta(), job.date_due - self.model.now) + late)
            self.call("operator", "job_start", job_id, self.machine_id(("online", 0)))
            if job.state != "running":
                return
            self.let_time_pass(duration)
            if "beat" in meanwhile:
                self.call("worker", "job_update_heartbeat", job_id, "Half-way.")
            if "log" in meanwhile:
                self.call("worker", "log_file_new", job_id, b"A log.")
            if "kill" in meanwhile:
                self.call("operator", "job_kill", job_id, "kim")
            if "again" in meanwhile:
                self.call("operator", "request_again", one.id, "ann")
                self.call("operator", "request_again", one.id, "art")
            if "suspend" in meanwhile:
                self.call("operator", "update", one.id, {"review_status": "suspended"})
            if "url" in meanwhile:
                self.call("operator", "set_url", one.id, "https://example.org/other", "uri")
            if ending in STATUSES:
                log = next((log.id for log in self.model.logs if log.job.id == job_id), None)
                self.call("operator", "job_finish", job_id, ending, log)
            else:
                self.call("operator", ending, job_id)

    @rule(caller=callers, pick=job_picks("any"), hostname=hostnames, types=served)
    def look(self, caller: Caller, pick: Pick, hostname: str, types: list[str] | None) -> None:
        self.call(caller, "job_get", self.job_id(pick))
        self.call(caller, "job_reclaimable")
        self.call(caller, "job_next_due", hostname, types)
        self.call(caller, "job_next_due")

    @rule(
        name=st.sampled_from(["job_new", "job_delete_pending"]),
        pick=import_picks,
        hostname=hostnames,
        state=st.sampled_from(["offline", "online", "quiescing", None]),
    )
    def do_by_hand(self, name: str, pick: Pick, hostname: str, state: str | None) -> None:
        """What is seldom called: the worker registers machines, changes make and delete jobs."""
        self.call("operator", name, self.import_id(pick))
        self.call("operator", "machine_new", hostname, state)

    @rule(
        turn=st.sampled_from(
            [
                *(("machine_set_online",), ("machine_set_online",), ("machine_set_quiescing",)),
                *(("machine_set_offline", "stopped"), ("machine_set_offline", "bored")),
                *(("machine_disown",), ("machine_delete",)),
            ]
        ),
        pick=machine_picks,
        person=people,
        message=st.sampled_from([(), ("Disk is full.",)]),
        hostname=hostnames,
    )
    def turn(
        self,
        turn: tuple[str, ...],
        pick: Pick,
        person: str | None,
        message: tuple[str, ...],
        hostname: str,
    ) -> None:
        """A machine goes from one state to another, or away; then one asks for work."""
        name, *reason = turn
        says = message if "set" in name else ()
        self.call("operator", name, self.machine_id(pick), *reason, person, *says)
        self.call("operator", "job_for_machine", hostname, 9)

    @rule(setting=settings, person=people)
    def configure(self, setting: tuple[str, str | None], person: str | None) -> None:
        self.call("operator", "configure", *setting, person)

    @rule(caller=callers, later=st.sampled_from([timedelta(), 2 * HOUR, 32 * DAY]))
    def tidy_up(self, caller: Caller, later: timedelta) -> None:
        self.let_time_pass(later)
        self.call(caller, "tidy_up")


# --- the model's things as rows ----------------------------------------------------------------


def known(number: int | None) -> int:
    """An id that has been learned."""
    assert number is not None
    return number


def sized(content: bytes) -> tuple[int, bytes]:
    return len(content), content


def import_row(one: Import, model: Model) -> models.Import:
    return models.Import(id=known(one.id), **record(one, model))


def machine_row(one: Machine) -> models.Machine:
    return models.Machine(
        known(one.id),
        one.date_created,
        one.hostname,
        one.state,  # type: ignore[arg-type]
        one.heartbeat,
        one.owner_role,
    )


def job_row(one: Import, job: Job) -> models.Job:
    return models.Job(
        known(job.id),
        job.date_created,
        known(one.id),
        job.machine.id if job.machine else None,
        job.date_due,
        job.state,  # type: ignore[arg-type]
        job.requesting_user,
        job.ordering,
        job.heartbeat,
        job.logtail,
        job.date_started,
        job.kill_requested_by,
        job.again_requested_by,
        one.rcs_type,
    )


def result_row(result: Result, model: Model) -> models.Result:
    return models.Result(
        known(result.id),
        result.date_created,
        known(result.code_import.id),
        known(result.machine.id),
        known(result.job.id),
        result.requesting_user,
        result.log_excerpt,
        result.log_file.id if result.log_file in model.logs else None,
        result.status,  # type: ignore[arg-type]
        result.date_job_started,
        result.date_created - result.date_job_started,
    )


def key_of(event: Event) -> tuple[object, ...]:
    return (
        event.event_type,
        event.code_import and event.code_import.id,
        event.machine and event.machine.id,
        event.person,
        event.date_created,
    )


def key_of_row(event: models.Event) -> tuple[object, ...]:
    return (
        event.event_type,
        event.code_import_id,
        event.machine_id,
        event.person,
        event.date_created,
    )


def check_data(event: Event, data: dict[str, Any]) -> None:
    """The data of an event names its run, and holds what is expected: of an import everything."""
    expected = dict(event.data)
    if event.job is not None:
        expected["job_id"] = event.job.id
    if "" in expected:
        whole = expected.pop("")
        assert {key for key in data if key.startswith("old_")} == {
            key for key in whole if key.startswith("old_")
        }
        expected |= whole
    assert {key: from_json(data.get(key), value) for key, value in expected.items()} == expected


def from_json(value: Any, like: object) -> object:
    """A value of JSON, as the time or the span that it stands for."""
    if isinstance(like, datetime) and value is not None:
        return datetime.fromisoformat(value)
    if isinstance(like, timedelta) and value == duration(like):
        return like
    return value


def plain(answer: object) -> object:
    """What a caller was told, by either world, in one form. Records are compared as such."""
    match answer:
        case Import() | Machine() | Job() | Result() | models.Import() | models.Machine():
            return type(answer).__name__.removeprefix("Assignment") or "Job", answer.id
        case models.Assignment() | models.Job():
            return "Job", answer.id
        case models.Result():
            return "Result", answer.id
        case LogFile():
            return answer.id
        case models.Event():
            return answer.event_type
        case models.Setting():
            return None
        case models.Finished():
            return answer.job_id, answer.result_id, answer.error_code
        case models.NewImport():
            return answer.target, answer.code_import_id, answer.error_code
        case models.JobDirective():
            return answer.job_id, answer.directive
        case models.Tidied():
            return answer.machines
        case dict():
            return "modify"
        case list():
            return [plain(one) for one in answer]
        case tuple():
            return tuple(one.id if isinstance(one, Import | Result) else one for one in answer)
    return answer


# --- the test ----------------------------------------------------------------------------------


def search(conn: psycopg.Connection[Any], seed: int, **settings: Any) -> None:
    """Play sequences of calls that follow from a seed. AssertionError where the worlds differ."""

    class PlayHere(Play):
        def __init__(self) -> None:
            super().__init__(conn)

    usual = hypothesis.settings(
        deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(
        hypothesis.seed(seed)(PlayHere), settings=hypothesis.settings(usual, **settings)
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_database_does_what_the_model_does(connect: Connect, seed: int) -> None:
    """Whatever is called, in whatever order, by whomever: the same few sequences each time."""
    conn = connect()
    load_scenes(conn)
    search(conn, seed, max_examples=30, phases=[Phase.generate])


@pytest.mark.skipif(not effort.is_long(), reason="CODE_IMPORT_TEST_LONG gives the minutes")
def test_the_database_does_what_the_model_does_for_long(connect: Connect) -> None:
    """Ever new sequences; one that fails is made short, and comes with its seed."""
    conn = connect()
    load_scenes(conn)
    end = time.monotonic() + 60 * effort.minutes()
    while time.monotonic() < end:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        search(conn, seed, max_examples=200)
