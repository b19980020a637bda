"""The Mercurial importer against servers that refuse, break off, lie and fall silent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from code_import.importers import Login, hg, hgtool
from harness.git_servers import answer, stall
from harness.hg_front import Front, cut, serve_front
from harness.hg_servers import Mercurial, need_hg, serve_hg
from harness.worlds import World, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler

if reason := need_hg():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(hg) as made:
        yield made


@pytest.fixture
def source(world: World) -> Mercurial:
    made = Mercurial.create(world.root / "sources/hg")
    made.commit("first", file="one\n")
    return made


@pytest.fixture
def front(source: Mercurial) -> Iterator[Front]:
    with serve_hg(source.path) as behind, serve_front(behind) as made:
        yield made


def ada(url: str) -> Login:
    """A login that is bound to the host of a url."""
    return Login(urlsplit(url).netloc, "ada", "correct horse")


def test_a_login_is_shown_to_its_host(world: World, front: Front) -> None:
    """And found nowhere afterwards."""
    front.login = ("ada", "correct horse")
    assert world.run(1, front.url).status == "failure_invalid", world.log
    assert front.shown == set()
    outcome = world.run(1, front.url, login=ada(front.url))
    assert outcome.status == "success", (outcome, world.log)
    assert front.shown == {"ada:correct horse"}
    assert not any("correct horse" in line for line in world.log)
    kept = [file for file in world.store.rglob("*") if file.is_file()]
    assert not any(b"correct horse" in file.read_bytes() for file in kept)


def test_a_wrong_login_is_told(world: World, front: Front) -> None:
    front.login = ("ada", "another")
    outcome = world.run(1, front.url, login=ada(front.url))
    assert outcome.status == "failure_invalid", (outcome, world.log)
    assert "login" in outcome.summary


def test_a_login_is_not_shown_to_another_host(world: World, front: Front) -> None:
    front.login = ("ada", "correct horse")
    elsewhere = Login("example.org", "ada", "correct horse")
    assert world.run(1, front.url, login=elsewhere).status == "failure_invalid", world.log
    assert front.shown == set()


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A fault: the same request, but elsewhere."""
    return lambda handler: answer(301, Location=to + handler.path)(handler)


@pytest.mark.parametrize("login", [None, ("ada", "correct horse")])
def test_a_redirect_to_another_host_is_told_and_not_followed(
    world: World, source: Mercurial, front: Front, login: tuple[str, str] | None
) -> None:
    """Before or after it was asked for a login, which the other host does not get."""
    front.login = login
    with serve_hg(source.path) as behind, serve_front(behind) as other:
        front.faults["capabilities"] = redirect(other.url)
        outcome = world.run(1, front.url, login=ada(front.url))
        assert outcome.status == "failure_invalid", (outcome, world.log)
        assert urlsplit(other.url).netloc in outcome.summary
        assert login or f"set-url project/repo {other.url}" in outcome.summary
        assert other.shown == set()
        assert not world.mirror.path.exists()


def test_a_login_follows_no_redirect(world: World, front: Front) -> None:
    """Not even to a host whose name begins like its own: here, by a port that does."""
    with serve_front(front.url) as other:
        bound = ada(front.url)
        other.login = ("ada", "correct horse")
        front.faults["batch"] = redirect(other.url)
        short = Login(urlsplit(other.url).netloc[:-1], bound.username, bound.password)
        for login in (bound, short):
            assert world.run(1, front.url, login=login).status != "success", world.log
        assert world.run(1, other.url, login=short).status == "failure_invalid"
        assert other.shown == set()


def test_a_redirect_to_where_nothing_is_fetched(world: World, front: Front) -> None:
    front.faults["capabilities"] = redirect("http://10.0.0.1/repo")
    outcome = world.run(1, front.url)
    assert outcome.status == "failure_forbidden", (outcome, world.log)


def test_a_redirect_within_the_host_is_followed_and_told(
    world: World, source: Mercurial, front: Front
) -> None:
    """A path that is no more, here."""
    front.moved = "/old"
    outcome = world.run(1, f"{front.url}/old")
    assert outcome.status == "success", (outcome, world.log)
    assert any(f"redirects to {front.url}" in line for line in world.log)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda body: body[: len(body) // 2], "failure_remote_broken"),
        (lambda body: b"", "failure_remote_broken"),
        (lambda body: body[:-40] + bytes(40), "failure_remote_broken"),
        (lambda body: b"<html>parked</html>", "failure_remote_broken"),
    ],
    ids=["half", "nothing", "garbled", "page"],
)
def test_what_a_damaged_answer_brings_is_not_taken(
    world: World, source: Mercurial, front: Front, change: Callable[[bytes], bytes], status: str
) -> None:
    """It is the source's fault, nothing is published, and the next run makes up for it."""
    assert world.run(1, front.url).status == "success", world.log
    before = world.mirror.refs()
    source.commit("second", file="two\n")
    front.changes["getbundle"] = change
    outcome = world.run(2, front.url)
    assert outcome.status == status, (outcome, world.log)
    assert world.mirror.refs() == before
    front.changes.clear()
    assert world.run(3, front.url).status == "success", world.log
    assert world.mirror.git("show", "default:file") == "two"


def test_a_connection_that_breaks_in_an_answer(
    world: World, source: Mercurial, front: Front
) -> None:
    front.faults["getbundle"] = lambda handler: cut(handler, b"x" * 4096)
    outcome = world.run(1, front.url)
    assert outcome.status in ("failure", "failure_remote_broken"), (outcome, world.log)
    assert not world.mirror.path.exists()


def test_a_silent_server_does_not_hold_a_run_for_ever(
    world: World, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(hgtool, "SILENCE", 1)
    front.faults["getbundle"] = stall(over)
    try:
        outcome = world.run(1, front.url)
        assert outcome.status == "failure", (outcome, world.log)
        assert "stalled" in outcome.summary
    finally:
        over.set()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (401, "failure_invalid"), (403, "failure_invalid"), (404, "failure_invalid"),
        (410, "failure_invalid"), (429, "failure"), (500, "failure"), (503, "failure"),
    ],
)  # fmt: skip
def test_what_a_server_answers_is_told(world: World, front: Front, code: int, status: str) -> None:
    """At the first request, and in the midst."""
    for command in ("capabilities", "getbundle"):
        front.faults = {command: answer(code)}
        outcome = world.run(1, front.url)
        assert outcome.status == status, (command, outcome, world.log)
