"""Logins of sources: how they are sealed, whom they are shown, and where they are never seen."""

from __future__ import annotations

import base64
import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import make_conninfo

from code_import.client import Client
from code_import.credentials import (
    LONGEST_PASSWORD,
    BadSeal,
    Bound,
    Keys,
    KeysUnusable,
    add_key,
    is_encrypted,
    load_keys,
    make_keys,
    open_for,
    places,
)
from code_import.importers import Login, Source
from code_import.importers.secret import secret_file
from code_import.models import JobCredential
from harness.git_servers import HttpServer, answer, serve_http
from harness.waiting import eventually
from harness.worlds import Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

    import psycopg
    from conftest import Connect, Roles

    from code_import.models import Import
    from harness.servers import Server

PASSWORD = "s3cr3t & p%ss/wörd"
"""Has characters that urls, shells and JSON write in other ways."""
FORMS = (
    PASSWORD,
    quote(PASSWORD),
    quote(PASSWORD, safe=""),
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"robot:{PASSWORD}".encode()).decode(),
)
SOURCE = Source("git", "https://git.example.org/repo.git")


# --- the key file ------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys"


@pytest.fixture
def keys(key_file: Path) -> Keys:
    make_keys(key_file)
    return load_keys(key_file)


def test_a_key_file_is_made_once_and_is_its_users_alone(key_file: Path) -> None:
    assert make_keys(key_file)
    made = key_file.read_bytes()
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert not make_keys(key_file)
    assert key_file.read_bytes() == made
    assert list(key_file.parent.iterdir()) == [key_file]
    assert load_keys(key_file).name == load_keys(key_file).name


def test_of_many_makers_at_once_one_makes_it(key_file: Path) -> None:
    start = threading.Barrier(8)

    def make() -> tuple[bool, str]:
        start.wait()
        return make_keys(key_file), load_keys(key_file).name

    with ThreadPoolExecutor(8) as pool:
        made = [future.result() for future in [pool.submit(make) for _ in range(8)]]
    assert sum(first for first, _ in made) == 1
    assert len({name for _, name in made}) == 1
    assert list(key_file.parent.iterdir()) == [key_file]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_that_others_may_use_is_refused(key_file: Path, mode: int) -> None:
    make_keys(key_file)
    key_file.chmod(mode)
    with pytest.raises(KeysUnusable, match="others may read or write"):
        load_keys(key_file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no key file"),
        ("", "has no key in it"),
        ("# nothing\n", "has no key in it"),
        ("no key\n", "a line that is no key"),
        ("A" * 43 + "=x\n", "a line that is no key"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    with pytest.raises(KeysUnusable, match=why):
        load_keys(file)


def test_of_many_new_keys_at_once_none_is_lost(keys: Keys, key_file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_key, [key_file] * 16))
    lines = key_file.read_text().splitlines()
    assert len({line for line in lines if not line.startswith("#")}) == 17
    assert load_keys(key_file).name != keys.name
    assert list(key_file.parent.iterdir()) == [key_file]


def test_no_key_is_added_to_what_is_no_key_file(key_file: Path) -> None:
    with pytest.raises(KeysUnusable, match="there is no key file"):
        add_key(key_file)


def test_neither_a_folder_nor_a_pipe_is_a_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for file in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeysUnusable):
            load_keys(file)


# --- sealing -----------------------------------------------------------------------------------


def sealed(keys: Keys, bound: Bound, **more: Any) -> JobCredential:
    """A credential as a worker gets it."""
    now = datetime.now(UTC)
    credential = JobCredential(
        id=1, date_created=now, code_import_id=bound.code_import_id, host=bound.host,
        username=bound.username, key_name=keys.name, allow_unencrypted=bound.allow_unencrypted,
        date_expires=None, secret=keys.seal(bound), refusal=None,
    )  # fmt: skip
    return replace(credential, **more)


HOSTS = Bound("git.example.org", None, "robot", PASSWORD)
OWN = Bound("git.example.org", 7, "robot", PASSWORD)


