"""Nothing that people or workers ask reads more as the tables grow.

Every listing, and every call, is made on tables of tens of thousands of rows, often enough that
its plan is the one that a long session keeps. Two things are looked at: the plans of the listings,
which may not scan from end to end what grows with the imports or their history; and, of
everything, how many rows and index entries were visited, by the server's own count. That finds
long walks along an index too, and what is done inside functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString

import psycopg
import pytest
from click.testing import CliRunner

from code_import import reading, wire
from code_import.cli import main
from code_import.client import Client
from code_import.models import Job
from harness import grown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.sql

TURNS = 8
"""Enough for psycopg to prepare the statement, and for the server to choose a plan to keep."""
MOST = 1_500
"""Rows and index entries that one call may visit: each table that grows has over ten times that."""
SMALL = 8
"""Pages of a table that may well be read whole: a partition that has just begun."""
GROWING = (
    "^_code_import($|_schedule|_logtail|_result|_event|_log_file|_ref_change|_mirror|_held_ref"
    "|_credential)"
)


class Recording(psycopg.Cursor[Any]):
    """A cursor of the package that keeps what it sends."""

    sent: ClassVar[list[tuple[Any, Any]]] = []

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Send it, and keep it."""
        self.sent.append((query, params))
        return super().execute(query, params, **options)


@dataclass
class Asking:
    """Who asks, and of what. Each turn is about another import, job or run."""

    conn: psycopg.Connection[Any]
    client: Client
    machine: reading.MachineLine
    quiet_machine: reading.MachineLine
    result: reading.ResultLine
    waiting: list[Job]
    running: list[Job]
    turn: int = 0

    @property
    def job(self) -> Job:
        """A job that waits."""
        return self.waiting[self.turn]

    @property
    def run(self) -> Job:
        """A job that runs."""
        return self.running[self.turn]

    def sql(self, statement: LiteralString) -> None:
        """What a person types."""
        given = {
            "code_import_id": self.job.code_import_id, "machine_id": self.machine.id,
            "job_id": self.run.id, "result_id": self.result.id,
        }  # fmt: skip
        Recording(self.conn).execute(statement, given).fetchall()


# --- what is asked: its name says why it is ------------------------------------------------------

PEOPLE: dict[str, LiteralString] = {
    "the imports that wait for review, newest first":
        "select * from vcs.code_import where review_status = 'new' order by id desc limit 50",
    "the suspended imports, newest first":
        "select * from vcs.code_import where review_status = 'suspended' order by id desc limit 50",
    "the newest imports":
        "select * from vcs.code_import order by id desc limit 50",
    "the imports by target":
        "select * from vcs.code_import order by target limit 50",
    "an import by its id":
        "select * from vcs.code_import where id = %(code_import_id)s",
    "an import by its target":
        "select * from vcs.code_import where target = 'project7/repository7'",
    "an import by its url":
        "select * from vcs.code_import where url = 'https://host7.example.org/project7/repository7'",
    "the imports of an owner, by target":
        "select * from vcs.code_import where owner = 'owner7' order by target limit 50",
    "a job by its id":
        "select * from vcs.code_import_job where id = %(job_id)s",
    "the job of an import":
        "select * from vcs.code_import_job where code_import_id = %(code_import_id)s",
    "the runs of a machine":
        "select * from vcs.code_import_job"
        " where machine_id = %(machine_id)s and state = 'running' order by date_started",
    "the runs of all machines":
        "select * from vcs.code_import_job where state = 'running' order by date_started",
    "the assignments of a machine":
        "select * from vcs.code_import_assignment where machine_id = %(machine_id)s",
    "the results of an import, newest first":
        "select * from vcs.code_import_result where code_import_id = %(code_import_id)s"
        " order by id desc limit 50",
    "the results of a machine, newest first":
        "select * from vcs.code_import_result where machine_id = %(machine_id)s"
        " order by id desc limit 50",
    "the results, newest first":
        "select * from vcs.code_import_result order by id desc limit 50",
    "a result by its id":
        "select * from vcs.code_import_result where id = %(result_id)s",
    "the events of an import, newest first":
        "select * from vcs.code_import_event where code_import_id = %(code_import_id)s"
        " order by id desc limit 50",
    "the events of a machine, newest first":
        "select * from vcs.code_import_event where machine_id = %(machine_id)s"
        " order by id desc limit 50",
    "the events, newest first":
        "select * from vcs.code_import_event order by id desc limit 50",
    "the runs that may be reclaimed":
        "select * from vcs.code_import_job_reclaimable()",
}  # fmt: skip

