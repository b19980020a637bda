"""The command line: what people see, what programs get, and how it ends."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from code_import.cli import main, output
from code_import.cli.base import Command
from code_import.cli.limits import read_size
from code_import.client import Client

if TYPE_CHECKING:
    import psycopg
    from click.testing import Result as Outcome
    from conftest import Roles

URL = "https://example.org/repo.git"
LONG = "gnome/evolution-data-server/with/a/rather-long/path/that-goes/on-and-on-and-on/for/ever"
LONG_URL = "https://git.example.org/" + "a-rather-long-part-of-a-path/" * 6 + "repo.git"
NOW = datetime(2030, 1, 31, 6, tzinfo=UTC)


@dataclass(frozen=True)
class CommandLine:
    """Runs commands against the test's database."""

    dsn: str

    @property
    def environment(self) -> dict[str, str]:
        return {"CODE_IMPORT_DSN": self.dsn, "CODE_IMPORT_PERSON": "alice", "COLUMNS": "80"}

    def run(self, *args: str, stdin: str | bytes | None = None) -> Outcome:
        """Run a command in this process, however it ends."""
        return CliRunner(env=self.environment).invoke(
            main, args, input=stdin, catch_exceptions=False
        )

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> str:
        """Run a command that succeeds, and return what it prints."""
        outcome = self.run(*args, stdin=stdin)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.stdout

    def json(self, *args: str) -> Any:
        """Run a command that succeeds, and return the JSON that it prints."""
        return json.loads(self(*args, "--json"))

    def refused(self, *args: str, code: int = 1) -> str:
        """Run a command that does not succeed, and return what it says on stderr."""
        outcome = self.run(*args)
        assert outcome.exit_code == code, outcome.output
        return outcome.stderr

    def process(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "code_import", *args],
            env={**os.environ, **self.environment},
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
            **options,
        )


@pytest.fixture
def cli(dsn: str) -> CommandLine:
    """The command line, on the test's database."""
    return CommandLine(dsn)


@pytest.fixture
def client(conn: psycopg.Connection[Any]) -> Client:
    """A client on the same database."""
    return Client(conn)


def claim(cli: CommandLine, target: str = "project/repo") -> str:
    """Register an import and claim its job as the machine build1."""
    cli("import", "add", target, f"https://example.org/{target}.git")
    return str(cli.json("job", "for-machine", "build1", "100")["id"])


# Imports


def test_add_registers_an_import_and_says_what_follows(cli: CommandLine) -> None:
    outcome = cli.run("import", "add", "project/repo", URL, "--interval", "12 h", "--owner", "bob")
    assert outcome.stdout == "import 1, project/repo, is registered as reviewed\n"
    assert "worker" in outcome.stderr
    imp = cli.json("import", "show", "project/repo")
    assert (imp["registrant"], imp["owner"], imp["rcs_type"]) == ("alice", "bob", "git")
    assert (imp["update_interval"], imp["effective_update_interval"]) == ("PT12H", "PT12H")
    assert imp["job_state"] == "pending"


def test_add_takes_a_cvs_root_and_module_in_place_of_a_url(cli: CommandLine) -> None:
    root = ":pserver:anonymous@example.org:/cvs"
    imp = cli.json("import", "add", "old", "--cvs-root", root, "--cvs-module", "module")
    assert (imp["rcs_type"], imp["url"], imp["cvs_root"]) == ("cvs", None, root)


def test_what_no_worker_will_fetch_is_said_at_once(cli: CommandLine) -> None:
    outcome = cli.run("import", "add", "project/repo", "https://10.0.0.1/repo.git")
    assert outcome.exit_code == 0
    assert "workers will refuse it: the host 10.0.0.1 is in a private network" in outcome.stderr
    assert "refuse" not in cli.run("import", "set-url", "project/repo", URL).stderr
    cli("settings", "set", "excluded_hosts", "example.org, example.net")
    moved = "https://git.example.net/repo.git"
    assert "is excluded" in cli.run("import", "set-url", "project/repo", moved).stderr
    changed = cli.run("import", "update", "project/repo", "--url", "ssh://git@example.com/r")
    assert "ssh is not allowed" in changed.stderr
    assert "refuse" not in cli.run("import", "update", "project/repo", "--owner", "bob").stderr


