"""The client: each method against the real functions, on every sort of connection."""

from __future__ import annotations

import ast
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import class_row, dict_row, tuple_row

from code_import import reading
from code_import.client import Client
from code_import.errors import AlreadyThere
from code_import.models import Finished, JobDirective, Setting
from code_import.wire import dump_json, duration, instant
from harness.ageing import age

if TYPE_CHECKING:
    from conftest import Connect

URL = "https://example.org/repo.git"
HOUR = timedelta(hours=1)


@pytest.fixture
def client(conn: psycopg.Connection[Any]) -> Client:
    """A client on an autocommit connection."""
    return Client(conn)


def running(client: Client, target: str = "project/repo") -> int:
    """A job that runs on the machine build1."""
    client.new("alice", target, "git", f"https://example.org/{target}.git")
    claimed = client.job_for_machine("build1", 100)
    assert claimed is not None
    return claimed.id


# Imports


def test_new_registers_an_import_with_a_job(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL, update_interval="6 hours")
    assert (imp.registrant, imp.owner, imp.assignee) == ("alice", "alice", None)
    assert (imp.target, imp.rcs_type, imp.url) == ("project/repo", "git", URL)
    assert (imp.cvs_root, imp.cvs_module, imp.review_status) == (None, None, "reviewed")
    assert imp.update_interval == imp.effective_update_interval == timedelta(hours=6)
    assert (imp.date_last_successful, imp.consecutive_failure_count) == (None, 0)
    assert imp.date_created.tzinfo is not None


def test_new_takes_the_default_of_the_type_for_no_interval(client: Client) -> None:
    imp = client.new(
        "alice", "old/module", "cvs", cvs_root=":pserver:a@example.org:/cvs", cvs_module="module"
    )
    assert imp.update_interval is None
    assert imp.effective_update_interval == timedelta(hours=12)


def test_new_many_says_of_each_whether_it_was_registered(client: Client) -> None:
    one, two = client.new_many(
        [
            {"target": "a", "rcs_type": "git", "url": URL, "update_interval": timedelta(hours=2)},
            {"target": "b", "rcs_type": "git", "url": URL},
        ],
        "alice",
    )
    assert one.code_import_id is not None
    assert (one.target, one.error_code, one.message) == ("a", None, None)
    assert (two.target, two.code_import_id, two.error_code) == ("b", None, "23505")