READINGS: dict[str, Callable[[Asking], object]] = {
    "imports": lambda at: reading.imports(at.conn),
    "imports: the next page": lambda at: reading.imports(at.conn, after="project5/repository5"),
    "imports: of a status": lambda at: reading.imports(at.conn, statuses=["new"]),
    "imports: of a status that none has": lambda at: reading.imports(at.conn, statuses=["invalid"]),
    "imports: of two statuses": lambda at: reading.imports(
        at.conn, statuses=["failing", "suspended"]
    ),
    "imports: reviewed": lambda at: reading.imports(at.conn, statuses=["reviewed"]),
    "imports: of a type": lambda at: reading.imports(at.conn, rcs_types=["svn"]),
    "imports: of an owner": lambda at: reading.imports(at.conn, owner="owner7"),
    "imports: of an owner who has none": lambda at: reading.imports(at.conn, owner="nobody"),
    "imports: of a url": lambda at: reading.imports(at.conn, url="https://example.org/none"),
    "imports_named: by target": lambda at: reading.imports_named(at.conn, "project7/repository7"),
    "imports_named: by id": lambda at: reading.imports_named(at.conn, str(at.job.code_import_id)),
    "jobs": lambda at: reading.jobs(at.conn),
    "jobs: the next page": lambda at: reading.jobs(at.conn, after=(at.job.date_due, at.job.id)),
    "jobs: due": lambda at: reading.jobs(at.conn, due=True),
    "jobs: requested": lambda at: reading.jobs(at.conn, requested=True),
    "jobs: running": lambda at: reading.jobs(at.conn, states=["running"]),
    "jobs: scheduled": lambda at: reading.jobs(at.conn, states=["scheduled"]),
    "jobs: pending": lambda at: reading.jobs(at.conn, states=["pending"]),
    "jobs: of a machine": lambda at: reading.jobs(at.conn, machine_id=at.machine.id),
    "jobs: of an import": lambda at: reading.jobs(at.conn, code_import_id=at.job.code_import_id),
    "jobs: by id": lambda at: reading.jobs(at.conn, job_ids=[at.job.id, at.run.id]),
    "assignments": lambda at: reading.assignments(at.conn, at.machine.hostname),
    "machines": lambda at: reading.machines(at.conn),
    "machines_named": lambda at: reading.machines_named(at.conn, at.machine.hostname),
    "events": lambda at: reading.events(at.conn),
    "events: the next page": lambda at: reading.events(at.conn, before=at.result.id),
    "events: of an import": lambda at: reading.events(
        at.conn, code_import_id=at.job.code_import_id
    ),
    "events: of a machine": lambda at: reading.events(at.conn, machine_id=at.machine.id),
    "events: finishes": lambda at: reading.events(at.conn, event_types=["finish"]),
    "events: requests": lambda at: reading.events(at.conn, event_types=["request"]),
    "results": lambda at: reading.results(at.conn),
    "results: the next page": lambda at: reading.results(at.conn, before=at.result.id),
    "results: of an import": lambda at: reading.results(
        at.conn, code_import_id=at.job.code_import_id
    ),
    "results: of a machine": lambda at: reading.results(at.conn, machine_id=at.machine.id),
    "results: of a machine that ran long ago": lambda at: reading.results(
        at.conn, machine_id=at.quiet_machine.id
    ),
    "results: of a machine that ran long ago, the next page": lambda at: reading.results(
        at.conn, machine_id=at.quiet_machine.id, before=at.result.id
    ),
    "results: of a status": lambda at: reading.results(at.conn, statuses=["success"]),
    "results: of a rare status": lambda at: reading.results(at.conn, statuses=["failure"]),
    "results: of a status that none has": lambda at: reading.results(at.conn, statuses=["killed"]),
    "result": lambda at: reading.result(at.conn, at.result.id),
    "log_file": lambda at: reading.log_file(at.conn, 7),
    "credentials": lambda at: reading.credentials(at.conn),
    "credentials: the next page": lambda at: reading.credentials(at.conn, after=15_000),
    "credentials: of a host": lambda at: reading.credentials(at.conn, host="host7.example.org"),
    "credentials: of a host that has none": lambda at: reading.credentials(at.conn, host="none"),
    "credentials: of an import": lambda at: reading.credentials(
        at.conn, code_import_id=at.job.code_import_id
    ),
    "credential": lambda at: reading.credential(at.conn, 7),
}

