"""Subversion: what becomes of its folders, revisions and mistakes."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from code_import.importers import Login, svn, svntool
from code_import.policy import Policy, allow_path
from harness.svn_servers import (
    Subversion,
    grow,
    has_dav,
    make_readable,
    relay,
    serve_dav,
    serve_svn,
    talk,
)
from harness.worlds import Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from xml.etree import ElementTree

pytestmark = pytest.mark.skipif(svn.missing_tools() is not None, reason="no git svn here")


@pytest.fixture
def world() -> Iterator[World]:
    with new_world(svn) as made:
        yield made


@pytest.fixture
def source(world: World) -> Subversion:
    return Subversion.create(world.root / "sources" / "repo")


def test_a_standard_layout_becomes_branches_and_tags(world: World, source: Subversion) -> None:
    """Each by its name, trunk as HEAD; and then there is nothing new."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    source.put("branches/dev/file", "two\n")
    source.change("cp", "HEAD", "trunk", "tags/1.0")
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert world.mirror.names() == ["refs/heads/dev", "refs/heads/trunk", "refs/tags/1.0"]
    assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert world.mirror.git("show", "dev:file") == "two"
    assert world.mirror.git("merge-base", "dev", "trunk") == world.mirror.git("rev-parse", "trunk")
    assert world.run(2, source.url).status == "success_nochange"
    source.put("trunk/file", "three\n")
    outcome = world.run(3, source.url)
    assert (outcome.status, outcome.commits) == ("success", 1)


def test_any_other_folder_is_one_line_of_history(world: World, source: Subversion) -> None:
    """The root, and one within a standard layout."""
    source.put("file", "one\n")
    assert world.run(1, source.url).status == "success", world.log
    assert world.mirror.names() == ["refs/heads/trunk"]
    source.put("trunk/file", "two\n", "mkdir", "trunk")
    outcome = world.run(2, f"{source.url}/trunk", code_import_id=2, target="two")
    assert outcome.status == "success", world.log


def test_over_svn(world: World, source: Subversion) -> None:
    """The same commits as from the disk, by whatever port it is reached."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    world.run(1, source.url)
    with serve_svn(source.path.parent) as url:
        outcome = world.run(2, f"{url}/repo")
        assert outcome.status == "success_nochange", world.log
        source.put("trunk/file", "two\n")
        assert world.run(3, f"{url}/repo").status == "success"
        outcome = world.run(4, f"{url}/repo", code_import_id=2, target="other")
        assert outcome.status == "success", world.log
    other = world.store / "other.git"
    assert Repository(other).refs() == world.mirror.refs()


def test_in_steps_it_comes_out_as_in_one_go(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued many times, while the source grows, over another protocol, in another store."""
    source.change("mkdir", "old", "mkdir", "old/inner")
    source.put("old/inner/first", "1\n")
    source.change("mkdir", "branches", "mkdir", "tags", "mv", "old/inner", "trunk", "rm", "old")
    grow(source, 7)
    with monkeypatch.context() as patched, serve_svn(source.path.parent) as url:
        patched.setattr(svn, "RUN_SECONDS", 0)
        patched.setattr(svn, "FIRST_WINDOW", 3)
        statuses = []
        for job_id in range(1, 40):
            if job_id == 4:
                grow(source, 6, 7)
            outcome = world.run(job_id, f"{url}/repo")
            statuses.append(outcome.status)
            if outcome.status != "success_partial":
                break
    assert statuses[-1] == "success", (outcome, world.log)
    assert len(statuses) > 8
    assert set(statuses[:-1]) == {"success_partial"}
    with new_world(svn) as other:
        allow_path(source.path, config_dir=other.root / "config")
        assert other.run(1, source.url).status == "success", other.log
        in_one_go = other.mirror.refs("refs/heads", "refs/tags")
    assert world.mirror.refs("refs/heads", "refs/tags") == in_one_go
    world.mirror.git("fsck", "--strict")