def test_a_new_import_waits_for_approval(cli: CommandLine) -> None:
    outcome = cli.run("import", "add", "project/repo", URL, "--status", "new")
    assert "code-import import approve project/repo" in outcome.stderr
    assert "reviewed, was new" in cli("import", "approve", "project/repo")
    assert "suspended, was reviewed" in cli("import", "suspend", "1")
    assert cli("import", "suspend", "1") == "import 1, project/repo, is like that already\n"
    assert cli.json("import", "suspend", "1") is None


@pytest.mark.parametrize("form", ["array", "lines"])
def test_add_many_reads_json_and_ends_with_1_if_any_was_refused(
    cli: CommandLine, form: str
) -> None:
    rows = [
        {"target": "a", "rcs_type": "git", "url": URL},
        {"target": "b", "rcs_type": "git", "url": URL},
    ]
    text = json.dumps(rows) if form == "array" else "\n".join(map(json.dumps, rows))
    outcome = cli.run("import", "add-many", "-", "--json", stdin=text)
    assert outcome.exit_code == 1
    assert [row["error_code"] for row in json.loads(outcome.stdout)] == [None, "23505"]
    assert cli("import", "add-many", "-", stdin="[]") == ""
    assert "JSON" in cli.run("import", "add-many", "-", stdin="{").stderr
    assert "https://example.org/" in cli("import", "export", "-", "--form", "urls")


def test_update_changes_what_is_named_and_nothing_else(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL, "--interval", "12 h")
    cli("import", "update", "project/repo", "--assignee", "carol", "--target", "project/new")
    imp = cli.json("import", "show", "1")
    assert (imp["target"], imp["assignee"], imp["owner"]) == ("project/new", "carol", "alice")
    cli("import", "update", "1", "--no-assignee", "--interval", "default")
    imp = cli.json("import", "show", "1")
    assert (imp["assignee"], imp["update_interval"]) == (None, None)
    assert "Say what to change" in cli.refused("import", "update", "1", code=2)


