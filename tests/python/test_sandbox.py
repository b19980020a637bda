"""What tools may see and write, and what is left of them when whoever started them is gone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from code_import.importers import process
from code_import.importers import sandbox as sandbox_module
from code_import.importers.sandbox import Sandbox, find_sandbox, source_places
from code_import.limits import Limits
from code_import.mirror import Store
from code_import.worker.watch import disk_use
from harness.waiting import eventually
from harness.worlds import World, need_sandbox, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {"PATH": os.defpath, "HOME": "/nonexistent"}
NOBODY = 65534


@pytest.fixture
def program() -> str:
    """Bubblewrap, where it works."""
    return need_sandbox()


@pytest.fixture
def world() -> Iterator[World]:
    """A store and a folder of sources."""
    with new_world() as made:
        yield made


def owned(folder: Path, user: int) -> Path:
    """A new folder that a user may write to."""
    folder.mkdir()
    os.chown(folder, user, user)
    return folder


@pytest.mark.parametrize("user", [os.geteuid(), pytest.param(NOBODY, id="nobody")])
def test_a_tool_writes_to_its_own_alone(
    program: str, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() not in (0, user):
        pytest.skip("only root can become somebody else")
    for prefix in ("prefix", "base_prefix"):  # Others may not be let into our own.
        monkeypatch.setattr(sys, prefix, "/usr")
    monkeypatch.setattr(sandbox_module, "_system", sandbox_module._system.__wrapped__)
    with new_world() as world:
        world.root.chmod(0o755)
        own, seen, changed, other = (
            owned(world.root / name, user) for name in ("own", "seen", "changed", "other")
        )
        sandbox = Sandbox(program, [world.root / "absent", own], [seen])
        script = "for each in own seen changed other .; do touch $each/new; done; ls; exit 0"
        said = subprocess.run(
            sandbox.command(["sh", "-c", script], world.root, [changed]),
            env=ENVIRONMENT, user=user, group=user, extra_groups=[], cwd="/",
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout.split() == ["changed", "own", "seen"]
        assert {path.parent.name for path in world.root.glob("*/new")} == {"own", "changed"}
        assert not (world.root / "new").exists()
        assert not list(other.iterdir())


def test_temporary_files_are_the_runs_own(world: World) -> None:
    """Sandbox or not: what a run leaves in a temporary folder counts, and goes with its places."""
    for own in (world.root / "stage", world.root / "work"):
        own.mkdir()
        for program in {find_sandbox().program, None}:
            sandbox = Sandbox(program, [world.root / "stage", world.root / "work"])
            with process.confined(sandbox):
                said = process.run(["sh", "-c", "echo $TMPDIR"], env=ENVIRONMENT, cwd=world.root)
            assert said.out.decode().strip() == str(world.root / "stage/tmp")


def test_a_workspace_begins_without_temporary_files(world: World) -> None:
    store = Store(world.store)
    for _ in range(2):
        with store.workspace(7, world.log.append) as work:
            assert not (work.folder / "tmp").exists()
            (work.folder / "tmp").mkdir()
            (work.folder / "tmp/large").touch()


def test_a_lock_is_held_by_the_tools_that_inherit_it_and_goes_with_them(
    program: str, world: World
) -> None:
    file = world.root / "lock"
    ours = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(ours, fcntl.LOCK_EX)
    command = Sandbox(program).command(["sh", "-c", "echo ready; sleep 30"], Path("/"), ())
    with subprocess.Popen(
        command, env=ENVIRONMENT, pass_fds=[ours], stdout=subprocess.PIPE
    ) as tool:
        os.close(ours)
        assert tool.stdout is not None
        tool.stdout.readline()
        assert not is_free(file)
        tool.kill()
    eventually(lambda: is_free(file), what="the lock is free")


def is_free(file: Path) -> bool:
    """Whether nobody holds a lock."""
    with file.open() as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


STARTER = """
import sys
from pathlib import Path
from code_import.importers import process
from code_import.importers import sandbox as sandbox_module
from code_import.importers.sandbox import Sandbox
own = Path(sys.argv[2])
with process.confined(Sandbox(sys.argv[1], [own])):
    process.run(["sh", "-c", "setsid sleep 30 & touch started; sleep 30"],
                env={"PATH": "/usr/bin:/bin"}, cwd=own, keep_open=[int(sys.argv[3])])