def from_elsewhere(source: Subversion) -> str:
    """Trunk comes from a folder outside of the layout, some revisions before that folder goes."""
    source.change("mkdir", "old", "mkdir", "old/inner", "mkdir", "branches", "mkdir", "tags")
    for number in range(3):
        source.put("old/inner/file", f"{number}\n")
    source.change("cp", "HEAD", "old/inner", "trunk")
    source.change("rm", "old")
    source.put("trunk/file", "last\n")
    return ""


def away_and_back(source: Subversion) -> str:
    """A project's folder is moved away, changed there, and moved back."""
    source.change("mkdir", "proj")
    source.change("mkdir", "proj/branches", "mkdir", "proj/tags")
    source.put("proj/trunk/file", "0\n", "mkdir", "proj/trunk")
    source.put("proj/trunk/file", "1\n")
    source.change("mv", "proj", "aside")
    source.put("aside/trunk/file", "2\n")
    source.change("mv", "aside", "proj")
    source.put("proj/trunk/file", "3\n")
    source.change("cp", "HEAD", "proj/trunk", "proj/branches/dev")
    return "/proj"


@pytest.mark.parametrize("history", [from_elsewhere, away_and_back])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_where_windows_end_makes_no_difference(
    world: World,
    source: Subversion,
    monkeypatch: pytest.MonkeyPatch,
    history: Callable[[Subversion], str],
    window: int,
) -> None:
    """Not to what is before a copy, nor to a folder that has not always been where it is."""
    url = source.url + history(source)
    assert world.run(1, url).status == "success", world.log
    whole = world.mirror.refs("refs/heads", "refs/tags")
    assert int(world.mirror.git("rev-list", "--count", "trunk")) >= 5
    monkeypatch.setattr(svn, "LARGEST_WINDOW", window)
    assert world.run(2, url, code_import_id=2, target="in/windows").status == "success"
    mirror = Repository(world.store / "in/windows.git")
    assert mirror.refs("refs/heads", "refs/tags") == whole


def test_a_folder_that_goes_and_comes_between_runs(world: World, source: Subversion) -> None:
    """It comes out as if it had been converted only then."""
    away_and_back(source)
    world.run(1, f"{source.url}/proj")
    source.change("mv", "proj", "aside")
    assert world.run(2, f"{source.url}/proj").status == "failure_invalid"
    source.change("mv", "aside", "proj")
    assert world.run(3, f"{source.url}/proj").status == "success", world.log
    assert any("starts anew" in line for line in world.log)
    world.run(4, f"{source.url}/proj", code_import_id=2, target="afresh")
    fresh = Repository(world.store / "afresh.git")
    assert world.mirror.refs("refs/heads") == fresh.refs("refs/heads")


def test_what_is_deleted_goes_and_what_comes_again_is_there(
    world: World, source: Subversion
) -> None:
    """A branch, a tag, and one that is replaced by something of the same name."""
    source.make_standard()
    for name in ("branches/a", "branches/b", "branches/c", "tags/t", "tags/u"):
        source.change("cp", "HEAD", "trunk", name)
    assert world.run(1, source.url).status == "success"
    source.change("rm", "branches/a", "rm", "tags/t")
    assert world.run(2, source.url).status == "success"
    names = ["refs/heads/b", "refs/heads/c", "refs/heads/trunk", "refs/tags/u"]
    assert world.mirror.names("refs/heads", "refs/tags") == names
    source.put("trunk/file", "new\n")
    source.change("rm", "branches/b", "cp", "HEAD", "trunk", "branches/b")
    source.change("cp", "HEAD", "trunk", "branches/a")
    assert world.run(3, source.url).status == "success"
    assert world.mirror.git("show", "b:file") == "new"
    assert world.mirror.git("show", "a:file") == "new"


