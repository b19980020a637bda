"""Bazaar: mirror a branch and its tags.

Bazaar's own library reads the branch, in a program of its own (``bzr_driver.py``) under whichever
Python has it. Each url that this program comes to, be it a branch reference or the branch that
another one is stacked on, is asked for here, and goes through the gate.

A Bazaar branch has a place and no name; in the mirror it is ``main``.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from code_import.importers import Source
from code_import.mirror import Store
from code_import.policy import DEFAULT_PORTS, Forbidden
from code_import.refs import BRANCHES, TAGS, Refs

from .converted import Converted, convert, own_repository, tidy
from .gate import Gate
from .gittool import Git
from .process import ToolFailed, ToolTooSlow, closed_environment, converse
from .refnames import name_refs
from .update import Ended, conclude, look_at

if TYPE_CHECKING:
    from code_import.importers import Outcome, Run
    from code_import.mirror import Workspace

    from .update import Log

BRANCH = f"{BRANCHES}main"
RUN_SECONDS = 300.0
"""After so many seconds a run ends with what it has, and the next one goes on."""
FIRST_STEP = 500
"""Revisions that are read in the first step; later ones follow the pace."""
SILENCE = 600.0
"""Seconds without a sign of progress after which the server counts as stalled."""

_DRIVER = Path(__file__).with_name("bzr_driver.py")
_HAS_BREEZY = "import breezy; print(breezy.__version__)"


def run_import(run: Run) -> Outcome:
    """Bring the mirror of ``run.target`` up to date with its source.

    Returns how it went, failures of the source included. Raises RunLost when the run has ended
    without us, before anything was published.
    """
    return conclude(run, lambda run, log: convert(run, log, _convert))


def missing_tools() -> str | None:
    """None when a Python that has breezy is here, and git; else one line that says what is not."""
    if shutil.which("git") is None:
        return "git is not installed"
    if _python() is None:
        return "breezy (Debian's brz, or breezy from PyPI) is not installed"
    return None


@functools.cache
def _python() -> str | None:
    """A Python that has breezy: our own, or the system's."""
    spec = importlib.util.find_spec("breezy")
    if spec is not None and spec.origin is not None:  # Any folder of that name has a spec.
        return sys.executable
    for python in ("/usr/bin/python3", shutil.which("python3")):
        if python is not None and os.access(python, os.X_OK):
            asked = [python, "-I", "-c", _HAS_BREEZY]
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                return python
    return None


def _convert(run: Run, log: Log, work: Workspace) -> Converted:
    run.policy.check(run.source)
    with Gate(run.policy, log) as gate:
        reading = _Reading(run, log, work, gate)
        found = reading.read()
        if found.get("outdated"):
            log("Revisions that were missing have come: the conversion starts anew.")
            work.clear()
            found = reading.read()
    if "moved" in found:
        raise Ended(
            "failure_invalid",
            f"The branch has moved to {found['moved']}. To import it from there:"
            f" code-import import set-url {run.target} {shlex.quote(found['moved'])}",
        )
    if "status" in found:
        look_at(gate)
        raise Ended(found["status"], found["summary"])
    tidy(work, reading.git, reading.repository)
    return _converted(reading.repository, found)


def _converted(repository: Path, found: dict[str, Any]) -> Converted:
    tags, unnamed = name_refs(TAGS, found["tags"])
    left_out = [f"the tag {name}: its revision is not there" for name in found["absent"]]
    left_out += [f"the tag {name}: git cannot have it beside the others" for name in unnamed]
    left_out += [f"{path}: git has no such names" for path in found["left_out"]]
    values = tags if found["tip"] is None else {BRANCH: found["tip"], **tags}
    return Converted(
        repository,
        Refs(values, BRANCH if BRANCH in values else None),
        f"up to revision {found['number']:,} of {found['length']:,}",
        found["number"] < found["length"],
        left_out,
    )


@dataclass(slots=True)
class _Reading:
    """The driver at work in a workspace."""

    run: Run
    log: Log
    work: Workspace
    gate: Gate
    repository: Path = field(init=False)
    _found: dict[str, Any] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        """Let the driver go on, and return its last word."""
        self._found = {}
        self.repository = own_repository(self.work, self.git)
        python = _python()
        if python is None:
            raise Ended("internal_failure", missing_tools() or "")
        try:
            finished = converse(
                [python, "-I", str(_DRIVER)],
                env=self._environment(),
                cwd=self.work.folder,
                question=json.dumps(self._request()).encode(),
                answer=self._answer,
                log=self.log,
                keep_open=(self.work.fd,),
                silence=SILENCE,
            )
        except ToolTooSlow:
            raise Ended("failure", f"The server has stalled: no news in {SILENCE:.0f} s.") from None
        if finished.code != 0 or not self._found:
            raise ToolFailed("reading the branch", finished)
        return self._found

    @property
    def git(self) -> Git:
        return Git(Store(self.run.store), "file")

    def _request(self) -> dict[str, Any]:
        login = self.run.login
        return {
            "url": self.run.source.url,
            "folder": str(self.work.folder),
            "seconds": RUN_SECONDS,
            "step": FIRST_STEP,
            "login": login and {
                "host": login.host, "username": login.username, "password": login.password
            },
            "git": [
                "git", f"--git-dir={self.repository}", "-c", "fastimport.unpackLimit=1",
                "-c", "core.bigFileThreshold=1m",
            ],
        }  # fmt: skip

    def _answer(self, line: bytes) -> bytes | None:
        said = json.loads(line)
        if "ask" not in said:
            self._found = said
            return None
        try:
            return json.dumps({"url": self._place(said["ask"])}).encode()
        except Forbidden as refusal:
            return json.dumps({"refused": f"Refused by this worker's policy: {refusal}"}).encode()

    def _place(self, url: str) -> str:
        """Where a url that the driver has come to is reached. Raises Forbidden."""
        checked = self.run.policy.check(Source("bzr", url))
        parts = urlsplit(checked)
        if parts.scheme != "bzr":
            return checked
        host, port = self.gate.forward(parts.hostname or "", parts.port or DEFAULT_PORTS["bzr"])
        return f"bzr://{host}:{port}{parts.path}"

    def _environment(self) -> dict[str, str]:
        home = self.work.home
        return closed_environment(
            home,
            **self.gate.environment(),
            BRZ_HOME=str(home),
            BRZ_LOG=os.devnull,
            BRZ_EMAIL="nobody",
            GIT_CONFIG_GLOBAL=os.devnull,
            GIT_CONFIG_NOSYSTEM="1",
        )
