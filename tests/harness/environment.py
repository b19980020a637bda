"""The environment that tests run in: nothing of the user's own database, git or editor settings.

Standard library only: ``python3 tests`` uses it before there is a virtual environment.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

_FORGOTTEN = (
    "CODE_IMPORT_CREDENTIAL_KEY_FILE",
    "CODE_IMPORT_DSN",
    "CODE_IMPORT_STORE",
    "DATABASE_URL",
    "PYTHONPATH",
    "PYTHONHOME",
)
_FORGOTTEN_PREFIXES = ("PG", "GIT_", "YOYO_")

_FIXED = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "A Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_COLOR": "1",
}


def scrub(environ: MutableMapping[str, str] = os.environ) -> None:
    """Forget whatever points at a real database or at personal git settings. Safe to repeat."""
    for name in list(environ):
        if name in _FORGOTTEN or name.startswith(_FORGOTTEN_PREFIXES):
            del environ[name]
    environ.update(_FIXED)


def hear_interrupts() -> None:
    """Let the processes of tests be interrupted.

    A shell that starts us in the background has us ignore SIGINT, and our children would too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def use_private_directories(home: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep the user's own embedded server, mirrors and configuration out of the tests' reach.

    The cache stays: what is kept there is only ever a copy of something that can be had again.
    """
    for variable, name in (
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "run"),
    ):
        directory = home / name
        directory.mkdir(parents=True, exist_ok=True, mode=0o700 if name == "run" else 0o755)
        environ[variable] = str(directory)