def test_update_returns_the_event_of_a_change_and_none_without_one(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    changes = {"owner": "bob", "update_interval": timedelta(hours=3)}
    event = client.update(imp.id, changes, "alice")
    assert event is not None
    assert (event.event_type, event.code_import_id, event.person) == ("modify", imp.id, "alice")
    assert event.data is not None
    assert (event.data["owner"], event.data["old_owner"]) == ("bob", "alice")
    assert event.data["update_interval"] == "PT3H"
    assert client.update(imp.id, changes, "alice") is None


def test_set_url_changes_the_source(client: Client, conn: psycopg.Connection[Any]) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    event = client.set_url(imp.id, "https://example.org/moved.git", "alice")
    assert event is not None
    assert event.event_type == "modify"
    (line,) = reading.imports_named(conn, "project/repo")
    assert line.url == "https://example.org/moved.git"
    assert client.set_url(imp.id, "https://example.org/moved.git", "alice") is None


def test_delete_removes_an_import(client: Client, conn: psycopg.Connection[Any]) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    client.delete(imp.id, "alice")
    assert reading.imports(conn) == []


def test_request_makes_a_job_due_in_a_persons_name(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    job = client.request(imp.id, "alice")
    assert (job.code_import_id, job.requesting_user) == (imp.id, "alice")
    assert client.request(imp.id, "bob").requesting_user == "alice"


def test_request_again_waits_for_the_run_that_goes_on(client: Client) -> None:
    job_id = running(client)
    job = client.job_get(job_id)
    assert job is not None
    assert client.request_again(job.code_import_id, "bob").again_requested_by == "bob"


def test_try_again_gives_a_failing_import_a_job(client: Client) -> None:
    client.configure("consecutive_failure_limit", "0", "alice")
    job_id = running(client)
    result = client.job_finish(job_id, "failure")
    job = client.try_again(result.code_import_id, "alice")
    assert (job.state, job.requesting_user) == ("pending", "alice")


# Jobs


def test_job_new_and_delete_pending_put_right_what_others_keep(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    with conn.transaction():
        conn.execute(
            "update vcs._code_import_schedule"
            " set job_id = null, date_created = null, date_due = null, state = null"
        )
        job = client.job_new(imp.id, HOUR)
    assert (job.code_import_id, job.state) == (imp.id, "pending")
    with conn.transaction():
        conn.execute("update vcs._code_import_schedule set review_status = 'suspended'")
        client.job_delete_pending(imp.id)
    assert client.job_get(job.id) is None


def test_job_request_makes_a_job_due_in_a_persons_name(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    client.new("alice", "project/repo", "git", URL)
    (line,) = reading.jobs(conn)
    assert client.job_request(line.id, "bob").requesting_user == "bob"


def test_job_start_runs_a_job_on_a_machine(client: Client, conn: psycopg.Connection[Any]) -> None:
    client.new("alice", "project/repo", "git", URL)
    machine = client.machine_new("build1", "online")
    (line,) = reading.jobs(conn)
    job = client.job_start(line.id, machine.id)
    assert (job.state, job.machine_id, job.logtail) == ("running", machine.id, "")
    assert job.date_started == job.heartbeat


def test_job_update_heartbeat_keeps_the_log_and_brings_the_directive(client: Client) -> None:
    job_id = running(client)
    assert client.job_update_heartbeat(job_id, "one line") == "continue"
    assert client.job_update_heartbeat(job_id, None) == "continue"
    job = client.job_get(job_id)
    assert job is not None
    assert job.logtail == "one line"
    client.job_kill(job_id, "alice")
    assert client.job_update_heartbeat(job_id, None) == "stop"


def test_job_update_heartbeats_brings_a_directive_for_each_run(client: Client) -> None:
    alive, killed = running(client, "a"), running(client, "b")
    client.job_kill(killed, "alice")
    answers = client.job_update_heartbeats((alive, killed, 404), ("log", None, None))
    assert answers == [
        JobDirective(alive, "continue"),
        JobDirective(killed, "stop"),
        JobDirective(404, "gone"),
    ]


def test_job_finish_returns_the_result_with_its_log(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    job_id = running(client)
    client.job_update_heartbeat(job_id, "the last line")
    log_file_id = client.log_file_new(job_id, b"\x00 all of it \xff")
    result = client.job_finish(job_id, "success", log_file_id)
    assert (result.job_id, result.status, result.log_file_id) == (job_id, "success", log_file_id)
    assert result.log_excerpt == "the last line"
    assert result.job_duration >= timedelta(0)
    log = reading.log_file(conn, log_file_id)
    assert log is not None
    assert (log.job_id, log.size, log.content) == (job_id, 13, b"\x00 all of it \xff")
    assert client.job_finish(job_id, "success") == result


def test_job_finish_many_finishes_what_it_can(client: Client) -> None:
    one, two = running(client, "a"), running(client, "b")
    log_file_id = client.log_file_new(two, b"log")
    rows = client.job_finish_many(
        [one, two, 404], ["success", "failure", "success"], [None, log_file_id, None]
    )
    assert [(row.job_id, row.status, row.error_code) for row in rows] == [
        (one, "success", None),
        (two, "failure", None),
        (404, None, "IJ410"),
    ]
    (again,) = client.job_finish_many((one,), ("success",))
    assert again == Finished(one, rows[0].result_id, "success", None, None)


def test_job_reclaim_ends_a_run(client: Client) -> None:
    job_id = running(client)
    result = client.job_reclaim(job_id)
    assert (result.job_id, result.status) == (job_id, "reclaimed")


def test_job_reclaimable_and_reclaim_stale_find_silent_runs(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    job_id = running(client)
    assert client.job_reclaimable() == []
    assert client.job_reclaim_stale() == 0
    _silence(conn)
    assert [job.id for job in client.job_reclaimable()] == [job_id]
    assert client.job_reclaim_stale(1) == 1


def test_job_release_gives_a_run_back(client: Client) -> None:
    job_id = running(client)
    job = client.job_release(job_id)
    assert job is not None
    assert job.id > job_id
    assert job.state == "pending"


def test_job_release_returns_none_when_no_job_follows(client: Client) -> None:
    job_id = running(client)
    job = client.job_get(job_id)
    assert job is not None
    client.update(job.code_import_id, {"review_status": "suspended"})
    assert client.job_release(job_id) is None


def test_job_kill_names_who_asked(client: Client) -> None:
    assert client.job_kill(running(client), "alice").kill_requested_by == "alice"


def test_job_schedule_pins_and_unpins(client: Client, conn: psycopg.Connection[Any]) -> None:
    client.new("alice", "project/repo", "git", URL)
    machine = client.machine_new("build1")
    (line,) = reading.jobs(conn)
    job = client.job_schedule(line.id, machine.id, 7, "alice")
    assert (job.state, job.machine_id, job.ordering) == ("scheduled", machine.id, 7)
    job = client.job_schedule(line.id, None)
    assert (job.state, job.machine_id, job.ordering) == ("pending", None, None)


def test_job_is_overdue_judges_the_job_that_it_is_given(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    job = client.request(imp.id, "alice")
    assert client.job_is_overdue(job) is True
    assert client.job_is_overdue(replace(job, date_due=reading.now(conn) + HOUR)) is False


def test_job_get_returns_none_for_no_run(client: Client) -> None:
    assert client.job_get(404) is None


def test_job_next_due_is_a_time_or_none(client: Client, conn: psycopg.Connection[Any]) -> None:
    assert client.job_next_due() is None
    client.new("alice", "project/repo", "git", URL)
    due = client.job_next_due("build1", ("git",))
    assert due is not None
    assert due <= reading.now(conn)
    assert client.job_next_due("build1", ["svn"]) is None
    assert client.job_next_due("build1", []) is None


def test_job_for_machine_claims_what_it_serves(client: Client) -> None:
    client.new("alice", "project/repo", "git", URL)
    assert client.job_for_machine("build1", 1, ("svn", "hg")) is None
    claimed = client.job_for_machine("build1", 1, ["git"])
    assert claimed is not None
    assert (claimed.state, claimed.rcs_type, claimed.url) == ("running", "git", URL)
    assert (claimed.target, claimed.cvs_root, claimed.cvs_module) == ("project/repo", None, None)
    assert client.job_for_machine("build1", 1) is None


def test_job_claim_claims_many(client: Client) -> None:
    for name in "abc":
        client.new("alice", name, "git", f"https://example.org/{name}.git")
    assert [claimed.target for claimed in client.job_claim("build1", 2, 5, ("git",))] == ["a", "b"]
    assert client.job_claim("build1", 2, 5) == []


# Machines, logs, settings


def test_machine_states(client: Client, conn: psycopg.Connection[Any]) -> None:
    machine = client.machine_new("build1")
    assert (machine.hostname, machine.state, machine.owner_role) == ("build1", "offline", None)
    assert client.machine_set_online(machine.id, "alice", "hello").state == "online"
    assert client.machine_set_quiescing(machine.id, "alice").state == "quiescing"
    assert client.machine_set_offline(machine.id, "watchdog", "alice").state == "offline"
    (newest, *_) = reading.events(conn, machine_id=machine.id)
    assert newest.data is not None
    assert newest.data["reason"] == "watchdog"
    client.machine_delete(machine.id, "alice")
    assert reading.machine(conn, "build1") is None


def test_machine_disown_frees_a_machine(client: Client, connect: Connect) -> None:
    client.new("alice", "project/repo", "git", URL)
    worker = Client(connect("tester_worker"))
    claimed = worker.job_for_machine("build1", 1)
    assert claimed is not None
    assert claimed.machine_id is not None
    assert client.machine_disown(claimed.machine_id, "alice").owner_role is None


def test_configure_changes_a_setting_and_none_restores_it(client: Client) -> None:
    setting = client.configure("logtail_limit", "1 kB", "alice")
    assert (setting.name, setting.value, setting.default_value) == (
        "logtail_limit", "1 kB", "64 kB",
    )  # fmt: skip
    assert setting.description
    assert client.configure("logtail_limit", None, "alice").value == "64 kB"


def test_tidy_up_counts_what_it_removed(client: Client, conn: psycopg.Connection[Any]) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    client.delete(imp.id, "alice")
    age(conn, timedelta(days=40))
    assert client.tidy_up().partitions_dropped == 1
    tidied = client.tidy_up()
    assert (tidied.partitions_dropped, tidied.partitions_due, tidied.rows_astray) == (0, 0, 0)


def test_numbers_out_of_range_are_refused_as_such(client: Client) -> None:
    for call in (
        lambda: client.job_for_machine("build1", 2**40),
        lambda: client.job_claim("build1", 1, 2**40),
        lambda: client.job_reclaim_stale(2**40),
        lambda: client.job_schedule(1, None, 2**40),
    ):
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            call()


# Any connection


CONNECTIONS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "rows as mappings": {"row_factory": dict_row},
    "never prepared": {"row_factory": tuple_row, "prepare_threshold": None},
    "always prepared": {"prepare_threshold": 0},
    "values in the text": {"cursor_factory": psycopg.ClientCursor},
    "dollar parameters": {"cursor_factory": psycopg.RawCursor},
    "settings from elsewhere": {
        "options": "-c datestyle=SQL,DMY -c intervalstyle=sql_standard -c timezone=Asia/Kolkata"
    },
    "other settings": {
        "options": "-c intervalstyle=iso_8601 -c bytea_output=escape -c search_path="
    },
}


@pytest.mark.parametrize("options", CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_whole_life_on_any_connection(connect: Connect, options: dict[str, Any]) -> None:
    conn = connect(**options)
    client = Client(conn)
    half_day = timedelta(hours=12)
    imp = client.new("alice", "project/repo", "git", URL, update_interval=half_day)
    assert imp.update_interval == half_day
    assert client.update(imp.id, {"update_interval": half_day}) is None
    job = client.request(imp.id, "alice")
    assert client.job_is_overdue(job)
    for status in ("success", "success_nochange", "failure"):
        (claimed,) = client.job_claim("build1", 3, 3, ["git"])
        assert claimed.date_started is not None
        assert abs(claimed.date_started - datetime.now(UTC)) < HOUR
        assert client.job_update_heartbeats([claimed.id], ["a\nb"])[0].directive == "continue"
        log_file_id = client.log_file_new(claimed.id, b"\\\x00\xff")
        result = client.job_finish(claimed.id, status, log_file_id)
        assert result.job_duration < HOUR
        log = reading.log_file(conn, log_file_id)
        assert log is not None
        assert log.content == b"\\\x00\xff"
        client.request(imp.id, "alice")
    assert reading.setting_as_interval(conn, "maximum_heartbeat_interval") == timedelta(minutes=5)
    (first, *_) = reading.events(conn, code_import_id=imp.id)
    assert first.event_type == "request"


def test_methods_never_commit(connect: Connect, conn: psycopg.Connection[Any]) -> None:
    with connect(autocommit=False) as own:
        imp = Client(own).new("alice", "project/repo", "git", URL)
        assert Client(own).request(imp.id, "alice").requesting_user == "alice"
        assert reading.imports(conn) == []
        own.rollback()
    assert reading.imports(conn) == []


def test_calls_can_be_grouped_in_a_transaction(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    with conn.transaction(force_rollback=True):
        client.new("alice", "project/repo", "git", URL)
        client.new("alice", "project/other", "git", "https://example.org/other.git")
        assert len(reading.imports(conn)) == 2
    assert reading.imports(conn) == []


def test_a_newer_database_may_have_more_columns(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("create view newer as select 1 as more, * from vcs.code_import_settings")
        query = f"select {Setting.columns} from newer where name = 'results_kept'"
        with psycopg.Cursor(conn, row_factory=class_row(Setting)) as cur:
            (setting,) = cur.execute(query)
        assert setting.value == "5"


# Models and forms


def test_records_are_frozen_and_survive_pickling(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    claimed = client.job_for_machine("build1", 1)
    with pytest.raises(FrozenInstanceError):
        imp.owner = "bob"  # type: ignore[misc]
    for record in (imp, claimed):
        assert pickle.loads(pickle.dumps(record)) == record
        assert not hasattr(record, "__dict__")


@pytest.mark.parametrize(
    ("span", "form"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(hours=6), "PT6H"),
        (timedelta(days=30), "P30D"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4.5), "P1DT2H3M4.5S"),
        (timedelta(microseconds=1), "PT0.000001S"),
        (-timedelta(days=2, minutes=5), "P-2DT-5M"),
    ],
)
def test_spans_in_iso_8601_are_what_postgresql_reads(
    conn: psycopg.Connection[Any], span: timedelta, form: str
) -> None:
    assert duration(span) == form
    assert conn.execute("select %s::interval", [form]).fetchone() == (span,)


def test_times_in_iso_8601_are_in_utc() -> None:
    kolkata = datetime.fromisoformat("2030-01-31T11:30:00+05:30")
    assert instant(kolkata) == "2030-01-31T06:00:00Z"
    assert dump_json({"t": kolkata, "s": HOUR}) == '{"t": "2030-01-31T06:00:00Z", "s": "PT1H"}'
    with pytest.raises(TypeError):
        dump_json(object())


def test_every_method_is_called_in_this_file() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    called = {node.func.attr for node in ast.walk(tree)
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}  # fmt: skip
    methods = {name for name in vars(Client) if not name.startswith("_")}
    assert methods <= called


def test_credentials_are_stored_replaced_given_to_a_run_and_deleted(client: Client) -> None:
    job_id = running(client)
    assert client.credential_for_job(job_id) is None
    host, end = URL.split("/")[2], datetime(2999, 1, 1, tzinfo=UTC)
    made = client.credential_new(host, "robot", b"sealed", "key", "alice", date_expires=end)
    assert (made.host, made.username, made.date_expires) == (host, "robot", end)
    replaced = client.credential_replace(made.id, "droid", b"again", "new key", "alice", True)
    assert (replaced.id, replaced.username, replaced.date_expires) == (made.id, "droid", None)
    given = client.credential_for_job(job_id)
    assert given is not None
    assert (given.secret, given.refusal, given.key_name) == (b"again", None, "new key")
    with pytest.raises(AlreadyThere, match="has a credential already"):
        client.credential_new(host, "robot", b"sealed", "key", "alice")
    client.credential_delete(made.id, "alice")
    assert client.credential_for_job(job_id) is None


def _silence(conn: psycopg.Connection[Any]) -> None:
    """Let an hour go by for every run, without a heartbeat."""
    conn.execute(
        "update vcs._code_import_schedule set date_started = date_started - interval '1 hour',"
        " heartbeat = heartbeat - interval '1 hour' where state = 'running'"
    )
    conn.execute(
        "update vcs._code_import_machine set oldest_start = oldest_start - interval '1 hour',"
        " date_look_again = null"
    )


# Mirrors


def test_mirror_report_keeps_a_journal_and_what_is_held(
    client: Client, conn: psycopg.Connection[Any]
) -> None:
    job_id = running(client)
    change = {"ref": "refs/heads/main", "kind": "new", "old": None, "new": "a" * 40}
    lost = {"ref": "refs/heads/dev", "kind": "deleted", "old": "b" * 40, "new": None}
    mirror = client.mirror_report(job_id, [change], [lost], is_verified=True, damage="a blob")
    assert (mirror.job_id, mirror.refs_held, mirror.damage) == (job_id, 1, "a blob")
    [written] = reading.ref_changes(conn, mirror.code_import_id)
    assert (written.ref, written.new_value, written.job_id) == ("refs/heads/main", "a" * 40, job_id)
    assert client.mirror_report(job_id) == mirror


def test_mirror_accept_and_keep_decide(client: Client) -> None:
    job_id = running(client)
    lost = [{"ref": f"refs/heads/{name}", "kind": "deleted", "old": "b" * 40} for name in "abc"]
    code_import_id = client.mirror_report(job_id, None, lost).code_import_id
    [kept] = client.mirror_keep(code_import_id, "alice", ["refs/heads/a"])
    assert (kept.decision, kept.person, kept.old_value) == ("keep", "alice", "b" * 40)
    accepted = client.mirror_accept(code_import_id, "bob")
    assert [(each.ref, each.decision) for each in accepted] == [
        (f"refs/heads/{name}", "accept") for name in "abc"
    ]


def test_mirror_set_maximum_loss_takes_a_percentage_or_none(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    assert client.mirror_set_maximum_loss(imp.id, 0, "alice").maximum_loss_percent == 0
    assert client.mirror_set_maximum_loss(imp.id, None, "alice").maximum_loss_percent == 50


def test_mirror_as_of_and_restore_lead_back(client: Client, conn: psycopg.Connection[Any]) -> None:
    job_id = running(client)
    change = {"ref": "refs/heads/main", "kind": "new", "old": None, "new": "a" * 40}
    code_import_id = client.mirror_report(job_id, [change]).code_import_id
    client.job_finish(job_id, "success")
    [ref] = client.mirror_as_of(code_import_id, datetime.now(UTC) - HOUR)
    assert (ref.ref, ref.value_then, ref.value_now) == ("refs/heads/main", None, "a" * 40)
    back = {"ref": ref.ref, "kind": "deleted", "old": ref.value_now, "new": ref.value_then}
    assert client.mirror_restore(code_import_id, [back], "alice").review_status == "suspended"
    assert client.mirror_as_of(code_import_id, datetime.now(UTC) - HOUR) == []