@pytest.mark.parametrize("bound", [HOSTS, OWN])
def test_what_is_sealed_is_opened_for_its_source(keys: Keys, bound: Bound) -> None:
    login = open_for(keys, sealed(keys, bound), 7, SOURCE)
    assert login == Login("git.example.org", "robot", PASSWORD)
    assert PASSWORD not in repr(login) + repr(bound) + repr(sealed(keys, bound))
    assert open_for(keys, sealed(keys, bound, secret=None, refusal="expired"), 7, SOURCE) is None


def test_sealed_nothing_can_be_read_and_nothing_repeats(keys: Keys) -> None:
    first, second = keys.seal(HOSTS), keys.seal(HOSTS)
    assert first != second
    for form in (*FORMS, "git.example.org", "robot"):
        assert form.encode() not in base64.urlsafe_b64decode(first) + first
    longest = replace(HOSTS, password="ö" * (LONGEST_PASSWORD // 2))
    assert len(keys.seal(longest)) <= 16_384


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://evil.example.org/", "another"),
        ("https://git.example.org:8443/", "another"),
        ("https://git.example.org@evil.example.org/", "another"),
        ("https://evil.example.org/?x@git.example.org/", "another"),
        ("https://git.example.org.evil.example/", "another"),
        ("ssh://git.example.org/", "another"),
        ("http://git.example.org/", "encrypted connections alone"),
    ],
)
def test_a_row_moved_to_another_source_opens_nothing(keys: Keys, url: str, why: str) -> None:
    """Whoever can write the database can change every column, but not what is sealed."""
    host = (places(Source("git", url)) or ["git.example.org"])[-1]
    moved = sealed(keys, HOSTS, host=host, allow_unencrypted=True)
    with pytest.raises(BadSeal, match=why):
        open_for(keys, moved, 7, Source("git", url))


def test_a_row_moved_to_another_import_opens_nothing(keys: Keys) -> None:
    with pytest.raises(BadSeal, match="another import"):
        open_for(keys, sealed(keys, OWN, code_import_id=None), 8, SOURCE)


def test_a_secret_that_was_changed_opens_nothing(keys: Keys) -> None:
    secret = keys.seal(HOSTS)
    cut = len(secret) // 2
    for changed in (b"", b"x", secret[:-4], secret[:cut] + b"A" + secret[cut + 1 :], secret[4:]):
        if changed != secret:
            with pytest.raises(BadSeal):
                open_for(keys, sealed(keys, HOSTS, secret=changed), 7, SOURCE)


