"""Each refusal arrives as its class, with all that the database said."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import IsolationLevel

from code_import.client import Client
from code_import.errors import (
    BY_SQLSTATE,
    AlreadyRequested,
    AlreadyRunning,
    AlreadyThere,
    BadValue,
    CodeImportError,
    NotAllowed,
    NotFound,
    NotSupported,
    NotYours,
    RunGone,
    WrongState,
    typed_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Connect, Roles

URL = "https://example.org/repo.git"


@pytest.fixture
def client(conn: psycopg.Connection[Any]) -> Client:
    """A client of a superuser."""
    return Client(conn)


def test_a_password_in_a_url_is_a_bad_value(client: Client) -> None:
    with pytest.raises(BadValue) as refusal:
        client.new("alice", "project/repo", "git", "https://alice:secret@example.org/repo.git")
    assert refusal.value.table == "code_import"
    assert "secret" not in str(refusal.value)


def test_an_unknown_import_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound) as refusal:
        client.request(404, "alice")
    assert "404" in refusal.value.message
    assert refusal.value.sqlstate == "IJ404"
    assert isinstance(refusal.value.__cause__, psycopg.Error)


def test_a_suspended_import_is_in_the_wrong_state_for_a_request(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL, review_status="suspended")
    with pytest.raises(WrongState) as refusal:
        client.request(imp.id, "alice")
    assert "suspended" in refusal.value.message


def test_a_run_that_ended_is_gone(client: Client) -> None:
    client.new("alice", "project/repo", "git", URL)
    run = client.job_for_machine("build1", 1)
    assert run is not None
    client.job_reclaim(run.id)
    with pytest.raises(RunGone):
        client.job_update_heartbeat(run.id, "still here")


def test_what_runs_cannot_be_requested(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    client.job_for_machine("build1", 1)
    with pytest.raises(AlreadyRunning) as refusal:
        client.request(imp.id, "alice")
    assert refusal.value.hint


def test_a_second_request_names_the_first_in_its_detail(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    client.request(imp.id, "alice")
    with pytest.raises(AlreadyRequested) as refusal:
        client.request(imp.id, "bob", error_if_already_requested=True)
    assert refusal.value.detail is not None
    assert "alice" in refusal.value.detail


def test_a_taken_target_and_a_taken_source_name_their_constraints(client: Client) -> None:
    client.new("alice", "project/repo", "git", URL)
    with pytest.raises(AlreadyThere) as target:
        client.new("alice", "project/repo", "git", "https://example.org/other.git")
    with pytest.raises(AlreadyThere) as source:
        client.new("alice", "project/other", "git", URL)
    assert target.value.constraint
    assert source.value.constraint
    assert target.value.constraint != source.value.constraint
    assert target.value.detail is not None
    assert "project/repo" in target.value.detail


def test_the_machine_of_another_role_is_not_yours(
    conn: psycopg.Connection[Any], connect: Connect, roles: Roles
) -> None:
    Client(conn).new("alice", "project/repo", "git", URL)
    assert Client(connect(roles.worker)).job_for_machine("build1", 1)
    with pytest.raises(NotYours):
        Client(connect(roles.other_worker)).job_for_machine("build1", 1)


def test_a_reader_is_not_allowed_to_register(connect: Connect, roles: Roles) -> None:
    with pytest.raises(NotAllowed) as refusal:
        Client(connect(roles.reader)).new("alice", "project/repo", "git", URL)
    assert refusal.value.sqlstate == "42501"


def test_a_claim_above_read_committed_is_not_supported(connect: Connect, roles: Roles) -> None:
    conn = connect(roles.worker)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    with pytest.raises(NotSupported) as refusal, conn.transaction():
        Client(conn).job_for_machine("build1", 1)
    assert refusal.value.hint


def test_a_refusal_leaves_the_connection_usable_and_changes_nothing(client: Client) -> None:
    imp = client.new("alice", "project/repo", "git", URL)
    with pytest.raises(BadValue):
        client.update(imp.id, {"nonsense": 1}, "alice")
    assert client.update(imp.id, {"owner": "bob"}, "alice") is not None


@pytest.mark.parametrize(
    "fails",
    [
        lambda conn: conn.execute("select 1 / 0"),
        lambda conn: conn.execute("select * from nowhere"),
        lambda conn: (conn.close(), conn.execute("select 1")),
    ],
    ids=["division by zero", "undefined table", "closed connection"],
)
def test_errors_that_are_not_ours_pass_through(
    connect: Connect, fails: Callable[[psycopg.Connection[Any]], Any]
) -> None:
    with pytest.raises(psycopg.Error), typed_errors():
        fails(connect())


def test_errors_that_are_not_of_the_database_pass_through() -> None:
    with pytest.raises(KeyError), typed_errors():
        raise KeyError("no")


@pytest.mark.parametrize("cls", BY_SQLSTATE.values(), ids=lambda cls: cls.sqlstate)
def test_refusals_survive_pickling(cls: type[CodeImportError]) -> None:
    refusal = cls("no", detail="d", hint="h", table="t", constraint="c")
    copy = pickle.loads(pickle.dumps(refusal))
    assert type(copy) is cls
    assert str(copy) == "no"
    assert vars(copy) == vars(refusal)


def test_a_refusal_without_code_has_the_base_class_alone() -> None:
    assert CodeImportError not in BY_SQLSTATE.values()
    assert "" not in BY_SQLSTATE
