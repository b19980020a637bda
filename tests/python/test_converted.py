"""What every conversion does in the end: from a workspace to the mirror, however it went before."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from code_import import mirror as mirror_module
from code_import.importers import Outcome, Run
from code_import.importers.converted import Converted, convert
from code_import.importers.update import Ended, conclude
from code_import.mirror import Store
from code_import.refs import Refs
from harness.worlds import Repository, World, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from code_import.importers.update import Log
    from code_import.mirror import Workspace

URL = "https://example.org/source"


@dataclass(slots=True)
class Imaginary:
    """An importer whose source says what it is told to."""

    repository: Repository
    left_out: list[str] = field(default_factory=list)
    more: bool = False
    refusal: Ended | None = None
    __name__: str = ""

    def __post_init__(self) -> None:
        self.__name__ = "importers.svn"

    def run_import(self, run: Run) -> Outcome:
        return conclude(run, lambda run, log: convert(run, log, self._convert))

    def _convert(self, run: Run, log: Log, work: Workspace) -> Converted:
        if self.refusal is not None:
            raise self.refusal
        lines = self.repository.refs("refs/heads", "refs/tags")
        values = {name: value for value, name in (line.split() for line in lines if line)}
        head = "refs/heads/main" if "refs/heads/main" in values else None
        converted = work.folder / "converted.git"
        shutil.rmtree(converted, ignore_errors=True)
        shutil.copytree(self.repository.path, converted)
        work.remember({"runs": work.recall().get("runs", 0) + 1})
        return Converted(converted, Refs(values, head), "up to r7", self.more, self.left_out)


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as made:
        repository = made.new_source()
        repository.commit()
        repository.git("tag", "light", "main")
        made.importer = Imaginary(repository)
        yield made


def test_a_conversion_becomes_a_mirror(world: World) -> None:
    """Branches, tags and HEAD, and nothing of the stage."""
    outcome = world.run(1, URL)
    assert outcome.status == "success", outcome
    assert outcome.summary == "Mirrored 1 branch and 1 tag. Read up to r7."
    assert world.mirror.refs() == world.importer.repository.refs()
    assert world.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    world.mirror.git("fsck", "--strict")
    assert world.run(2, URL).status == "success_nochange"


def test_it_goes_on(world: World) -> None:
    """What is new comes, also where a name becomes a folder, and the old is kept aside."""
    source: Repository = world.importer.repository
    source.set("refs/heads/dev")
    world.run(1, URL)
    source.delete("refs/heads/dev")
    source.set("refs/heads/dev/sub")
    source.commit()
    outcome = world.run(2, URL)
    assert outcome.status == "success", outcome
    assert outcome.commits == 1
    assert world.mirror.refs("refs/heads", "refs/tags") == source.refs()
    assert world.mirror.names("refs/keep") == ["refs/keep/2/heads/dev"]
    world.mirror.git("fsck", "--strict")


@pytest.mark.parametrize("news", [True, False])
def test_more_to_come_is_a_partial_success(world: World, news: bool) -> None:
    """With or without something new in this run."""
    world.run(1, URL)
    world.importer.more = True
    if news:
        world.importer.repository.commit()
    outcome = world.run(2, URL)
    assert outcome.status == "success_partial"
    assert "More to come" in outcome.summary


def test_what_is_left_out_is_said(world: World) -> None:
    """Each in the log, their number in the summary."""
    world.importer.left_out = ["a branch with no name"]
    assert "Left out: 1 thing." in world.run(1, URL).summary
    assert "Left out: a branch with no name" in world.log


def test_an_emptied_source_empties_no_mirror(world: World) -> None:
    """Not even the last ref goes."""
    world.run(1, URL)
    before = world.mirror.refs()
    world.importer.repository.delete("refs/heads/main", "refs/tags/light")
    assert world.run(2, URL).status == "failure_remote_broken"
    assert world.mirror.refs() == before


def test_an_empty_source_has_an_empty_mirror(world: World) -> None:
    """And is mirrored when it gets something."""
    source: Repository = world.importer.repository
    source.delete("refs/heads/main", "refs/tags/light")
    assert world.run(1, URL).status == "success"
    assert world.run(2, URL).status == "success_nochange"
    source.commit()
    assert world.run(3, URL).status == "success"
    assert world.mirror.refs() == source.refs()


def test_a_damaged_mirror_is_made_anew(world: World) -> None:
    """From the workspace, without a word from the source."""
    world.run(1, URL)
    for file in (world.mirror.path / "objects").rglob("*.pack"):
        file.chmod(0o644)
        file.write_bytes(b"")
    assert world.run(2, URL).status == "success"
    world.mirror.git("fsck", "--strict")
    assert world.mirror.refs() == world.importer.repository.refs()


def test_a_conversion_that_ends_changes_nothing(world: World) -> None:
    """Its status and its words are the run's."""
    world.importer.refusal = Ended("failure_invalid", "There is nothing there.")
    assert world.run(1, URL) == Outcome("failure_invalid", "There is nothing there.")
    assert not world.mirror.path.exists()


def test_one_run_at_a_time_is_in_a_workspace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits, and not for ever."""
    monkeypatch.setattr(mirror_module, "LOCK_WAIT", 0.1)
    with Store(world.store).workspace(1, world.log.append):
        outcome = world.run(1, URL)
        assert outcome.status == "internal_failure"
        assert "workspace" in outcome.summary
        assert world.run(2, URL, code_import_id=2, target="other").status == "success"
    assert world.run(3, URL).status == "success"


def test_a_workspace_remembers_until_it_is_cleared(tmp_path: Path) -> None:
    """And takes a garbled memory for none."""
    with Store(tmp_path).workspace(1, print) as work:
        assert work.recall() == {}
        work.remember({"revision": 7})
        (work.home / "litter").write_text("")
    with Store(tmp_path).workspace(1, print) as work:
        assert work.recall() == {"revision": 7}
        work.clear()
        assert work.recall() == {}
        assert not list(work.home.iterdir())
        (work.folder / "memory.json").write_text("[1")
        assert work.recall() == {}