def test_a_new_key_seals_and_the_old_one_still_opens(keys: Keys, key_file: Path) -> None:
    old = sealed(keys, HOSTS)
    both = add_key(key_file)
    assert both.name != keys.name
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert open_for(both, old, 7, SOURCE) == open_for(both, sealed(both, HOSTS), 7, SOURCE)
    key_file.write_text("".join(key_file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(KeysUnusable, match=f"does not have the key {keys.name}"):
        open_for(load_keys(key_file), old, 7, SOURCE)
    renamed = replace(old, key_name=both.name)
    with pytest.raises(BadSeal):
        open_for(load_keys(key_file), renamed, 7, SOURCE)


URLS = [
    "https://example.org/x", "HTTPS://Example.ORG:443/x", "https://example.org:0443", "svn://h:3690",
    "https://example.org:8443/x?y#z", "https://user@example.org/x", "http://example.org",
    "http://example.org:443/", "https://[::1]/x", "https://[2001:DB8::1]:8443/x", "svn://h/x",
    "https://example.org:/x", "ftp://example.org/", "https://a@b@example.org/", "ssh://h/x",
    "git://h/x", "svn+ssh://h/x", "bzr://h/x", "/a/path", "file:///x", "git@example.org:x",
    "https://example.org?x@evil.example/", "https://example.org#x@evil.example/",
    "https://example.org\\@evil.example/", "http://evil.example/https://example.org/",
]  # fmt: skip
CVS_ROOTS = [
    ":pserver:anonymous@example.org:/cvs", ":pserver:example.org:/cvs", ":pserver:u@h:2402/cvs",
    ":pserver:u@h:2401/cvs", ":pserver:u@h/cvs", ":ext:u@h:/cvs", ":fork:/cvs", "/cvs",
    ":pserver:u@H.example.org:/cvs/@evil.example/x", ":pserver;proxy=evil.example:u@h:/cvs",
]  # fmt: skip


def test_python_and_sql_read_the_same_host_in_a_source(conn: psycopg.Connection[Any]) -> None:
    """The database offers a credential by its reading, and the worker opens it by its own."""
    known = 0
    for url, cvs_root in [(url, None) for url in URLS] + [(None, root) for root in CVS_ROOTS]:
        row = conn.execute(
            "select places, is_encrypted from vcs._source_places(%s, %s)", [url, cvs_root]
        ).fetchone()
        assert row is not None
        source = Source("cvs" if cvs_root else "git", url, cvs_root, "module")
        if found := places(source):
            assert (found, is_encrypted(source)) == (row[0], row[1])
            known += 1
        else:
            odd = "\\" in (url or "") or "a@b@" in (url or "")
            assert row[0] is None or odd, (url, cvs_root)
    assert known == 23


# --- the command -------------------------------------------------------------------------------


@dataclass
class Command:
    """Runs ``code-import`` in processes of its own."""

    dsn: str
    key_file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CODE_IMPORT_DSN": self.dsn,
            "CODE_IMPORT_PERSON": "alice",
            "CODE_IMPORT_CREDENTIAL_KEY_FILE": str(self.key_file),
            "COLUMNS": "120",
        }

    def __call__(self, *words: str, stdin: str | bytes = PASSWORD, code: int = 0) -> str:
        """Call it; returns all that it prints and says."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "code_import", *words],
            env=self.environment,
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == code, said
        assert not any(form in said for form in FORMS)
        return said


@pytest.fixture
def command(dsn: str, key_file: Path) -> Command:
    return Command(dsn, key_file)


@pytest.fixture
def client(conn: psycopg.Connection[Any]) -> Client:
    return Client(conn)


@pytest.fixture
def imp(client: Client) -> Import:
    return client.new("ada", "project/repo", "git", SOURCE.url)


def start(client: Client, imp: Import, roles: Roles, connect: Connect) -> int:
    """Have a worker run an import; returns the job."""
    job = Client(connect(roles.worker)).job_for_machine("one", 3)
    assert job is not None
    assert job.code_import_id == imp.id
    return job.id


def test_a_login_is_added_listed_replaced_and_removed(command: Command, imp: Import) -> None:
    said = command("credential", "add", "Git.example.org", "--username", "robot")
    assert f"made {command.key_file}: every machine with workers needs a copy of it" in said
    assert "credential 1, robot at git.example.org, is stored" in said
    own = command("credential", "add", "--import", imp.target, "--username", "me", "--json")
    assert '"host": "git.example.org"' in own
    assert f'"code_import_id": {imp.id}' in own
    listed = command("credential", "list").splitlines()
    assert re.fullmatch(r" *1 +git\.example\.org +robot +[0-9a-f]{16} +\S.*", listed[1])
    assert re.fullmatch(r" *2 +git\.example\.org +me +project/repo +[0-9a-f]{16} .*", listed[2])
    assert len(command("credential", "list", "--import", imp.target).splitlines()) == 2
    assert "no credentials" in command("credential", "list", "--host", "example.com")
    said = command("credential", "replace", "1", "--username", "droid", "--expires", "2999-01-31")
    assert "credential 1, droid at git.example.org, is replaced" in said
    assert '"date_expires": "2999-01-31T00:00:00Z"' in command("credential", "list", "--json")
    assert "seals with the new key" in command("credential", "new-key")
    assert "credential 1 is removed" in command("credential", "remove", "1")
    assert len(command("credential", "list").splitlines()) == 2


def test_a_run_is_shown_its_login_sealed(command: Command, imp: Import, client: Client) -> None:
    machine = client.machine_new("one", "online")
    client.job_start(1, machine.id)
    assert "no credential" in command("credential", "for-job", imp.target, code=3)
    command("credential", "add", "git.example.org", "--username", "robot")
    assert "robot at git.example.org" in command("credential", "for-job", imp.target)
    assert '"secret": "\\\\x' in command("credential", "for-job", imp.target, "--json")


@pytest.mark.parametrize(
    ("words", "stdin", "code", "why"),
    [
        (["git.example.org"], PASSWORD, 2, "Missing option '--username'"),
        (["--username", "robot"], PASSWORD, 2, "Say which host, or which import"),
        (["git.example.org", "--username", "robot"], "", 1, "it is empty"),
        (["git.example.org", "--username", "robot"], "\n", 1, "it is empty"),
        (["git.example.org", "--username", "robot"], "two\nlines\n", 1, "a line break"),
        (["git.example.org", "--username", "robot"], "x" * 4_097, 1, "longer than 4096 bytes"),
        (["git.example.org", "--username", "robot"], b"\xff", 1, "text in UTF-8"),
        (["git.example.org", "--username", "a:b"], PASSWORD, 1, "IJ400"),
        (["https://git.example.org/", "--username", "robot"], PASSWORD, 1, "IJ400"),
        (["example.com", "--import", "project/repo", "--username", "x"], PASSWORD, 1, "IJ400"),
        (["--import", "no/such", "--username", "robot"], PASSWORD, 1, "IJ404"),
        (
            ["git.example.org", "--username", "x", "--expires", "soon"],
            PASSWORD,
            2,
            "does not match",
        ),
        (["git.example.org", "--username", "x", "--expires", "2001-01-01"], PASSWORD, 1, "past"),
    ],
)
def test_what_cannot_be_a_login_is_refused(
    command: Command,
    imp: Import,
    conn: psycopg.Connection[Any],
    words: list[str],
    stdin: str | bytes,
    code: int,
    why: str,
) -> None:
    assert why in command("credential", "add", *words, stdin=stdin, code=code)
    assert conn.execute("select from vcs.code_import_credential").fetchall() == []


def test_a_second_login_a_lost_one_and_a_key_file_for_all_are_refused(
    command: Command, imp: Import
) -> None:
    command("credential", "add", "git.example.org", "--username", "robot")
    again = command("credential", "add", "git.example.org", "--username", "robot", code=1)
    assert "23505" in again
    assert "It is credential 1." in again
    assert "IJ404" in command("credential", "replace", "9", "--username", "robot", code=1)
    assert "IJ404" in command("credential", "remove", "9", code=1)
    command.key_file.chmod(0o644)
    said = command("credential", "replace", "1", "--username", "robot", code=1)
    assert "others may read or write" in said


def test_a_person_is_asked_for_the_password_and_it_is_not_shown(
    command: Command, keys: Keys, imp: Import, client: Client, conn: psycopg.Connection[Any]
) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        words = ("credential", "add", "git.example.org", "--username", "robot")
        os.execve(
            sys.executable, [sys.executable, "-P", "-m", "code_import", *words], command.environment
        )
    said = b""
    for asked in (b"Password of robot at git.example.org: ", b"Repeat for confirmation: "):
        while asked not in said:
            said += os.read(terminal, 1024)
        os.write(terminal, f"{PASSWORD}\n".encode())
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1024):
            said += data
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said
    assert PASSWORD not in said.decode()
    client.job_start(1, client.machine_new("one", "online").id)
    stored = client.credential_for_job(1)
    assert stored is not None
    login = open_for(keys, stored, imp.id, SOURCE)
    assert login is not None
    assert login.password == PASSWORD


# --- the git importer --------------------------------------------------------------------------


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture
def source(world: World) -> Repository:
    repository = world.new_source()
    repository.commit()
    return repository


@pytest.fixture
def http(world: World, source: Repository) -> Iterator[HttpServer]:
    with serve_http(world.root / "sources") as server:
        server.login = f"robot:{PASSWORD}"
        yield server


def login_for(server: HttpServer, **more: str) -> Login:
    """Who a server wants to see."""
    return replace(Login(server.url.partition("://")[2], "robot", PASSWORD), **more)


def test_git_logs_in_where_it_is_asked_to(
    world: World, source: Repository, http: HttpServer
) -> None:
    url = f"{http.url}/source.git"
    for job_id in (1, 2):
        source.commit(content="more")
        outcome = world.run(job_id, url, login=login_for(http))
        assert outcome.status == "success", outcome
    assert world.mirror.refs() == source.refs()
    http.authorizations.clear()
    http.login = None
    assert world.run(3, url, login=login_for(http)).status == "success_nochange"
    assert http.authorizations == []


@pytest.mark.parametrize(
    ("login", "said"),
    [(None, "asks for a login"), ("wrong", "refuses the login"), ("half", "refuses the login")],
)
def test_a_login_that_is_refused_is_said_to_be(
    world: World, http: HttpServer, login: str | None, said: str
) -> None:
    given = (
        login_for(http, password=PASSWORD[:5] if login == "half" else "wrong") if login else None
    )
    outcome = world.run(1, f"{http.url}/source.git", login=given)
    assert outcome.status == "failure_invalid"
    assert said in outcome.summary


@pytest.mark.parametrize("place", ["another port", "another host", "another scheme"])
def test_git_shows_a_login_to_no_other_place(
    world: World, http: HttpServer, source: Repository, place: str
) -> None:
    host, _, port = http.url.partition("://")[2].partition(":")
    elsewhere = {
        "another port": f"{host}:{int(port) ^ 1}",
        "another host": f"localhost:{port}",
        "another scheme": host,
    }[place]
    outcome = world.run(1, f"{http.url}/source.git", login=login_for(http, host=elsewhere))
    assert (outcome.status, http.authorizations) == ("failure_invalid", [])


@pytest.mark.parametrize("asks_first", [True, False])
def test_a_redirect_gets_no_login(
    world: World, http: HttpServer, tmp_path: Path, asks_first: bool
) -> None:
    """Neither one that comes at once nor one that comes after the login."""
    with serve_http(tmp_path) as thief:
        thief.login = "anybody:anything"
        away = answer(302, Location=f"{thief.url}/source.git/info/refs?service=git-upload-pack")

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            if asks_first and "Authorization" not in handler.headers:
                answer(401, WWW_Authenticate='Basic realm="x"')(handler)
            else:
                away(handler)

        http.faults["/"] = redirect
        outcome = world.run(1, f"{http.url}/source.git", login=login_for(http))
        assert outcome.status == "failure_invalid"
        assert "redirect" in outcome.summary
        assert bool(http.authorizations) == asks_first
        assert thief.authorizations == []


def test_a_redirect_within_the_host_gets_the_login(
    world: World, http: HttpServer, source: Repository
) -> None:
    there = f"{http.url}/source.git/info/refs?service=git-upload-pack"
    http.faults["/old.git"] = answer(302, Location=there)
    outcome = world.run(1, f"{http.url}/old.git", login=login_for(http))
    assert outcome.status == "success", outcome
    assert world.mirror.refs() == source.refs()


def test_a_secret_file_is_nobodys_but_its_readers(tmp_path: Path) -> None:
    with secret_file("word\n") as secret:
        for _ in range(2):
            shown = subprocess.run(
                ["cat", secret.path], pass_fds=secret.keep_open, capture_output=True, check=True
            )
            assert shown.stdout == b"word\n"
        assert subprocess.run(["cat", secret.path], capture_output=True).returncode != 0
    assert not secret.path.exists()


def test_where_there_is_no_memory_file_it_lies_in_a_private_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with secret_file("word\n") as secret:
        assert secret.path.read_text() == "word\n"
        assert secret.path.stat().st_mode & 0o777 == 0o600
        assert secret.path.parent.stat().st_mode & 0o777 == 0o700
    assert not secret.path.parent.exists()


# --- a worker ----------------------------------------------------------------------------------


@dataclass
class Farm:
    """An import from a server that asks for a login, and workers that run it."""

    command: Command
    conn: psycopg.Connection[Any]
    server: HttpServer
    source: Repository
    folder: Path
    imp: Import

    @property
    def host(self) -> str:
        return self.server.url.partition("://")[2]

    def start(self, *words: str, role: str = "tester_worker") -> subprocess.Popen[bytes]:
        """Start a worker that ends when nothing is due."""
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "code_import", "worker", "--once"),
                    *("--dsn", make_conninfo(self.command.dsn, user=role)),
                    *("--store", str(self.folder / "store"), "--allow-host", "127.0.0.1", *words),
                ],
                env=self.command.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, *words: str, role: str = "tester_worker") -> tuple[str, str]:
        """Have the import run; returns its status and the end of its log."""
        assert self.start(*words, role=role).wait(60) == 0, self.said
        row = self.conn.execute(
            "select status, log_excerpt from vcs.code_import_result order by id desc limit 1"
        ).fetchone()
        assert row is not None
        return row

    @property
    def said(self) -> str:
        return (self.folder / "worker.log").read_text()

    def store_login(self, *words: str) -> None:
        self.command("credential", "add", self.host, "--username", "robot", *words)


@pytest.fixture
def farm(
    command: Command, client: Client, conn: psycopg.Connection[Any], world: World,
    source: Repository, http: HttpServer,
) -> Farm:  # fmt: skip
    imp = client.new("ada", "project/repo", "git", f"{http.url}/source.git")
    return Farm(command, conn, http, source, world.root, imp)


def test_a_worker_logs_in_and_the_secret_is_seen_nowhere(farm: Farm, server: Server) -> None:
    """No process shows it while it fetches, nor the log of an echo, nor the disk, nor a dump."""
    farm.store_login("--unencrypted")
    held, release = threading.Event(), threading.Event()

    def hold(handler: Any) -> None:
        held.set()
        release.wait(30)
        handler._run_backend()

    farm.server.faults["/source.git/git-upload-pack"] = hold
    worker = farm.start()
    try:
        assert held.wait(30), farm.said
        seen = list(everything_that_ps_can_show())
    finally:
        release.set()
    assert worker.wait(60) == 0, farm.said
    assert any(b"git-remote-http" in shown for shown in seen)
    assert any(f"credential.http://{farm.host}.helper".encode() in shown for shown in seen)
    mirror = Repository(farm.folder / "store" / "project" / "repo.git")
    assert mirror.refs("refs/heads") == farm.source.refs("refs/heads")

    farm.server.faults.clear()
    farm.server.faults["/"] = echo
    farm.conn.execute("select vcs.code_import_request(%s, 'ada')", [farm.imp.id])
    status, log = farm.run()
    assert (status, log.count("***") >= 4) == ("failure", True), log

    dump = subprocess.run(
        [server.bin / "pg_dump", "--dbname", farm.command.dsn], capture_output=True, check=True
    ).stdout
    assert b"robot" in dump
    files = [path.read_bytes() for path in farm.folder.rglob("*") if path.is_file()]
    for form in FORMS:
        raw = form.encode()
        assert not any(raw in shown for shown in (*seen, dump, *files)), form
        assert raw.hex().encode() not in dump


def everything_that_ps_can_show() -> Iterator[bytes]:
    """The command line and the environment of every process of this machine."""
    for name in ("cmdline", "environ"):
        for file in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                yield file.read_bytes()


def echo(handler: BaseHTTPRequestHandler) -> None:
    """A server that says what it was told, as git repeats it."""
    given = handler.headers.get("Authorization")
    if given is None:
        answer(401, WWW_Authenticate='Basic realm="x"')(handler)
        return
    words = f"ERR you said {given} {' '.join(FORMS)}"
    line = f"{len(words.encode()) + 4:04x}{words}".encode()
    service = b"001e# service=git-upload-pack\n0000"
    answer(
        200, service + line, Content_Type="application/x-git-upload-pack-advertisement"
    )(handler)  # fmt: skip


def test_a_login_that_others_could_read_is_not_used(farm: Farm) -> None:
    farm.store_login()
    status, log = farm.run()
    assert status == "failure_invalid"
    assert "is not used: others could read it on its way" in log
    assert "asks for a login" in log
    assert farm.server.authorizations == []


def test_a_run_whose_login_cannot_be_had_ends_before_it_fetches(farm: Farm) -> None:
    farm.store_login("--unencrypted")

    def run(role: str = "tester_worker") -> tuple[str, str]:
        farm.conn.execute("select vcs.code_import_request(%s, 'ada')", [farm.imp.id])
        return farm.run("--hostname", f"for-{role}", role=role)

    file = farm.command.key_file
    kept = file.read_bytes()
    for content, mode, why in (
        (None, 0, "there is no key file"),
        (kept, 0o644, "others may read or write"),
        (Fernet.generate_key(), 0o600, "does not have the key"),
    ):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
            file.chmod(mode)
        status, log = run()
        assert (status, why in log) == ("internal_failure", True), log
        file.touch()
    file.write_bytes(kept)
    file.chmod(0o600)

    status, log = run("tester_operator")
    assert (status, "for the worker role that runs it" in log) == ("internal_failure", True), log

    farm.conn.execute("update vcs._code_import_credential set secret = secret || 'x'")
    status, log = run()
    assert (status, "is not what was sealed" in log) == ("internal_failure", True), log

    farm.conn.execute(
        "update vcs._code_import_credential set date_expires = now() - %s", [timedelta(days=1)]
    )
    status, log = run()
    assert (status, "expired on" in log) == ("failure_invalid", True), log
    assert farm.server.requests == []


def test_a_credential_swapped_in_the_database_is_sent_nowhere(farm: Farm) -> None:
    farm.command("credential", "add", "good.example.org", "--username", "robot")
    farm.conn.execute(
        "update vcs._code_import_credential set host = %s, allow_unencrypted = true", [farm.host]
    )
    status, log = farm.run()
    assert status == "internal_failure"
    assert "was sealed for the host good.example.org" in log
    assert farm.server.requests == []


def test_a_run_whose_login_the_database_does_not_give_is_given_back(
    farm: Farm, connect: Connect
) -> None:
    """A server that stands still may have the login: nothing is fetched without it."""
    farm.store_login("--unencrypted")
    farm.conn.execute("select vcs.code_import_configure('maximum_heartbeat_interval', '8 s', 'a')")
    holder = connect(autocommit=False)
    holder.execute("lock table vcs._code_import_credential in access exclusive mode")
    worker = farm.start()
    eventually(lambda: "no database" in farm.said, 30, "a worker that waits no longer")
    assert farm.server.requests == []
    holder.rollback()
    assert worker.wait(60) == 0, farm.said
    rows = farm.conn.execute(
        "select event_type from vcs.code_import_event where event_type in ('release', 'finish')"
        " order by id"
    ).fetchall()
    assert (rows[0], rows[-1]) == (("release",), ("finish",))
    assert farm.conn.execute("select status from vcs.code_import_result").fetchall() == [
        ("success",)
    ]


def test_mirror_logs_in_too(farm: Farm) -> None:
    farm.store_login("--unencrypted")
    store = str(farm.folder / "store")
    url = f"{farm.server.url}/source.git"
    said = farm.command("mirror", url, "--store", store, "--allow-host", "127.0.0.1")
    assert "mirrored" in said
    assert farm.server.authorizations
