"""What becomes of mirrors over time: the journal, what is held, decisions, and the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from code_import.client import Client
from code_import.reading import held_refs, mirrors, ref_changes
from code_import.refs import FEW_COMMITS
from harness.worlds import Repository, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "code_import")


@dataclass(slots=True)
class Farm:
    """One source, its import, and the command that runs it."""

    dsn: str
    store: Path
    source: Repository
    conn: psycopg.Connection[Any]
    code_import_id: int = 0

    @property
    def mirror(self) -> Repository:
        return Repository(self.store / "source.git")

    @property
    def client(self) -> Client:
        return Client(self.conn)

    def call(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Call the command; returns what it prints, and what it says."""
        done = subprocess.run(
            [*COMMAND, "--dsn", self.dsn, *words],
            env={**os.environ, "CODE_IMPORT_STORE": str(self.store), "COLUMNS": "80"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    def run(self) -> str:
        """Have the import run, and return how that went."""
        done = subprocess.run(
            [*COMMAND, "--dsn", self.dsn, "mirror", str(self.source.path), "--json"],
            env={**os.environ, "CODE_IMPORT_STORE": str(self.store)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        [told] = json.loads(done.stdout)
        row = self.conn.execute("select id from vcs.code_import").fetchone()
        assert row is not None, told
        self.code_import_id = row[0]
        newest = "select status from vcs.code_import_result order by id desc limit 1"
        status = self.conn.execute(newest).fetchone()
        assert status is not None, done.stderr
        return str(status[0])

    def held(self) -> dict[str, str | None]:
        return {each.ref: each.decision for each in held_refs(self.conn, self.code_import_id)}


@pytest.fixture
def farm(dsn: str, conn: psycopg.Connection[Any]) -> Iterator[Farm]:
    """A source with a history that is worth something, mirrored once."""
    with new_world() as world:
        source = world.new_source()
        for _ in range(FEW_COMMITS + 2):
            source.commit()
        source.commit("dev")
        made = Farm(dsn, world.store, source, conn)
        assert made.run() == "success"
        yield made


def test_the_database_knows_what_has_become_of_refs(farm: Farm) -> None:
    first = ref_changes(farm.conn, farm.code_import_id)
    assert {(each.ref, each.kind) for each in first} == {
        ("refs/heads/main", "new"), ("refs/heads/dev", "new"), ("HEAD", "new"),
    }  # fmt: skip
    old = farm.source.git("rev-parse", "dev")
    new = farm.source.commit()
    farm.source.delete("refs/heads/dev")
    assert farm.run() == "success"
    deleted, updated = sorted(
        ref_changes(farm.conn, farm.code_import_id, limit=2), key=lambda each: each.kind
    )
    assert (deleted.kind, deleted.ref, deleted.old_value) == ("deleted", "refs/heads/dev", old)
    assert (updated.kind, updated.ref, updated.new_value) == ("updated", "refs/heads/main", new)
    [mirror] = mirrors(farm.conn)
    assert mirror.job_id == deleted.job_id == updated.job_id
    assert farm.run() == "success_nochange"
    assert len(ref_changes(farm.conn, farm.code_import_id)) == 5
    out, _ = farm.call("mirror", "changes", "source", "--ref", "refs/heads/dev")
    assert out.split()[:5] == ["ID", "WHEN", "RUN", "KIND", "REF"]
    assert max(map(len, out.splitlines())) <= 80
    was_and_is = [line.split()[-2:] for line in out.splitlines()[1:]]
    assert was_and_is == [[old[:12], "-"], ["-", old[:12]]]


def test_what_a_worker_could_not_tell_is_told_later(farm: Farm) -> None:
    farm.conn.execute("delete from vcs._code_import_ref_change")
    farm.conn.execute("update vcs._code_import_mirror set job_id = null")
    assert farm.run() == "success_nochange"
    assert len(ref_changes(farm.conn, farm.code_import_id)) == 3


def test_a_history_written_anew_is_held_and_then_accepted(farm: Farm) -> None:
    before = farm.mirror.git("rev-parse", "main")
    farm.source.commit(parent="")
    farm.source.set("refs/heads/fine")
    assert farm.run() == "failure_remote_broken"
    assert farm.held() == {"refs/heads/main": None}
    assert farm.mirror.git("rev-parse", "main") == before
    assert "refs/heads/fine" in farm.mirror.names()
    out, _ = farm.call("mirror", "held", "source")
    assert "rewritten  refs/heads/main" in out
    out, _ = farm.call("mirror", "list", "--held")
    assert out.splitlines()[1].split()[:2] == ["source", "1"]
    out, _ = farm.call("mirror", "accept", "source")
    assert out == "1 ref is accepted: the next run publishes it\n"
    assert farm.run() == "success"
    assert farm.held() == {}
    assert farm.mirror.refs("refs/heads") == farm.source.refs("refs/heads")
    assert farm.mirror.refs("refs/keep")[0].startswith(before)
    _, err = farm.call("mirror", "accept", "source", code=1)
    assert "no ref of code import" in err


def test_what_is_accepted_is_what_was_seen(farm: Farm) -> None:
    farm.source.commit(parent="")
    farm.run()
    farm.client.mirror_accept(farm.code_import_id, "bob")
    farm.source.commit(parent="")
    assert farm.run() == "failure_remote_broken"
    assert farm.held() == {"refs/heads/main": None}


def test_what_is_kept_stays_while_the_rest_goes_on(farm: Farm) -> None:
    before = farm.mirror.git("rev-parse", "main")
    farm.source.commit(parent="")
    farm.run()
    farm.call("mirror", "keep", "source", "refs/heads/main")
    assert farm.run() == "success_nochange"
    farm.source.commit()
    new = farm.source.commit("dev")
    assert farm.run() == "success"
    assert farm.held() == {"refs/heads/main": "keep"}
    assert farm.mirror.git("rev-parse", "main") == before
    assert farm.mirror.git("rev-parse", "dev") == new
    farm.client.mirror_accept(farm.code_import_id, "bob")
    assert farm.run() == "success"
    assert farm.mirror.refs("refs/heads") == farm.source.refs("refs/heads")


def test_a_mirror_has_its_own_limit(farm: Farm) -> None:
    out, _ = farm.call("mirror", "set-maximum-loss", "source", "0")
    assert out == "source may lose 0 % in a run\n"
    farm.source.commit("dev", parent="main~1")
    assert farm.run() == "failure_remote_broken"
    farm.call("mirror", "set-maximum-loss", "source", "default")
    assert farm.run() == "success"
    _, err = farm.call("mirror", "set-maximum-loss", "source", "some", code=2)
    assert "a whole number or default" in err


def test_a_mirror_is_read_as_a_whole_when_it_is_due(farm: Farm) -> None:
    farm.client.configure("verification_interval", "1 microsecond", "tester")
    assert farm.run() == "success_nochange"
    [mirror] = mirrors(farm.conn)
    assert mirror.date_verified is not None
    assert mirror.damage is None
    [pack] = (farm.mirror.path / "objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(data)
    assert farm.run() == "success"
    [mirror] = mirrors(farm.conn, damaged=True)
    assert mirror.damage
    assert farm.mirror.refs("refs/heads") == farm.source.refs("refs/heads")
    assert farm.run() == "success_nochange"
    assert mirrors(farm.conn, damaged=True) == []


# --- the way back ------------------------------------------------------------------------------


def _pass_an_hour(farm: Farm) -> None:
    """Let the journal be an hour older."""
    farm.conn.execute(
        "update vcs._code_import_ref_change set date_created = date_created - interval '1 hour'"
    )


def test_a_mirror_is_restored_as_it_was(farm: Farm) -> None:
    before = farm.mirror.refs("refs/heads", "refs/tags")
    _pass_an_hour(farm)
    farm.source.git("symbolic-ref", "HEAD", "refs/heads/new")
    farm.source.commit("new")
    farm.source.commit("main", parent="main~1")
    farm.source.delete("refs/heads/dev")
    assert farm.run() == "success"
    after = farm.mirror.refs("refs/heads")
    out, _ = farm.call("mirror", "restore", "source", "--as-of", "now", code=3)
    assert out == ""
    when = farm.conn.execute("select (now() - interval '30 min')::text").fetchone()
    assert when is not None
    out, _ = farm.call("mirror", "restore", "source", "--as-of", when[0], "--dry-run")
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        "HEAD", "refs/heads/dev", "refs/heads/main", "refs/heads/new",
    ]  # fmt: skip
    assert farm.mirror.refs("refs/heads") == after
    _, err = farm.call("mirror", "restore", "source", "--as-of", when[0], code=2)
    assert "say --yes" in err
    out, _ = farm.call("mirror", "restore", "source", "--as-of", when[0], "--yes")
    assert out.splitlines()[-1] == "source is restored, and its import suspended"
    assert farm.mirror.refs("refs/heads", "refs/tags") == before
    assert farm.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    farm.mirror.git("fsck", "--strict")
    assert len(farm.mirror.names("refs/keep")) == 4
    kinds = [each.kind for each in ref_changes(farm.conn, farm.code_import_id, limit=4)]
    assert kinds == ["restored"] * 4
    # Back to what it was before it was restored; and then to its source again.
    _pass_an_hour(farm)
    farm.call("mirror", "restore", "source", "--as-of", when[0], "--yes", code=3)
    farm.client.update(farm.code_import_id, {"review_status": "reviewed"}, "tester")
    assert farm.run() == "success"
    assert farm.mirror.refs("refs/heads") == farm.source.refs("refs/heads")


def test_a_mirror_that_is_not_what_the_journal_says_is_left_alone(farm: Farm) -> None:
    _pass_an_hour(farm)
    farm.source.commit("dev")
    farm.run()
    farm.mirror.git("update-ref", "refs/heads/dev", "main")
    before = farm.mirror.refs()
    when = farm.conn.execute("select (now() - interval '30 min')::text").fetchone()
    assert when is not None
    _, err = farm.call("mirror", "restore", "source", "--as-of", when[0], "--yes", code=1)
    assert "refs/heads/dev is at" in err
    assert farm.mirror.refs() == before
    row = farm.conn.execute("select review_status from vcs.code_import").fetchone()
    assert row == ("reviewed",)
    assert all(each.kind != "restored" for each in ref_changes(farm.conn, farm.code_import_id))


def test_before_the_first_run_there_was_no_mirror(farm: Farm) -> None:
    when = farm.conn.execute("select (now() - interval '1 day')::text").fetchone()
    assert when is not None
    _, err = farm.call("mirror", "restore", "source", "--as-of", when[0], "--yes", code=1)
    assert "there was no mirror of source" in err
    _, err = farm.call("mirror", "restore", "source", "--as-of", "soon", "--yes", code=1)
    assert "invalid input syntax" in err


def test_no_run_starts_while_a_mirror_is_restored(farm: Farm) -> None:
    farm.client.request(farm.code_import_id, "tester")
    with farm.conn.transaction():
        farm.client.mirror_restore(farm.code_import_id, [], "tester")
        with psycopg.connect(farm.dsn, autocommit=True) as other:
            claimed = Client(other).job_claim("m", 1, 1)
    assert claimed == []