def test_a_deleted_trunk_leaves_the_branches(world: World, source: Subversion) -> None:
    """And an emptied source leaves the mirror alone."""
    source.make_standard()
    source.change("cp", "HEAD", "trunk", "branches/dev")
    world.run(1, source.url)
    source.change("rm", "trunk")
    assert world.run(2, source.url).status == "success", world.log
    assert world.mirror.names("refs/heads", "refs/tags") == ["refs/heads/dev"]
    source.change("rm", "branches", "rm", "tags")
    outcome = world.run(3, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert world.mirror.names("refs/heads", "refs/tags") == ["refs/heads/dev"]


# fmt: off
ODD = ["with space", "50%", "a..b", ".hidden", "end.", "x.lock", "at@{1}", "@", "q?*[", "c:d",
       "tilde~1^2", "Über-日本", "dev@7", "-dash", "back\\slash", "plus+", "a&b", "a#b"]
# fmt: on


def test_odd_names(world: World, source: Subversion) -> None:
    """All are there, with the characters that git has not written as in a url."""
    source.make_standard()
    for name in ODD:
        source.change("cp", "HEAD", "trunk", f"branches/{quote(name)}")
        source.put(f"branches/{quote(name)}/{quote(name)}", "odd\n")
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert "Left out" not in outcome.summary, world.log
    assert len(world.mirror.names()) == len(ODD) + 1, world.mirror.names()
    assert "refs/heads/with%20space" in world.mirror.names()
    assert world.mirror.git("show", "Über-日本:Über-日本") == "odd"
    world.mirror.git("fsck", "--strict")


def test_an_empty_repository(world: World, source: Subversion) -> None:
    """Its mirror is empty too, until there is something, whatever its layout."""
    outcome = world.run(1, source.url)
    assert outcome.status == "success", (outcome, world.log)
    assert world.mirror.names() == []
    assert world.run(2, source.url).status == "success_nochange"
    source.make_standard()
    assert world.run(3, source.url).status == "success"
    assert world.mirror.names() == ["refs/heads/trunk"]


def test_killed_at_any_moment_it_goes_on(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its tools, again and again; what comes out is what one run makes."""
    source.make_standard()
    grow(source, 8)
    monkeypatch.setattr(svn, "LARGEST_WINDOW", 7)
    moments = random.Random(7)
    kills = 0
    while run_killed(world, kills, source.url, after=moments.uniform(0.3, 1) * 1.1**kills):
        kills += 1
    assert kills > 3
    outcome = world.run(100, source.url)
    assert outcome.status in ("success", "success_nochange"), (outcome, world.log[-30:])
    outcome = world.run(101, source.url, code_import_id=2, target="other")
    assert outcome.status == "success"
    other = Repository(world.store / "other.git")
    assert world.mirror.refs("refs/heads", "refs/tags") == other.refs("refs/heads", "refs/tags")


def run_killed(world: World, job_id: int, url: str, *, after: float) -> bool:
    """Run in a process group of its own, and kill it; returns whether it was still at it."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            world.run(job_id, url)
        finally:
            os._exit(0)
    os.setpgid(child, child)  # Whoever of the two comes first.
    time.sleep(after)
    if os.waitpid(child, os.WNOHANG)[0]:
        return False
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def test_a_rewritten_source_is_no_hybrid(world: World, source: Subversion) -> None:
    """Rolled back and grown again, shrunk, or another one in its place."""
    source.make_standard()
    shutil.copytree(source.path, world.root / "before")
    source.put("trunk/file", "two\n")
    world.run(1, source.url)
    before = world.mirror.refs()
    shutil.rmtree(source.path)
    shutil.copytree(world.root / "before", source.path)
    outcome = world.run(2, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "ends at r1" in outcome.summary
    source.put("trunk/other", "other\n", message="another")
    source.put("trunk/more", "more\n")
    outcome = world.run(3, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "r2 is not what it was" in outcome.summary
    shutil.rmtree(source.path)
    Subversion.create(source.path).make_standard()
    outcome = world.run(4, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    assert "another repository" in outcome.summary
    assert world.mirror.refs() == before


def test_another_folder_or_layout_is_converted_anew(world: World, source: Subversion) -> None:
    """Nothing of the old conversion is beneath it."""
    source.put("file", "one\n")
    world.run(1, source.url)
    source.make_standard()
    assert world.run(2, source.url).status == "success", world.log
    assert any("starts anew" in line for line in world.log)
    assert world.mirror.git("ls-tree", "--name-only", "trunk") == "file"
    source.put("trunk/sub/file", "one\n", "mkdir", "trunk/sub")
    assert world.run(3, f"{source.url}/trunk/sub").status == "success"
    assert world.mirror.git("rev-list", "--count", "trunk") == "1"
    other = Subversion.create(world.root / "sources" / "other")
    other.make_standard()
    assert world.run(4, other.url).status == "success"


NOT_FOR_ALL = "[general]\nanon-access = none\nauth-access = read\npassword-db = passwd\n"


def test_what_is_not_there_is_invalid(world: World, source: Subversion) -> None:
    """A folder, a repository, a file in a folder's place; from the disk too."""
    source.make_standard()
    with serve_svn(source.path.parent) as url:
        for job_id, wrong in enumerate(
            (f"{url}/repo/none", f"{url}/none", f"{url}/repo/trunk/file", f"{source.url}.none"), 1
        ):
            outcome = world.run(job_id, wrong)
            assert outcome.status == "failure_invalid", outcome
    assert not world.mirror.path.exists()
    outcome = world.run(9, f"{url}/repo")
    assert outcome.status == "failure", outcome
    assert "Connection refused" in outcome.summary


def test_a_login_is_shown_to_the_server_alone(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command line, no environment and no file has the password; a wrong one is invalid."""
    source.make_standard()
    (source.path / "conf/svnserve.conf").write_text(NOT_FOR_ALL)
    (source.path / "conf/passwd").write_text("[users]\nann = p4ss 'word\n")
    with serve_svn(source.path.parent) as server:
        url = f"{server}/repo"
        assert world.run(1, url).status == "failure_invalid"
        seen = spy_on(world.store / ".code-import/work/1/spies", monkeypatch)
        outcome = world.run(2, url, login=Login("127.0.0.1", "ann", "wrong"))
        assert (outcome.status, "refuses the login" in outcome.summary) == ("failure_invalid", True)
        elsewhere = world.run(3, url, login=Login("localhost", "ann", "p4ss 'word"))
        assert elsewhere.status == "failure_invalid"
        assert world.run(4, url, login=Login("127.0.0.1", "ann", "p4ss 'word")).status == "success"
    told = seen.read_text()
    assert "fetch" in told
    assert "info" in told
    assert "p4ss" not in told
    assert not [file for file in world.store.rglob("*") if file.is_file() and holds(file, b"p4ss")]


def spy_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the tools say first how they were called; returns where. A sandbox has the folder."""
    folder.mkdir()
    seen = folder / "seen"
    for name, program in {"svn": shutil.which("svn"), "git-svn": svntool.git_svn()}.items():
        spy = folder / name
        spy.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {seen}\nexec {program} "$@"\n')
        spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(svntool, "git_svn", lambda: folder / "git-svn")
    return seen


def holds(file: Path, word: bytes) -> bool:
    return word in file.read_bytes()


def test_the_policy_is_asked(world: World, source: Subversion) -> None:
    """For a private address, a local path and a scheme."""
    for job_id, url in enumerate(("svn://10.0.0.1/repo", "file:///etc", "svn+ssh://host/repo"), 1):
        assert world.run(job_id, url).status == "failure_forbidden"


@pytest.mark.parametrize("bytes_", [10, 400, 1500])
def test_a_server_that_breaks_off_or_stalls(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch, bytes_: int
) -> None:
    """Wherever it does, and the next run goes on."""
    source.make_standard()
    source.put("trunk/large", "1\n" * 2000)
    with serve_svn(source.path.parent) as url:
        port = urlsplit(url).port or 0
        with relay(port, cut_after=bytes_) as cut:
            outcome = world.run(1, f"svn://127.0.0.1:{cut}/repo")
        assert outcome.status == "failure", outcome
        assert "connection" in outcome.summary.lower()
        with relay(port, cut_after=bytes_, stall=True) as stalled, monkeypatch.context() as hasty:
            hasty.setattr(svntool, "PROBE_TIMEOUT", 3)
            hasty.setattr(svntool, "SILENCE", 3)
            outcome = world.run(2, f"svn://127.0.0.1:{stalled}/repo")
        assert outcome.status == "failure", outcome
        assert "stalled" in outcome.summary
        assert world.run(3, f"{url}/repo").status == "success"


def test_a_damaged_source(world: World, source: Subversion) -> None:
    """Is told from one that is away."""
    source.make_standard()
    source.put("trunk/file", "two\n")
    revision = source.path / "db/revs/0/2"
    revision.chmod(0o644)
    revision.write_bytes(revision.read_bytes()[:40])
    outcome = world.run(1, source.url)
    assert outcome.status == "failure_remote_broken", outcome
    with talk(b"hello\r\n") as port:
        outcome = world.run(2, f"svn://127.0.0.1:{port}/repo")
    assert outcome.status == "failure_invalid", outcome
    assert "no Subversion server" in outcome.summary


def test_a_damaged_workspace_is_made_anew(world: World, source: Subversion) -> None:
    """By the next run, with the same commits."""
    source.make_standard()
    world.run(1, source.url)
    before = world.mirror.refs()
    for file in (world.store / ".code-import/work/1/converted.git/objects").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"")
    source.put("trunk/file", "two\n")
    outcome = world.run(2, source.url)
    assert outcome.status == "internal_failure", outcome
    assert world.mirror.refs() == before
    assert world.run(3, source.url).status == "success", world.log
    assert world.mirror.git("rev-parse", "trunk~1") == before[0].split()[0]


def test_externals_are_text_and_authors_are_names(world: World, source: Subversion) -> None:
    """No external is fetched; an author is who the server says, at the repository's UUID."""
    source.make_standard()
    away = "http://10.0.0.1/svn/away"
    source.change("propset", "svn:externals", f"{away} sub", "trunk", user="bob")
    assert world.run(1, source.url).status == "success"
    assert "10.0.0.1" not in "\n".join(world.log)
    assert world.mirror.git("ls-tree", "-r", "--name-only", "trunk") == "file"
    uuid = (source.path / "db/uuid").read_text().split()[0]
    assert world.mirror.git("log", "-1", "--format=%an <%ae>", "trunk") == f"bob <bob@{uuid}>"
    assert world.mirror.git("log", "-1", "--format=%b", "trunk").startswith(
        f"git-svn-id: svn://{uuid}/trunk@2 {uuid}"
    )


def test_progress_is_told(world: World, source: Subversion) -> None:
    """In percent, and how fast it goes."""
    source.make_standard()
    world.run(1, source.url)
    assert any(re.search(r"r1 of 1 \(100%\), [\d.]+ commits/s", line) for line in world.log)


@pytest.mark.skipif(not has_dav, reason="no apache2 with mod_dav_svn here")
class TestOverHttp:
    """What is particular to WebDAV."""

    def test_the_same_commits(self, world: World, source: Subversion) -> None:
        source.make_standard()
        source.change("cp", "HEAD", "trunk", "branches/dev")
        world.run(1, source.url)
        with serve_dav(source.path.parent) as url:
            assert world.run(2, f"{url}/repo").status == "success_nochange", world.log
            source.put("trunk/file", "two\n")
            make_readable(source.path)
            assert world.run(3, f"{url}/repo").status == "success", world.log
            assert world.run(4, f"{url}/repo/none").status == "failure_invalid"
            assert world.run(5, f"{url}/none").status == "failure_invalid"

    def test_redirects(self, world: World, source: Subversion) -> None:
        """Within the host they are followed and told, elsewhere a person decides."""
        source.make_standard()
        redirects = (
            "Redirect 301 /old /svn\nRedirect 302 /for-now /svn\nRedirect 301 /loop /loop/more\n"
            "Redirect 301 /away http://127.0.0.2:1/svn\nRedirect 301 /inside http://10.0.0.1/svn"
        )
        world.policy = replace(world.policy, allow_hosts=("127.0.0.1", "127.0.0.2"))
        with serve_dav(source.path.parent, redirects) as url:
            base = url.removesuffix("/svn")
            assert world.run(1, f"{base}/old/repo").status == "success"
            assert f"redirects to {url}/repo" in "\n".join(world.log)
            assert world.run(2, f"{base}/for-now/repo").status == "success_nochange"
            outcome = world.run(3, f"{base}/away/repo")
            assert outcome.status == "failure_invalid"
            assert "has moved to http://127.0.0.2:1/svn/repo" in outcome.summary
            assert world.run(4, f"{base}/inside/repo").status == "failure_forbidden"
            assert world.run(5, f"{base}/loop/repo").status == "failure"

    def test_a_login(self, world: World, source: Subversion) -> None:
        source.make_standard()
        word = base64.b64encode(hashlib.sha1(b"p4ss word").digest()).decode()
        users = world.root / "users"
        users.write_text(f"ann:{{SHA}}{word}\n")
        login = (
            f"<Location /svn>\nAuthType Basic\nAuthName here\nAuthUserFile {users}\n"
            "Require valid-user\n</Location>"
        )
        with serve_dav(source.path.parent, login) as server:
            url = f"{server}/repo"
            assert world.run(1, url).status == "failure_invalid"
            wrong = world.run(2, url, login=Login("127.0.0.1", "ann", "wrong"))
            assert wrong.status == "failure_invalid"
            outcome = world.run(3, url, login=Login("127.0.0.1", "ann", "p4ss word"))
            assert outcome.status == "success", world.log

    @pytest.mark.parametrize(
        ("status", "expected"),
        [(503, "failure"), (429, "failure"), (410, "failure_invalid"), (200, "failure_invalid")],
    )
    def test_what_is_no_answer(self, world: World, status: int, expected: str) -> None:
        with talk(b"HTTP/1.1 %d So\r\nContent-Length: 2\r\n\r\nhi" % status) as port:
            assert world.run(1, f"http://127.0.0.1:{port}/repo").status == expected


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are installed, in one line."""
    assert svn.missing_tools() is None
    monkeypatch.setattr(svn, "git_svn", lambda: None)
    assert svn.missing_tools() == "not installed: Debian's git-svn"
    monkeypatch.setenv("PATH", "/nowhere")
    assert svn.missing_tools() is not None


def test_a_uuid_that_is_none(
    world: World, source: Subversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come to stand in a configuration file."""
    source.make_standard()
    ask = svntool.Tools._ask

    def lie(tools: svntool.Tools, *args: str) -> ElementTree.Element:
        answer = ask(tools, *args)
        for uuid in answer.iter("uuid"):
            uuid.text = "0\n[core]\nfsmonitor = evil"
        return answer

    monkeypatch.setattr(svntool.Tools, "_ask", lie)
    outcome = world.run(1, source.url)
    assert outcome.status == "failure_remote_broken", outcome


def test_only_a_folder_of_a_repository_may_be_read(world: World) -> None:
    """The commits are the same; where git svn would find nothing, that is said."""
    source = Subversion.create(world.root / "sources" / "a;b#c@d")
    source.put("plain/trunk/file", "one\n", "mkdir", "plain", "mkdir", "plain/trunk")
    source.change("cp", "HEAD", "plain", "an odd; one")
    plain, odd = f"{source.url}/plain", f"{source.url}/an%20odd%3B%20one"
    assert world.run(1, plain).status == "success", world.log
    assert world.run(2, odd, code_import_id=2, target="odd").status == "success"
    assert Repository(world.store / "odd.git").git("show", "trunk:file") == "one"
    for name in ("plain", "an odd; one"):
        allow_path(source.path / name, config_dir=world.root / "narrow")
    world.policy = Policy.load(config_dir=world.root / "narrow")
    assert world.run(3, plain, code_import_id=3, target="plain").status == "success"
    assert Repository(world.store / "plain.git").refs() == world.mirror.refs()
    assert world.run(4, odd).status == "failure_unsupported_feature"