def test_set_url_changes_the_source(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    moved = "https://example.org/moved.git"
    assert f"url {moved}, was {URL}" in cli("import", "set-url", "project/repo", moved)


def test_delete_asks_a_person_and_wants_yes_from_a_script(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    assert "--yes" in cli.refused("import", "delete", "project/repo", code=2)
    assert cli("import", "delete", "1", "--yes") == "import 1, project/repo, is deleted\n"
    assert cli.json("import", "list") == []


@pytest.mark.parametrize(
    ("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 3, 1), (signal.SIGINT, 130, 1)]
)
def test_delete_does_what_a_person_answers(
    cli: CommandLine, answer: bytes | signal.Signals, code: int, left: int
) -> None:
    cli("import", "add", "project/repo", URL)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "code_import", "import", "delete", "project/repo"],
        env={**os.environ, **cli.environment},
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(ours, 1024)
        if isinstance(answer, bytes):
            os.write(ours, answer)
        else:
            # Again if need be: one that comes a moment before the read does not interrupt it.
            for _ in range(20):
                process.send_signal(answer)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(3)
                    break
        assert process.wait(60) == code
    os.close(ours)
    assert len(cli.json("import", "list")) == left


def test_requests(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    assert cli("import", "request", "project/repo").endswith("as job 1, for alice\n")
    assert "Requested by alice" in cli.refused("import", "request", "1", "--once")
    cli("job", "claim", "build1")
    assert "IJ423" in cli.refused("import", "request", "1")
    again = cli("import", "request-again", "1", "--person", "bob")
    assert again == "import 1, project/repo, runs once more after job 1, for bob\n"


def test_try_again_is_for_failing_imports(cli: CommandLine) -> None:
    cli("settings", "set", "consecutive_failure_limit", "0")
    cli("job", "finish", claim(cli), "failure_invalid")
    shown = cli("import", "show", "project/repo")
    assert "failing" in shown
    assert "failure_invalid" in shown
    assert cli.json("import", "list", "--status", "failing")[0]["target"] == "project/repo"
    assert "for alice" in cli("import", "try-again", "project/repo")


def test_list_filters_and_pages(cli: CommandLine) -> None:
    for name in ("c", "a", "b"):
        cli("import", "add", name, f"https://{name}.example.org/x.git", "--owner", name)
    first = cli.run("import", "list", "--limit", "2", "--json")
    assert [imp["target"] for imp in json.loads(first.stdout)] == ["a", "b"]
    assert "--after b" in first.stderr
    second = cli.json("import", "list", "--limit", "2", "--after", "b")
    assert [imp["target"] for imp in second] == ["c"]
    assert [imp["target"] for imp in cli.json("import", "list", "--match", "B.EX")] == ["b"]
    assert [imp["target"] for imp in cli.json("import", "list", "--owner", "c")] == ["c"]
    of_b = cli.json("import", "list", "--url", "https://b.example.org/x.git")
    assert [imp["target"] for imp in of_b] == ["b"]
    assert cli.json("import", "list", "--url", "https://b.example.org/x") == []
    assert cli.json("import", "list", "--type", "svn", "--type", "hg") == []
    assert cli.run("import", "list", "--type", "svn").stderr == "no imports\n"


# Jobs


def test_a_run_from_claim_to_log(cli: CommandLine, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"fetching\n\x1b[31mred\x1b[0m \xff\x00\nlast line\n")
    cli("import", "add", "project/repo", URL)
    claimed = cli("job", "claim", "build1", "--type", "git")
    assert URL in claimed
    assert cli("job", "heartbeat", "1", "--log", str(log)) == "continue\n"
    assert "build1" in cli("job", "list", "--state", "running")
    shown = cli("job", "show", "project/repo")
    assert shown.endswith("last line\n")
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
    assert cli("job", "finish", "1", "success", "--log", str(log)).startswith("job 1 is finished")
    assert "last line" in cli("import", "show", "project/repo")
    assert cli("result", "show", "project/repo").endswith("last line\n")
    printed = cli.run("result", "log", "project/repo")
    assert printed.stdout_bytes == log.read_bytes()
    assert cli.json("result", "log", "project/repo")["whole"] is True
    result = cli.json("result", "show", "project/repo")
    assert (result["hostname"], result["status"]) == ("build1", "success")
    assert cli.json("result", "list", "--import", "1", "--machine", "build1")[0] == {
        key: value for key, value in result.items() if key != "log_excerpt"
    }


def test_a_log_that_was_not_stored_is_its_last_lines(cli: CommandLine) -> None:
    job_id = claim(cli)
    cli("job", "heartbeat", job_id, "--log", __file__)
    cli("job", "finish", job_id, "success")
    outcome = cli.run("result", "log", "project/repo")
    assert "only its last lines" in outcome.stderr
    assert outcome.stdout == Path(__file__).read_text(encoding="utf-8")


def test_log_files_are_stored_before_the_end(cli: CommandLine) -> None:
    job_id = claim(cli)
    log_file_id = cli("log-file", "new", job_id, "-", stdin=b"\xff all").strip()
    other = claim(cli, "other")
    outcome = cli.run("job", "finish-many", f"{job_id}=success,{log_file_id}", "404=success")
    assert outcome.exit_code == 1
    assert "IJ410" in outcome.stdout
    assert cli.run("result", "log", "project/repo").stdout_bytes == b"\xff all"
    assert "not both" in cli.refused(
        "job", "finish", other, "killed", "--log", __file__, "--log-file-id", "1", code=2
    )


def test_a_killed_run_is_told_to_stop(cli: CommandLine) -> None:
    job_id = claim(cli)
    assert cli("job", "kill", "project/repo") == f"job {job_id} will stop, for alice\n"
    assert "stopping" in cli("job", "list")
    assert "to be stopped" in cli("job", "show", job_id)
    assert cli("job", "heartbeat", job_id) == "stop\n"
    answers = cli.json("job", "heartbeats", job_id, "404")
    assert [answer["directive"] for answer in answers] == ["stop", "gone"]
    assert "killed" in cli("job", "finish", job_id, "killed")
    assert "IJ409" in cli.refused("job", "finish", job_id, "success")


def test_jobs_are_pinned_and_started(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    cli("machine", "new", "build1", "--state", "online")
    assert "pinned to build1" in cli("job", "schedule", "project/repo", "build1", "--ordering", "3")
    assert cli.json("job", "list", "--machine", "build1")[0]["ordering"] == 3
    assert "for any machine" in cli("job", "schedule", "1", "--unpin")
    cli.refused("job", "schedule", "1", code=2)
    cli("job", "request", "1")
    assert cli.json("job", "list", "--requested", "--due", "--import", "1")[0]["id"] == 1
    assert cli("job", "start", "1", "build1") == "job 1 is running on build1\n"


def test_runs_are_given_back_and_reclaimed(cli: CommandLine, conn: psycopg.Connection[Any]) -> None:
    job_id = claim(cli)
    assert cli("job", "release", job_id) == "job 1 is given back; job 2 takes its place\n"
    cli("job", "claim", "build1")
    assert "job 2 is reclaimed" in cli("job", "reclaim", "2")
    cli("job", "claim", "build1")
    assert cli.run("job", "reclaimable").stderr == "no silent runs\n"
    conn.execute(
        "update vcs._code_import_schedule set date_started = date_started - interval '1 hour',"
        " heartbeat = heartbeat - interval '1 hour'"
    )
    conn.execute("update vcs._code_import_machine set oldest_start = oldest_start - interval '1 h'")
    assert cli("job", "reclaimable").endswith("1 h\n")
    assert cli.json("job", "reclaimable")[0]["id"] == 3
    assert cli("job", "reclaim-stale", "--max-jobs", "5") == "1 reclaimed\n"
    assert cli.json("job", "reclaim-stale") == 0


def test_questions_about_jobs_answer_with_their_exit_code(
    cli: CommandLine, conn: psycopg.Connection[Any]
) -> None:
    assert cli.refused("job", "next-due", code=3)
    assert cli.run("job", "next-due", "--json").stdout == "null\n"
    cli("import", "add", "project/repo", URL)
    assert " UTC, " in cli("job", "next-due", "--hostname", "build1", "--type", "git")
    assert datetime.fromisoformat(cli.json("job", "next-due"))
    assert "is overdue" in cli("job", "is-overdue", "project/repo")
    conn.execute("update vcs._code_import_schedule set date_due = now() + interval '5.5 hours'")
    outcome = cli.run("job", "is-overdue", "1")
    assert (outcome.exit_code, outcome.stdout.endswith("in 5 h\n")) == (3, True)
    assert "in 5 h" in cli("import", "list")
    assert "pending" in cli("job", "get", "1")
    assert cli.json("job", "get", "1")["state"] == "pending"
    outcome = cli.run("job", "get", "404", "--json")
    assert (outcome.exit_code, outcome.stdout) == (3, "null\n")
    assert cli.refused("job", "claim", "build1", code=3) == "nothing to do\n"
    assert cli.refused("job", "for-machine", "build1", "1", code=3) == "nothing to do\n"


def test_jobs_page_by_due_time_and_id(cli: CommandLine) -> None:
    for name in "abc":
        cli("import", "add", name, f"https://example.org/{name}.git")
    seen, after = [], []
    for _ in range(3):
        page = cli.run("job", "list", "--limit", "1", "--json", *after)
        seen += [job["id"] for job in json.loads(page.stdout)]
        after = page.stderr.strip().removeprefix("more, perhaps: ").split()
    assert seen == [1, 2, 3]
    assert cli.json("job", "list", *after) == []
    cli.refused("job", "list", "--after", "nonsense", code=2)


def test_jobs_of_imports_that_run_by_themselves_are_refused_by_hand(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    assert "IJ409" in cli.refused("job", "new", "project/repo", "--interval", "6 h")
    assert "IJ409" in cli.refused("job", "delete-pending", "project/repo")
    cli("import", "suspend", "1")
    assert "suspended and has no job" in cli.refused("job", "show", "project/repo")


def test_job_new_and_delete_pending_put_right_what_others_keep(
    cli: CommandLine, conn: psycopg.Connection[Any]
) -> None:
    cli("import", "add", "project/repo", URL)
    conn.execute("alter table vcs._code_import_schedule disable trigger user")
    conn.execute(
        "update vcs._code_import_schedule"
        " set job_id = null, date_created = null, date_due = null, state = null"
    )
    assert "job 2" in cli("job", "new", "project/repo")
    conn.execute("update vcs._code_import_schedule set review_status = 'suspended'")
    cli("job", "delete-pending", "project/repo")
    assert cli.json("job", "list") == []


# Machines, events, settings


def test_machines_change_their_state(cli: CommandLine) -> None:
    assert cli("machine", "new", "build1") == "machine 1, build1, is offline\n"
    assert cli("machine", "online", "build1") == "machine 1, build1, is online\n"
    assert "quiescing" in cli("machine", "quiesce", "1", "--message", "new disk")
    assert "offline" in cli("machine", "offline", "build1", "--reason", "watchdog")
    assert "IJ409" in cli.refused("machine", "offline", "build1")
    assert cli.json("machine", "list", "--state", "offline")[0]["running"] == 0
    assert "never" in cli("machine", "show", "build1")
    assert "nobody" in cli("machine", "disown", "build1")
    events = cli("event", "list", "--machine", "build1", "--type", "quiesce", "--type", "offline")
    assert "new disk" in events
    assert "watchdog" in events
    assert cli("machine", "delete", "build1") == "machine 1, build1, is deleted\n"
    assert "IJ404" in cli.refused("machine", "show", "build1")


def test_events_tell_what_happened_newest_first(cli: CommandLine) -> None:
    cli("job", "finish", claim(cli), "success")
    cli("import", "update", "1", "--owner", "bob")
    cli("settings", "set", "results_kept", "7")
    types = [event["event_type"] for event in cli.json("event", "list")]
    assert types == ["modify", "modify", "finish", "publish", "start", "online", "create"]
    told = cli("event", "list")
    assert "owner bob, was alice" in told
    assert "results_kept" in told
    page = cli.run("event", "list", "--limit", "2", "--json")
    before = page.stderr.split()[-1]
    assert cli.json("event", "list", "--before", before)[0]["event_type"] == "finish"
    assert cli.json("event", "list", "--person", "nobody") == []


def test_the_history_of_a_deleted_import_stays(cli: CommandLine) -> None:
    cli("job", "finish", claim(cli), "success")
    cli("import", "delete", "project/repo", "--yes")
    assert "project/repo" in cli("event", "list", "--import", "1", "--type", "delete")
    assert "import 1" in cli("result", "list", "--import", "1")


def test_results_can_be_chosen_by_status(cli: CommandLine) -> None:
    cli("job", "finish", claim(cli), "failure_remote_broken")
    assert cli.json("result", "list", "--status", "success") == []
    assert len(cli.json("result", "list", "--status", "failure_remote_broken")) == 1
    assert cli.json("result", "list", "--before", "1") == []


def test_settings_are_shown_set_and_restored(cli: CommandLine) -> None:
    assert cli("settings", "set", "logtail_limit", "1 kB") == "logtail_limit is 1 kB\n"
    assert "1 kB, default 64 kB" in cli("settings", "show", "logtail_limit")
    assert cli.json("settings", "show", "logtail_limit")["value"] == "1 kB"
    assert cli("settings", "set", "logtail_limit", "--default") == "logtail_limit is 64 kB\n"
    assert "machine_silent_after  not set" in cli("settings", "show")
    assert len(cli.json("settings", "show")) == 20
    assert "IJ400" in cli.refused("settings", "show", "nonsense")
    assert "IJ400" in cli.refused("settings", "set", "logtail_limit", "nonsense")
    cli.refused("settings", "set", "logtail_limit", code=2)


def test_tidy_up_counts(cli: CommandLine) -> None:
    assert cli("tidy-up") == (
        "tidied up: 0 partitions made, 0 partitions dropped, 0 partitions due, 0 results kept,"
        " 0 rows deleted, 0 rows astray, 0 machines\n"
    )
    assert set(cli.json("tidy-up").values()) == {0}


def test_the_api_is_listed(cli: CommandLine) -> None:
    assert len(cli.json("api")) == 46
    told = cli("api", "job_claim")
    assert told.startswith("vcs.code_import_job_claim(p_hostname text")
    assert max(map(len, told.splitlines())) <= 80


# Names


def test_a_number_that_is_an_id_and_a_target_is_refused(cli: CommandLine) -> None:
    cli("import", "add", "2", URL)
    cli("import", "add", "other", "https://example.org/other.git")
    assert "the id of one import and the name of another" in cli.refused("import", "show", "2")
    assert cli.json("import", "show", "1")["target"] == "2"
    cli("import", "delete", "other", "--yes")
    assert cli.json("import", "show", "2")["id"] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("import", "show", "nope"),
        ("import", "request", "404"),
        ("import", "show", "9" * 30),
        ("machine", "show", "nope"),
        ("job", "kill", "nope"),
        ("result", "show", "404"),
        ("result", "log", "nope"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_not_found(cli: CommandLine, args: tuple[str, ...]) -> None:
    assert "IJ404" in cli.refused(*args)


def test_an_import_that_never_ran_has_no_result(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    assert "no result yet" in cli.refused("result", "show", "project/repo")


def test_a_run_that_ended_is_gone(cli: CommandLine) -> None:
    assert "IJ410" in cli.refused("job", "show", "404")
    assert "IJ410" in cli.refused("job", "heartbeat", "404")


# For programs, and for people


def test_json_may_stand_before_or_after_the_words(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    documents = {
        cli("--json", "import", "list"),
        cli("import", "--json", "list"),
        cli("import", "list", "--json"),
    }
    assert len(documents) == 1
    (imp,) = json.loads(documents.pop())
    assert imp["date_created"].endswith("Z")
    assert datetime.fromisoformat(imp["date_due"]).tzinfo is not None


def test_the_database_may_be_named_before_or_after_the_words(cli: CommandLine, dsn: str) -> None:
    other = CommandLine("host=/nowhere")
    assert other("--dsn", dsn, "import", "list", "--json") == "[]\n"
    assert other("import", "list", "--dsn", dsn, "--json") == "[]\n"


def test_an_error_is_json_for_programs(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    error = json.loads(cli.refused("import", "add", "other", URL, "--json"))
    assert error["sqlstate"] == "23505"
    assert "project/repo" in error["detail"]
    assert json.loads(cli.refused("import", "list", "--limit", "0", "--json", code=2))["error"]


def test_an_error_is_one_line_and_its_hint_for_people(cli: CommandLine) -> None:
    cli("import", "add", "project/repo", URL)
    cli("import", "request", "1")
    error, *others = cli.refused("import", "request", "1", "--once").splitlines()
    assert error == "code-import: code import job 1 is requested already (IJ429)"
    assert [line.split(":")[0] for line in others] == ["  detail", "  hint"]


def test_the_statements_of_a_hint_can_be_copied(empty_dsn: str, roles: Roles) -> None:
    stranger = CommandLine(make_conninfo(empty_dsn, user=roles.nobody))
    error, hint, *statements = stranger.refused("install").splitlines()
    assert error.endswith("(42501)")
    assert hint.startswith("  hint: ")
    assert statements
    assert all(line.startswith("    grant ") and line.endswith(";") for line in statements)


@pytest.mark.parametrize(
    "args",
    [
        ("import", "list"),
        ("import", "show", LONG),
        ("job", "list"),
        ("job", "show", LONG),
        ("job", "reclaimable"),
        ("machine", "list"),
        ("machine", "show", "1"),
        ("event", "list"),
        ("result", "list"),
        ("result", "show", LONG),
        ("settings", "show"),
        ("api",),
    ],
    ids=" ".join,
)
def test_tables_fit_80_columns_and_lose_nothing(
    cli: CommandLine, client: Client, conn: psycopg.Connection[Any], args: tuple[str, ...]
) -> None:
    imp = client.new("a-person-with-quite-a-long-name", LONG, "git", LONG_URL)
    hostname = "a-machine-with-a-long-name.in-a-long-domain.example.org"
    run = client.job_for_machine(hostname, 9)
    assert run is not None
    client.job_finish(run.id, "failure_unsupported_feature")
    client.request(imp.id, "a-person-with-quite-a-long-name")
    client.update(imp.id, {"owner": "someone-else-with-a-long-name"}, "a-person")
    assert client.job_for_machine(hostname, 9)
    conn.execute(
        "update vcs._code_import_schedule set date_started = date_started - interval '1 hour',"
        " heartbeat = heartbeat - interval '1 hour'"
    )
    printed = cli(*args)
    assert max(map(len, printed.splitlines())) <= 80
    if args[-1] == LONG:
        assert LONG in "".join(printed.replace("\n", " ").split())


def test_the_words_of_sql_reach_the_same_commands(cli: CommandLine) -> None:
    assert cli.json("import", "new", "project/repo", URL)["id"] == 1
    assert cli("machine", "set-online", str(cli.json("machine", "new", "build1")["id"]))
    assert cli("configure", "results_kept", "7") == "results_kept is 7\n"
    cli("job", "claim", "build1")
    assert cli("job", "update-heartbeat", "1") == "continue\n"


def test_a_likely_word_is_guessed(cli: CommandLine) -> None:
    assert "Did you mean import?" in cli.refused("improt", code=2)
    assert "code-import import --help" in cli.refused("import", "lst", code=2)


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=12), "in 12 s"),
        (-timedelta(seconds=59), "59 s ago"),
        (-timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=5, minutes=20), "in 5 h"),
        (timedelta(hours=5, minutes=59, seconds=59.9), "in 6 h"),
        (timedelta(minutes=59, seconds=50), "in 1 h"),
        (timedelta(seconds=59.8), "in 1 min"),
        (timedelta(days=29, hours=23, minutes=59), "in 30 days"),
        (-timedelta(hours=47), "47 h ago"),
        (-timedelta(days=12), "12 days ago"),
    ],
)
def test_times_in_words(distance: timedelta, words: str) -> None:
    assert output.ago(NOW + distance, NOW) == words


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(hours=6), "6 h"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=30, seconds=1.5), "30 days 1.5 s"),
        (timedelta(0), "0 s"),
    ],
)
def test_intervals_in_words(interval: timedelta, words: str) -> None:
    assert output.every(interval) == words