CALLS: dict[str, Callable[[Asking], object]] = {
    "job_claim": lambda at: at.client.job_claim(at.machine.hostname, 1000, 10),
    "job_claim: of a type": lambda at: at.client.job_claim(at.machine.hostname, 1000, 10, ["hg"]),
    "job_for_machine": lambda at: at.client.job_for_machine(at.machine.hostname, 1000),
    "job_for_machine: a new one": lambda at: at.client.job_for_machine(f"new{at.turn}", 1),
    "job_start": lambda at: at.client.job_start(at.job.id, at.machine.id),
    "job_update_heartbeat": lambda at: at.client.job_update_heartbeat(at.run.id, "fetching\n"),
    "job_update_heartbeats": lambda at: at.client.job_update_heartbeats([at.run.id], ["x\n"]),
    "job_finish": lambda at: at.client.job_finish(at.run.id, "success"),
    "job_finish: as a failure": lambda at: at.client.job_finish(at.run.id, "failure"),
    "job_finish: again": lambda at: [at.client.job_finish(at.run.id, "success") for _ in range(2)],
    "job_finish_many": lambda at: at.client.job_finish_many([at.run.id], ["success_nochange"]),
    "job_release": lambda at: at.client.job_release(at.run.id),
    "job_reclaim": lambda at: at.client.job_reclaim(at.run.id),
    "job_reclaim_stale": lambda at: at.client.job_reclaim_stale(),
    "job_reclaimable": lambda at: at.client.job_reclaimable(),
    "job_request": lambda at: at.client.job_request(at.job.id, "ada"),
    "job_schedule": lambda at: at.client.job_schedule(at.job.id, at.machine.id, 1, "ada"),
    "job_kill": lambda at: at.client.job_kill(at.run.id, "ada"),
    "job_get": lambda at: at.client.job_get(at.run.id),
    "job_get: of a run that has ended": lambda at: at.client.job_get(at.result.job_id),
    "job_next_due": lambda at: at.client.job_next_due(at.machine.hostname),
    "job_next_due: of a type": lambda at: at.client.job_next_due(None, ["hg"]),
    "log_file_new": lambda at: at.client.log_file_new(at.run.id, b"all of it\n"),
    "new": lambda at: at.client.new("ada", f"n/{at.turn}", "git", f"https://example.org/{at.turn}"),
    "new_many": lambda at: at.client.new_many(
        [{"target": f"n/{at.turn}", "rcs_type": "git", "url": f"https://example.org/{at.turn}"}],
        "ada",
    ),
    "update": lambda at: at.client.update(at.job.code_import_id, {"owner": f"new{at.turn}"}),
    "update: the interval": lambda at: at.client.update(
        at.job.code_import_id, {"update_interval": "1 hour"}
    ),
    "update: suspended": lambda at: at.client.update(
        at.job.code_import_id, {"review_status": "suspended"}
    ),
    "set_url": lambda at: at.client.set_url(
        at.job.code_import_id, f"https://example.org/{at.turn}", "ada"
    ),
    "request": lambda at: at.client.request(at.job.code_import_id, "ada"),
    "request_again": lambda at: at.client.request_again(at.run.code_import_id, "ada"),
    "delete": lambda at: at.client.delete(at.job.code_import_id, "ada"),
    "machine_new": lambda at: at.client.machine_new(f"new{at.turn}"),
    "machine_set_quiescing": lambda at: [
        at.client.machine_set_quiescing(at.machine.id, "ada"),
        at.client.machine_set_online(at.machine.id, "ada"),
    ],
    "machine_delete": lambda at: at.client.machine_delete(
        at.client.machine_new(f"new{at.turn}").id, "ada"
    ),
    "configure": lambda at: at.client.configure("results_kept", str(at.turn + 1), "ada"),
    "mirror_report": lambda at: at.client.mirror_report(
        at.run.id, [{"ref": f"refs/heads/{at.turn}", "kind": "new", "new": f"{at.turn:040}"}], []
    ),
    "mirror_accept": lambda at: at.client.mirror_accept(held(at), "ada"),
    "mirror_keep": lambda at: at.client.mirror_keep(held(at), "ada"),
    "mirror_set_maximum_loss": lambda at: at.client.mirror_set_maximum_loss(
        at.job.code_import_id, at.turn, "ada"
    ),
    "mirror_as_of": lambda at: at.client.mirror_as_of(
        at.job.code_import_id, reading.instant(at.conn, "today")
    ),
    "mirror_restore": lambda at: at.client.mirror_restore(
        at.job.code_import_id,
        [{"ref": "HEAD", "kind": "updated", "new": "ref: refs/heads/main"}],
        "ada",
    ),
    "credential_new": lambda at: at.client.credential_new(
        f"new{at.turn}.example.org", "robot", b"x", "key", "ada"
    ),
    "credential_replace": lambda at: at.client.credential_replace(
        credential(at), "robot", b"x", "key", "ada"
    ),
    "credential_delete": lambda at: at.client.credential_delete(credential(at), "ada"),
    "credential_for_job": lambda at: at.client.credential_for_job(at.run.id),
    "tidy_up": lambda at: at.client.tidy_up(),
}


