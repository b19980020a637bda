"""The workers in other languages: each does all that a worker must, as one that may do no more.

What they run is a stand-in for the work. Given a url, it tells it, and then does as the file
``orders`` says: to end with a code, or to go on for ever.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import class_row

from code_import import Client
from code_import.models import Result
from harness import debian, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from conftest import Connect, Roles

    from code_import.models import Job
    from harness.servers import Server

LANGUAGES = Path(__file__).parents[1] / "languages"
MACHINE = "build1"

WORK = """\
echo "working on $1"
echo $$ > pid
read -r code < orders
[ "$code" = forever ] || exit "$code"
echo "for ever"
sleep 1000 & echo $! > child
wait
"""


@dataclass(frozen=True, slots=True)
class Language:
    """How a worker is started, and where what it is written in is found."""

    command: list[str]
    environment: dict[str, str]


def bash(folder: Path, server: Server) -> Language:
    """Bash with the psql of this machine, or else the server's own."""
    shell = shutil.which("bash") or pytest.skip("bash is not here")
    version = subprocess.run(
        [shell, "-c", "((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501))"], check=False
    )
    if version.returncode != 0:
        pytest.skip("this bash is older than 5.1")
    path = os.environ["PATH"]
    if not shutil.which("psql"):
        path = f"{server.bin}{os.pathsep}{path}"
    return Language([shell, str(LANGUAGES / "worker.sh")], {"PATH": path})


def node(folder: Path, server: Server) -> Language:
    """Node with pg, which is fetched once and kept in the cache."""
    program = shutil.which("node") or pytest.skip("node is not here")
    (folder / "node_modules").symlink_to(node_modules())
    shutil.copy(LANGUAGES / "worker.mjs", folder)
    return Language([program, str(folder / "worker.mjs")], {})