def test_control_characters_are_shown_and_never_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.visible("a\x1b]0;x\x07\x9bé\n", keep="\n") == "a\\x1b]0;x\\x07\\x9bé\n"
    output.print_facts([("\x1b[1m", "[bold]\x1b[2J")])
    output.print_json({"key": "\x1b\x7f\x9bé"})
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\x7f", "\x9b"}
    assert "[bold]\\x1b[2J" in printed
    assert '{"key": "\\u001b\\u007f\\u009bé"}' in printed


def test_errors_show_control_characters(cli: CommandLine) -> None:
    told = cli.refused("import", "show", "\x1b[2J")
    assert "\\x1b[2J" in told
    assert "\x1b" not in told


def test_numbers_that_no_id_can_have_are_usage(cli: CommandLine) -> None:
    assert "range" in cli.refused("job", "get", "9" * 30, code=2)
    assert "range" in cli.refused("job", "for-machine", "build1", "9" * 10, code=2)


# As a process


def test_data_goes_to_stdout_and_messages_to_stderr(cli: CommandLine) -> None:
    added = cli.process("import", "add", "project/repo", URL, "--json")
    assert (added.returncode, json.loads(added.stdout)["id"]) == (0, 1)
    refused = cli.process("import", "add", "other", URL)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("code-import: ")
    assert cli.process("import", "add").returncode == 2
    assert cli.process("job", "get", "404").returncode == 3