def held(at: Asking) -> int:
    """An import whose run holds something back."""
    refs = [{"ref": "refs/heads/main", "kind": "deleted", "old": f"{at.turn:040}"}]
    return at.client.mirror_report(at.run.id, None, refs).code_import_id


def credential(at: Asking) -> int:
    """The login of the import whose job waits."""
    return reading.credentials(at.conn, code_import_id=at.job.code_import_id)[0].id


COMMANDS = (
    "import list", "import list --status new", "import show project7/repository7",
    "job list", "job list --due", "job list --requested", "job list --state running",
    "job list --machine machine1.example.org", "job list --import project7/repository7",
    "job show project7/repository7", "job next-due", "job reclaimable",
    "machine list", "machine show machine1.example.org",
    "event list", "event list --import project7/repository7", "event list --type kill",
    "event list --machine machine1.example.org",
    "result list", "result list --import project7/repository7", "result list --status failure",
    "result list --machine machine1.example.org", "result show project7/repository7",
    "mirror list", "mirror list --held", "mirror list --damaged",
    "mirror held project7/repository7", "mirror changes project7/repository7",
    "mirror as-of project7/repository7 today",
    "credential list", "credential list --host host7.example.org",
    "credential list --import project7/repository7",
)  # fmt: skip

# --- how it is looked at -------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What the package has sent to the server."""
    monkeypatch.setattr(wire, "Cursor", Recording)
    Recording.sent.clear()
    return Recording.sent


@pytest.fixture
def at(grown_dsn: str) -> Iterator[Asking]:
    """One transaction, which is rolled back, of one who may do everything."""
    with psycopg.connect(grown_dsn, options="-c max_parallel_workers_per_gather=0") as conn:
        jobs = Job.columns.replace("logtail", "null as logtail")
        waiting, running = (
            wire.fetch_all(
                conn, Job,
                f"select {jobs} from vcs.code_import_job where state = %s"
                " and requesting_user is null order by code_import_id desc limit 20",
                state,
            )
            for state in ("pending", "running")
        )  # fmt: skip
        [machine] = reading.machines_named(conn, grown.hostname(1))
        [quiet] = reading.machines_named(conn, grown.QUIET)
        result = reading.results(conn, code_import_id=waiting[0].code_import_id)[0]
        Recording.sent.clear()
        yield Asking(conn, Client(conn), machine, quiet, result, waiting, running)
        conn.rollback()


