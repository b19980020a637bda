"""Where an importer is tried without a database: a store, sources, and runs between them."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_import.importers import Outcome, Run, Source, git
from code_import.importers.process import confined
from code_import.importers.sandbox import find_sandbox, sandbox_of
from code_import.journal import Journal
from code_import.mirror import Store
from code_import.policy import Policy, allow_path

from . import debian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = "project/repo"


@functools.cache
def sandbox_program() -> str | None:
    """What confines the tools of runs, where it works."""
    with contextlib.suppress(debian.NotToBeHad):
        debian.need(["bwrap"], "bubblewrap")
    return find_sandbox().program


def need_sandbox() -> str:
    """The same; a test that is about it is skipped where there is none."""
    program = sandbox_program()
    if program is None:
        import pytest

        pytest.skip(f"no sandbox: {find_sandbox().words}")
    return program


@dataclass(slots=True)
class Repository:
    """A source."""

    path: Path

    def git(self, *args: str, text: str = "") -> str:
        done = subprocess.run(
            ["git", f"--git-dir={self.path}", *args],
            input=text.encode("utf-8", "surrogateescape"), capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, branch: str = "main", content: str = "", *, parent: str | None = None) -> str:
        """Put a commit with one file on top of a branch, or of another parent ("" for none)."""
        ref = f"refs/heads/{branch}"
        if parent is None:
            parent = self.git("for-each-ref", "--format=%(objectname)", ref)
        blob = self.git("hash-object", "-w", "--stdin", text=content or str(random.random()))
        tree = self.git("mktree", text=f"100644 blob {blob}\tfile")
        parents = ["-p", parent] if parent else []
        made = self.git("commit-tree", "-m", f"on {branch}", *parents, tree)
        self.git("update-ref", ref, made)
        return made

    def set(self, ref: str, value: str = "main") -> None:
        self.git("update-ref", ref, value)

    def delete(self, *refs: str) -> None:
        for ref in refs:
            self.git("update-ref", "-d", ref)

    def refs(self, *patterns: str) -> list[str]:
        return self.git("for-each-ref", "--format=%(objectname) %(refname)", *patterns).split("\n")

    def names(self, *patterns: str) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname)", *patterns).split()


@dataclass(slots=True)
class World:
    """A store, a folder of sources, and who runs imports between them."""

    root: Path
    policy: Policy
    importer: Any = git
    log: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def mirror(self) -> Repository:
        return Repository(self.store / f"{TARGET}.git")

    def run(
        self,
        job_id: int,
        source: str | Source,
        *,
        target: str = TARGET,
        code_import_id: int = 1,
        confirm: Callable[[], None] = lambda: None,
        log: Callable[[str], None] | None = None,
        **more: Any,
    ) -> Outcome:
        if isinstance(source, str):
            rcs_type = self.importer.__name__.rpartition(".")[2]
            source = Source(rcs_type, source)
        run = Run(
            job_id, code_import_id, target, source, self.store,
            log or self.log.append, confirm, self.policy, **more,
        )  # fmt: skip
        with confined(sandbox_of(run, sandbox_program())):
            outcome: Outcome = self.importer.run_import(run)
        return outcome

    def journal(self, code_import_id: int = 1) -> Journal:
        return Journal.read(Store(self.store).journal(code_import_id))

    def new_source(self, name: str = "source", *options: str) -> Repository:
        path = self.root / "sources" / f"{name}.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", *options, path], check=True)
        return Repository(path)


@contextlib.contextmanager
def new_world(importer: Any = git) -> Iterator[World]:
    """In memory where there is room: git makes sure of every write, and disks are slow."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="code-import-", dir=place) as folder:
        root = Path(folder).resolve()
        allow_path(root, config_dir=root / "config")
        policy = Policy.load(allow_hosts=["127.0.0.1"], config_dir=root / "config")
        yield World(root, policy, importer)