def test_bytes_that_are_not_text_are_usage(cli: CommandLine) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "code_import", "import", "show", b"\xff"],
        env={**os.environ, **cli.environment},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1)


def test_a_database_out_of_reach_or_without_the_schema_is_4(
    cli: CommandLine, empty_dsn: str
) -> None:
    bare = cli.process("import", "list", "--dsn", empty_dsn)
    assert (bare.returncode, bare.stdout) == (4, "")
    assert "code-import install" in bare.stderr
    calls = cli.process("job", "claim", "build1", "--dsn", empty_dsn)
    assert (calls.returncode, "code-import install" in calls.stderr) == (4, True)
    assert cli.process("import", "list", "--dsn", "host=127.0.0.1 port=1").returncode == 4
    assert cli.process("import", "list", "--dsn", "nonsense").returncode == 2


def test_a_database_out_of_reach_that_the_environment_chose_says_so(cli: CommandLine) -> None:
    lost = subprocess.run(
        [sys.executable, "-m", "code_import", "import", "list"],
        env={**os.environ, "CODE_IMPORT_DSN": "", "PGHOST": "127.0.0.1", "PGPORT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert lost.returncode == 4
    assert "chosen by PGHOST=127.0.0.1, PGPORT=1 in the environment" in lost.stderr


def test_an_older_schema_is_told_from_none(cli: CommandLine, conn: psycopg.Connection[Any]) -> None:
    conn.execute("drop function vcs.code_import_tidy_up()")
    old = cli.process("tidy-up")
    assert (old.returncode, "another version" in old.stderr) == (4, True)


def test_a_role_without_the_right_is_told_which_roles_there_are(cli: CommandLine) -> None:
    refused = cli.process("tidy-up", "--dsn", cli.dsn + " user=tester_reader")
    assert refused.returncode == 1
    assert "42501" in refused.stderr
    assert "code_import_operator" in refused.stderr or "_operator" in refused.stderr


def test_nothing_is_said_when_the_reader_goes_away(cli: CommandLine, client: Client) -> None:
    client.new_many(
        [
            {"target": f"t{n}", "rcs_type": "git", "url": f"https://example.org/{n}.git"}
            for n in range(2000)
        ],
        "alice",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "code_import", "import", "list", "--limit", "2000", "--json"],
        env={**os.environ, **cli.environment, "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("arguments", [["api"], ["api", "--json"], ["sql"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_takes_no_more_is_told_in_a_line(
    cli: CommandLine, arguments: list[str], unbuffered: str
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "code_import", *arguments],
            env={**os.environ, **cli.environment, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 74
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        ("<&-", ["uninstall"], 2),
        (">&-", ["api"], 0),
        ("2>&-", ["import", "show", "nowhere"], 1),
        ("<&- >&- 2>&-", ["api"], 0),
    ],
)
def test_a_closed_stream_is_as_an_empty_one(
    cli: CommandLine, closed: str, arguments: list[str], code: int
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "code_import", *arguments],
        env={**os.environ, **cli.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (code, False)


@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals_that_want_it(
    cli: CommandLine, variables: dict[str, str], coloured: bool
) -> None:
    cli("import", "add", "project/repo", URL, "--status", "suspended")
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLORTERM")
    environment = {key: value for key, value in os.environ.items() if key not in unwanted}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "code_import", "import", "list"],
        env={**environment, "TERM": "xterm", **cli.environment, **variables},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        try:
            while part := os.read(ours, 4096):
                printed += part
        except OSError:
            pass  # how a terminal ends
        os.close(ours)
    assert process.returncode == 0
    assert b"project/repo" in printed
    assert (b"\x1b[3" in printed) == coloured
    assert "\x1b" not in cli.process("import", "list").stdout


@pytest.mark.parametrize("words", [(), ("import",), ("server",)])
def test_a_noun_without_a_verb_is_answered_with_its_help(
    cli: CommandLine, words: tuple[str, ...]
) -> None:
    said = cli.refused(*words, code=2)
    assert said == cli(*words, "--help")
    told = json.loads(cli.refused(*words, "--json", code=2))
    assert told == {
        "error": "Missing command.",
        "hint": " ".join(("code-import", *words, "--help")),
    }


@pytest.mark.parametrize("words", [("sql",), ("completion", "bash")])
def test_a_whole_file_is_a_string_for_programs(cli: CommandLine, words: tuple[str, ...]) -> None:
    assert cli.json(*words) == cli(*words)


def test_help_is_there_before_the_database_client_is_loaded() -> None:
    program = (
        "import sys\n"
        "from code_import.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "sys.exit('psycopg' in sys.modules or 'rich' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0
    assert "Exit codes" in ended.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_words(cli: CommandLine, shell: str) -> None:
    assert "code-import" in cli("completion", shell)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("code-import im", {"import"}),
        ("code-import import s", {"set-url", "show", "suspend"}),
        ("code-import job finish 7 failure_r", {"failure_remote_broken"}),
        ("code-import import list --st", {"--status"}),
    ],
)
def test_completion_knows_commands_values_and_options(words: str, expected: set[str]) -> None:
    variables = {
        "_CODE_IMPORT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "code_import"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == expected


def test_every_command_is_run_in_this_file() -> None:
    run = set()
    for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] == "cli":
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            run.add(tuple(words[:2]))
            run.add(tuple(words[:1]))
    missing = set()
    for noun in ("import", "job", "machine", "event", "result", "log-file", "settings"):
        group = main.get_command(click.Context(main), noun)
        assert isinstance(group, click.Group)
        missing |= {(noun, verb) for verb in group.commands} - run
    assert not missing
    assert all(isinstance(main.get_command(click.Context(main), word), Command) and (word,) in run
               for word in ("api", "tidy-up", "completion"))  # fmt: skip


# --- limits of runs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "size"),
    [("4096", 4096), ("2k", 2048), ("1.5 MiB", 3 << 19), ("20GB", 20 << 30), ("1TiB", 1 << 40)],
)
def test_a_size_has_a_unit_or_is_of_bytes(given: str, size: int) -> None:
    assert read_size(given) == size


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--memory-limit", "0", "is no size"),
        ("--memory-limit", "-1G", "is no size"),
        ("--write-limit", "much", "is no size"),
        ("--write-limit", "5 PiB", "is no size"),
        ("--process-limit", "0", "x>=1"),
        ("--ref-limit", "none", "not a valid integer"),
        ("--sandbox", "on", "is not one of"),
    ],
)
@pytest.mark.parametrize("command", [("worker", "--check"), ("mirror", "now", ".")], ids=" ".join)
def test_a_limit_that_is_none_is_refused(
    command: tuple[str, ...], option: str, value: str, words: str
) -> None:
    said = CliRunner().invoke(main, [*command, option, value])
    assert said.exit_code == 2
    assert words in " ".join(said.stderr.split())