def visited(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Rows that were read from the beginning to the end of a table, and entries of indexes.

    Of tables that grow, with their partitions, by this transaction and what came just before it.
    """
    found = conn.execute(
        """
        select whole.relname, sum(
            pg_stat_get_xact_tuples_returned(part.oid)
            + coalesce((
                select sum(pg_stat_get_xact_tuples_returned(index.indexrelid))
                from pg_index as index where index.indrelid = part.oid
            ), 0)
        )::bigint
        from pg_class as part
        join pg_class as whole on whole.oid = coalesce(pg_partition_root(part.oid), part.oid)
        where part.relnamespace = 'vcs'::regnamespace and part.relkind = 'r'
          and whole.relname ~ %s
        group by whole.relname
        """,
        [GROWING],
    )
    return dict(found.fetchall())


def visits(at: Asking, call: Callable[[Asking], object]) -> dict[str, int]:
    """What one call visits, when it has been made so often that its plan is settled."""
    counted: dict[str, int] = {}
    for turn in range(TURNS):
        at.turn = turn
        before = visited(at.conn)
        call(at)
        counted = {name: count - before[name] for name, count in visited(at.conn).items()}
    return {name: count for name, count in counted.items() if count}


def scanned(conn: psycopg.Connection[Any], plan: str) -> list[str]:
    """The tables that grow, have grown, and are read whole in this plan."""
    names = re.findall(r"Seq Scan on (?:vcs\.)?(\w+)", plan)
    found = conn.execute(
        """
        select part.relname
        from pg_class as part
        join pg_class as whole on whole.oid = coalesce(pg_partition_root(part.oid), part.oid)
        where part.relnamespace = 'vcs'::regnamespace and part.relname = any (%s)
          and whole.relname ~ %s and part.relpages > %s
        """,
        [names, GROWING, SMALL],
    )
    return [name for (name,) in found]


def plans(conn: psycopg.Connection[Any], statements: list[tuple[Any, Any]]) -> Iterator[str]:
    """The plan of each statement."""
    for query, params in statements:
        text = query if isinstance(query, str) else query.decode()
        lines = conn.execute(f"explain {text}".encode(), params)
        yield "\n".join(line for (line,) in lines)


def check(at: Asking, call: Callable[[Asking], object]) -> None:
    """Neither a plan nor a count shows a walk through what grows."""
    counted = visits(at, call)
    settled = Recording.sent[-len(Recording.sent) // TURNS :]
    for plan in plans(at.conn, settled):
        assert not scanned(at.conn, plan), plan
    assert sum(counted.values()) <= MOST, (counted, *plans(at.conn, settled))


@pytest.mark.parametrize("name", PEOPLE)
def test_what_people_type(at: Asking, name: str) -> None:
    check(at, lambda at: at.sql(PEOPLE[name]))


@pytest.mark.parametrize("name", READINGS)
def test_what_the_package_reads(at: Asking, name: str) -> None:
    check(at, READINGS[name])


@pytest.mark.parametrize("name", CALLS)
def test_what_functions_do(at: Asking, name: str) -> None:
    counted = visits(at, CALLS[name])
    assert sum(counted.values()) <= MOST, counted


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_command_line_asks(
    grown_dsn: str, sent: list[tuple[Any, Any]], command: str
) -> None:
    runner = CliRunner(env={"CODE_IMPORT_DSN": grown_dsn, "CODE_IMPORT_PERSON": "ada"})
    ended = runner.invoke(main, command.split(), catch_exceptions=False)
    if ended.exit_code:
        pytest.fail(ended.stderr)
    with psycopg.connect(grown_dsn) as conn:
        for plan in plans(conn, list(sent)):
            assert not scanned(conn, plan), plan


# --- whether anything is left out ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        ({}, "true"),
        ({"due": True}, "date_due <= now() and state <> 'running'"),
        ({"requested": True}, "requesting_user is not null"),
        ({"states": ["pending"]}, "state = 'pending'"),
        ({"states": ["scheduled"]}, "state = 'scheduled'"),
        ({"states": ["running", "scheduled"]}, "state in ('running', 'scheduled')"),
        ({"states": ["running"], "due": True}, "false"),
        ({"states": ["pending"], "due": True, "requested": True},
         "state = 'pending' and date_due <= now() and requesting_user is not null"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("on_a_machine", [False, True], ids=["anywhere", "on a machine"])
def test_jobs_are_found_wherever_they_lie(
    at: Asking, filters: dict[str, Any], condition: LiteralString, on_a_machine: bool
) -> None:
    """Page by page, they are the same and in the same order as a plain query finds."""
    at.client.job_schedule(at.job.id, at.machine.id, 3, "ada")
    at.client.request(at.job.code_import_id, "ada")  # pinned, ordered and requested
    given = {**filters, **({"machine_id": at.machine.id} if on_a_machine else {})}
    place = "machine_id = %s" if on_a_machine else "%s::bigint is not null"
    expected = at.conn.execute(
        f"select id from vcs.code_import_job where {condition} and {place} order by date_due, id",
        [at.machine.id],
    ).fetchall()
    found: list[reading.JobLine] = []
    after = None
    while page := reading.jobs(at.conn, **given, after=after, limit=3_000):
        found += page
        after = (page[-1].date_due, page[-1].id)
    assert [line.id for line in found] == [job_id for (job_id,) in expected]
    assert bool(found) == bool(expected)


def test_machines_have_all_their_jobs_counted(at: Asking) -> None:
    at.client.job_schedule(at.job.id, at.machine.id, 3, "ada")
    at.client.request(at.job.code_import_id, "ada")
    expected = at.conn.execute(
        "select count(*) filter (where state = 'running'), count(*) filter (where state <>"
        " 'running') from vcs.code_import_job where machine_id = %s",
        [at.machine.id],
    ).fetchone()
    [line] = reading.machines_named(at.conn, at.machine.hostname)
    assert (line.running, line.scheduled) == expected
    assert line.scheduled > 1


@pytest.mark.parametrize("event_types", [["finish"], ["start", "request"], ["kill", "create"]])
def test_events_of_some_types(at: Asking, event_types: list[Any]) -> None:
    at.client.job_kill(at.run.id, "ada")
    expected = at.conn.execute(
        "select id from vcs.code_import_event where event_type = any (%s)"
        " order by id desc limit 70",
        [event_types],
    ).fetchall()
    found = reading.events(at.conn, event_types=event_types, limit=70)
    assert [line.id for line in found] == [event_id for (event_id,) in expected]


# --- whether it can fail -------------------------------------------------------------------------


def test_a_walk_is_found(at: Asking) -> None:
    """By the plan, and by the count, also inside a function and along an index."""
    with pytest.raises(AssertionError, match="Seq Scan"):
        check(at, lambda at: at.sql("select * from vcs.code_import where assignee = 'nobody'"))
    at.conn.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
    along_an_index = "select count(*) from (select * from vcs.code_import order by id) as import"
    assert visits(at, lambda at: at.sql(along_an_index))["_code_import"] == grown.IMPORTS
    at.conn.execute("set local enable_seqscan = on")
    at.conn.execute(
        "create function pg_temp.count_imports() returns bigint language plpgsql as $$"
        " begin return (select count(*) from vcs._code_import); end $$"
    )
    inside = visits(at, lambda at: at.sql("select pg_temp.count_imports()"))
    assert inside["_code_import"] == grown.IMPORTS


def test_every_method_and_reading_is_asked() -> None:
    """A new one is to be added here."""
    methods = {name for name in vars(Client) if not name.startswith("_")}
    asked = {name.partition(":")[0] for name in CALLS}
    left_out = {
        "job_new", "job_delete_pending", "try_again",  # parts of update
        "job_is_overdue",  # of a row that is given
        "machine_set_online", "machine_set_offline", "machine_disown",  # as the others
    }  # fmt: skip
    assert methods - asked == left_out
