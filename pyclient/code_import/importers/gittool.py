"""The git command in a closed environment: nobody's configuration, hooks, prompts or helpers."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from .process import Finished, ToolFailed, closed_environment, run, run_logged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from code_import.mirror import Store

NULL_DEVICE = "/dev/null"

_ALWAYS = (
    "-c", f"core.hooksPath={NULL_DEVICE}",
    "-c", "credential.helper=",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
)  # fmt: skip


def installed_version() -> tuple[int, int] | None:
    """The version of the git that is installed; None when there is none to be found."""
    try:
        said = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"(\d+)\.(\d+)", said)
    return None if found is None else (int(found[1]), int(found[2]))


class Git:
    """Runs git in a store. ``protocol`` is the only one that it may speak with a server."""

    def __init__(
        self, store: Store, protocol: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._cwd = store.root
        self._env = closed_environment(
            store.home,
            GIT_ALLOW_PROTOCOL=protocol,
            GIT_ASKPASS="false",
            GIT_ATTR_NOSYSTEM="1",
            GIT_CONFIG_GLOBAL=NULL_DEVICE,
            GIT_CONFIG_NOSYSTEM="1",
            GIT_DEFAULT_HASH="sha1",
            GIT_DEFAULT_REF_FORMAT="files",
            GIT_NO_LAZY_FETCH="1",
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_SSH_COMMAND="false",
            GIT_TEMPLATE_DIR="",
            GIT_TERMINAL_PROMPT="0",
            **(environment or {}),
        )

    @property
    def environment(self) -> dict[str, str]:
        """All that git sees of our environment, for what starts git by itself."""
        return dict(self._env)

    def __call__(
        self,
        *args: str,
        repository: Path | None = None,
        text: bytes | None = None,
        keep_open: Collection[int] = (),
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        most_output: int | None = None,
    ) -> Finished:
        """Run a git command that says nothing of interest. Raises what :func:`process.run` does,
        and ToolFailed.
        """
        finished = run(
            self._argv(args, repository),
            env={**self._env, **(env or {})},
            cwd=self._cwd,
            text=text,
            keep_open=keep_open,
            timeout=timeout,
            changes=_of(repository),
            most_output=most_output,
        )
        return _checked(args, finished)

    def command(self, *args: str, repository: Path) -> tuple[list[str], dict[str, str]]:
        """What to start, and in which environment, to speak with a git command."""
        return self._argv(args, repository), dict(self._env)

    def succeeds(self, *args: str, repository: Path) -> bool:
        """Whether a git command ends with exit code 0."""
        finished = run(
            self._argv(args, repository), env=self._env, cwd=self._cwd, changes=_of(repository)
        )
        return finished.code == 0

    def logged(
        self,
        *args: str,
        log: Callable[[str], None],
        repository: Path | None = None,
        keep_open: Collection[int] = (),
    ) -> Finished:
        """Run a git command and log what it says. Raises ToolFailed."""
        finished = run_logged(
            self._argv(args, repository),
            env=self._env,
            cwd=self._cwd,
            log=log,
            keep_open=keep_open,
            changes=_of(repository),
        )
        return _checked(args, finished)

    def _argv(self, args: Collection[str], repository: Path | None) -> list[str]:
        where = [] if repository is None else [f"--git-dir={repository}"]
        return ["git", *where, *_ALWAYS, *args]


def _of(repository: Path | None) -> tuple[Path, ...]:
    return () if repository is None else (repository,)


def _checked(args: Collection[str], finished: Finished) -> Finished:
    if finished.code != 0:
        command = next((arg for arg in args if not arg.startswith("-") and "=" not in arg), "")
        raise ToolFailed(f"git {command}", finished)
    return finished