"""


def test_tools_die_with_whoever_started_them(program: str, world: World) -> None:
    """Also those that have left its group: their lock says that none is left."""
    file = world.root / "lock"
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    starter = subprocess.Popen(
        [sys.executable, "-P", "-c", STARTER, program, str(world.root), str(lock)],
        pass_fds=[lock], start_new_session=True,
    )  # fmt: skip
    os.close(lock)
    eventually((world.root / "started").exists)
    assert not is_free(file)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    eventually(lambda: is_free(file), what="an end of the tools")


def test_a_program_of_ones_own_is_seen_and_what_lies_beside_it_is_not(
    program: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = world.root / "home"
    (home / "bin").mkdir(parents=True)
    (home / "secret").write_text("canary")
    tool = home / "bin/tool-of-mine"
    tool.write_text(f"#!/bin/sh\ncat {home}/secret; ls {home}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    env = process.closed_environment(home)
    with process.confined(Sandbox(program)):
        said = process.run([tool.name], env=env, cwd=world.root)
    assert said.out == b"bin\n"


def test_a_python_below_tmp_is_seen(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool's own /tmp hides what is in ours, but not what the tool needs of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "lib").mkdir()
        (Path(folder) / "lib/module.py").touch()
        (Path(folder) / "secret").touch()
        monkeypatch.setattr(sys, "prefix", folder)
        monkeypatch.setattr(sandbox_module, "_system", sandbox_module._system.__wrapped__)
        with process.confined(Sandbox(program)):
            said = process.run(
                ["sh", "-c", f"ls {folder} {folder}/lib"], env=ENVIRONMENT, cwd=Path("/")
            )
    assert said.out.decode().split() == [f"{folder}:", "lib", f"{folder}/lib:", "module.py"]


@pytest.mark.parametrize("how", ["worktree", "alternates"])
def test_a_source_on_disk_is_seen_with_all_that_it_consists_of(
    program: str, world: World, how: str
) -> None:
    source = world.new_source()
    source.commit()
    place = world.root / "sources/other"
    if how == "worktree":
        source.git("worktree", "add", "-q", str(place), "main")
    else:
        subprocess.run(["git", "clone", "-q", "--bare", "-s", source.path, place], check=True)
    assert world.run(1, f"file://{place}").status == "success"
    assert world.mirror.names("refs/heads") == ["refs/heads/main"]
    assert source.path in source_places(place / ".git" if how == "worktree" else place, "git") or (
        source.path / "objects" in source_places(place, "git")
    )


def test_what_sources_of_other_systems_share_is_part_of_them(tmp_path: Path) -> None:
    for folder in ("bzr/.bzr", "bzr/branch", "svn/db", "hg/share/.hg", "hg/main/.hg"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "svn/format").touch()
    (tmp_path / "hg/share/.hg/sharedpath").write_text(f"{tmp_path}/hg/main/.hg\n")
    shared = {
        ("bzr", "bzr/branch"): "bzr/.bzr",
        ("svn", "svn/trunk"): "svn",
        ("hg", "hg/share"): "hg/main/.hg",
    }
    for (rcs_type, path), more in shared.items():
        assert source_places(tmp_path / path, rcs_type) == [tmp_path / path, tmp_path / more]


def test_a_sandbox_that_is_missing_or_refused_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_sandbox().words == "bubblewrap is not installed"
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: setting up uid map: Permission denied >&2\nexit 1\n")
    broken.chmod(0o755)
    found = find_sandbox()
    assert found.program is None
    assert "uid map: Permission denied" in found.words


def test_a_sandbox_that_breaks_is_our_own_fault(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = world.new_source()
    source.commit()
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: setting up uid map: Permission denied >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("harness.worlds.sandbox_program", lambda: str(broken))
    outcome = world.run(1, f"file://{source.path}")
    assert outcome.status == "internal_failure"
    assert "sandbox" in outcome.summary


# --- what a tool may say -----------------------------------------------------------------------


def test_a_tool_that_says_too_much_is_stopped(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(process.ToolTooLoud):
        process.run(["yes"], env=ENVIRONMENT, cwd=tmp_path, most_output=1 << 20, timeout=60)
    with pytest.raises(process.ToolTooLoud):
        process.run(
            ["sh", "-c", "yes >&2"], env=ENVIRONMENT, cwd=tmp_path, most_output=1 << 20, timeout=60
        )
    assert time.monotonic() - start < 30


def test_a_tool_that_may_say_so_much_is_heard_to_its_end(tmp_path: Path) -> None:
    said = process.run(
        ["sh", "-c", "echo out; echo err >&2; exit 3"],
        env=ENVIRONMENT, cwd=tmp_path, most_output=10,
    )  # fmt: skip
    assert said == process.Finished(3, b"out\n", "err\n")
    with pytest.raises(process.ToolTooSlow):
        process.run(["sleep", "30"], env=ENVIRONMENT, cwd=tmp_path, most_output=10, timeout=0.2)


@pytest.mark.parametrize("count", [6, 7])
def test_a_source_has_as_many_refs_as_a_run_takes(world: World, count: int) -> None:
    """Its branches, tags and others count once each, whatever they lead to."""
    source = world.new_source()
    source.commit()
    source.git("tag", "-a", "-m", "annotated", "v0", "main")
    for number in range(count - 2):
        source.set(f"refs/pull/{number}/head")
    outcome = world.run(1, f"file://{source.path}", limits=Limits(refs=6))
    assert outcome.status == ("success" if count == 6 else "failure")
    assert ("--ref-limit" in outcome.summary) == (count == 7)


def test_a_list_of_refs_is_not_read_beyond_its_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_import.importers.git.LEAST_LISTING", 100)
    source = world.new_source()
    source.commit()
    for number in range(10):
        source.set(f"refs/heads/{number}{'x' * 200}")
    outcome = world.run(1, f"file://{source.path}", limits=Limits(refs=5))
    assert outcome.status == "failure"
    assert "list of refs is longer than 5 of them need" in outcome.summary


def test_disk_use_counts_what_is_there_and_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").write_bytes(b"x" * (1 << 20))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    assert 1 << 20 <= disk_use(tmp_path) < 2 << 20
    assert disk_use(tmp_path / "absent") == 0