def node_modules() -> Path:
    """A directory of npm packages with pg in it."""
    kept = debian.cache() / "node"
    modules = kept / "node_modules"
    failure = Path(os.environ["CODE_IMPORT_TEST_HOME"]) / "npm-failed"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (modules / "pg" / "package.json").is_file() and not failure.exists():
            try:
                _npm_install(kept, "pg@8")
            except (OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", None) or str(error)
                failure.write_text(f"npm cannot fetch pg: {str(said).splitlines()[0]}")
    if failure.exists():
        pytest.skip(failure.read_text())
    return modules


def _npm_install(folder: Path, package: str) -> None:
    """Fetch a package; when the registry does not answer, fail soon."""
    subprocess.run(
        [
            *("npm", "install", "--prefix", folder, "--no-save", "--no-package-lock"),
            *("--no-audit", "--no-fund", "--loglevel=error"),
            *("--fetch-retries=0", "--fetch-timeout=20000", package),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python(folder: Path, server: Server) -> Language:
    """This Python, which has the package."""
    return Language([sys.executable, str(LANGUAGES / "worker.py")], {})


MAKERS: dict[str, Callable[[Path, Server], Language]] = {
    "worker.sh": bash,
    "worker.mjs": node,
    "worker.py": python,
}


@dataclass
class Farm:
    """One import, the worker that serves it, and what an operator sees and does."""

    language: Language
    folder: Path
    dsn: str
    conn: psycopg.Connection[Any]

    def __post_init__(self) -> None:
        self.operator = Client(self.conn)
        self.imp = self.operator.new("alice", "project/repo", "git", "https://example.org/repo")
        (self.folder / "work").write_text(WORK)
        self.orders("0")

    def orders(self, text: str) -> None:
        """Say what the work does from now on."""
        half = self.folder / "orders.half"
        half.write_text(f"{text}\n")
        half.rename(self.folder / "orders")

    @contextmanager
    def worker(self, beat: float = 0.2) -> Iterator[subprocess.Popen[bytes]]:
        """The worker, until the end of the block."""
        given = conninfo_to_dict(self.dsn)
        place = {f"PG{key.upper()}": str(given[key]) for key in ("host", "port", "user")}
        place |= {"PGDATABASE": str(given["dbname"]), "BEAT": str(beat)}
        with (self.folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*self.language.command, MACHINE, "sh", "work"],
                cwd=self.folder,
                env={**os.environ, **self.language.environment, **place},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                yield process
                process.terminate()
                process.wait(30)
            finally:
                process.kill()
                process.wait()

    @property
    def complaints(self) -> str:
        """What the worker has written on stderr."""
        return (self.folder / "stderr").read_text()

    def job(self) -> Job:
        """The import's job."""
        row = self.conn.execute(
            "select id from vcs.code_import_job where code_import_id = %s", [self.imp.id]
        ).fetchone()
        assert row is not None, "the import has no job"
        job = self.operator.job_get(row[0])
        assert job is not None, f"job {row[0]} has ended just now"
        return job

    def endless_run(self) -> Job:
        """The run, as soon as its work has told in a heartbeat that it goes on for ever."""

        def run() -> Job | None:
            job = self.job()
            return job if "for ever" in (job.logtail or "") else None

        job = waiting.eventually(run, what="the endless run beats")
        assert job is not None
        return job

    def result(self, job_id: int) -> Result:
        """The result of a run, as soon as there is one."""
        columns = Result.columns
        query = f"select {columns} from vcs.code_import_result where job_id = %s"
        with self.conn.cursor(row_factory=class_row(Result)) as cursor:
            result = waiting.eventually(
                lambda: cursor.execute(query, [job_id]).fetchone(), what=f"run {job_id} ends"
            )
        assert result is not None
        return result

    def statuses(self) -> list[str]:
        """How the runs ended, oldest first."""
        query = "select status from vcs.code_import_result order by id"
        return [status for (status,) in self.conn.execute(query)]

    def work_is_dead(self) -> bool:
        """Whether the last work, and what it has started, run no more."""
        pids = [int((self.folder / name).read_text()) for name in ("pid", "child")]
        return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture(params=MAKERS)
def farm(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server: Server,
    dsn: str,
    roles: Roles,
    connect: Connect,
) -> Farm:
    """A farm whose worker has the rights of a worker, and no more."""
    language = MAKERS[request.param](tmp_path, server)
    return Farm(language, tmp_path, make_conninfo(dsn, user=roles.worker), connect(roles.operator))


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_short(name: str) -> None:
    """Forty lines are enough."""
    assert len((LANGUAGES / name).read_text().splitlines()) <= 40


def test_every_file_is_tested() -> None:
    """No worker lies there without a test."""
    assert {path.name for path in LANGUAGES.iterdir() if path.is_file()} == set(MAKERS)


@pytest.mark.parametrize(("code", "status"), [("0", "success"), ("3", "failure")])
def test_the_exit_code_becomes_the_status(farm: Farm, code: str, status: str) -> None:
    """The result has the status and the last lines of the log, and the next run is due later."""
    job = farm.job()
    farm.orders(code)
    with farm.worker():
        result = farm.result(job.id)
    assert result.status == status
    assert result.log_excerpt is not None
    assert result.log_excerpt.strip() == "working on https://example.org/repo"
    assert not farm.operator.job_is_overdue(farm.job())
    assert farm.complaints == ""


def test_a_killed_run_is_stopped_and_finished_as_killed(farm: Farm) -> None:
    """The work dies with all that it has started."""
    farm.orders("forever")
    with farm.worker():
        job = farm.endless_run()
        farm.operator.job_kill(job.id, "bob")
        assert farm.result(job.id).status == "killed"
        waiting.eventually(farm.work_is_dead)
    assert farm.complaints == ""


def test_a_reclaimed_run_is_stopped_without_a_word(farm: Farm) -> None:
    """The worker does not touch the result, and takes the next run."""
    farm.orders("forever")
    with farm.worker():
        job = farm.endless_run()
        farm.orders("0")
        assert farm.operator.job_reclaim(job.id).status == "reclaimed"
        waiting.eventually(farm.work_is_dead)
        waiting.eventually(lambda: farm.statuses() == ["reclaimed", "success"])
    assert farm.complaints == ""


def test_other_refusals_are_reported(farm: Farm, connect: Connect, roles: Roles) -> None:
    """A machine of another role is refused, and whoever looks after the worker reads why."""
    Client(connect(roles.other_worker)).job_for_machine(MACHINE, 0)
    with farm.worker():
        waiting.eventually(lambda: "belongs to the role" in farm.complaints)


def test_sigterm_gives_the_run_back(farm: Farm) -> None:
    """Nothing is counted, and another machine may take it at once."""
    farm.orders("forever")
    with farm.worker():
        job = farm.endless_run()
    waiting.eventually(farm.work_is_dead)
    given_back = farm.job()
    assert (given_back.state, given_back.date_due) == ("pending", job.date_due)
    assert given_back.id > job.id


def test_what_an_earlier_life_left_is_reclaimed_at_once(
    farm: Farm, connect: Connect, roles: Roles
) -> None:
    """The worker knows that what its machine still runs is dead."""
    dead = Client(connect(roles.worker)).job_for_machine(MACHINE, 1)
    assert dead is not None
    with farm.worker():
        waiting.eventually(lambda: farm.statuses() == ["reclaimed", "success"])


@pytest.mark.parametrize("farm", ["worker.mjs", "worker.py"], indirect=True)
def test_listeners_wake_at_once(farm: Farm) -> None:
    """Between two beats that are a minute apart, a request is enough."""
    first = farm.job()
    with farm.worker(beat=60):
        farm.result(first.id)
        requested = farm.operator.request(farm.imp.id, "bob")
        assert farm.result(requested.id).requesting_user == "bob"
