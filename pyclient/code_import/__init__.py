"""Recurring imports of foreign code repositories into git mirrors; PostgreSQL has the workflow.

    with code_import.connect() as conn:
        client = code_import.Client(conn)
        client.new("me", "project/repo", "git", "https://example.org/project/repo")

The records that a client returns are in :mod:`code_import.models`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client
    from .connection import Database, connect, find
    from .errors import (
        AlreadyRequested,
        AlreadyRunning,
        AlreadyThere,
        BadValue,
        CodeImportError,
        NotAllowed,
        NotFound,
        NotSupported,
        NotYours,
        RunGone,
        WrongState,
    )

__version__ = "0.1.0"

__all__ = [
    "AlreadyRequested",
    "AlreadyRunning",
    "AlreadyThere",
    "BadValue",
    "Client",
    "CodeImportError",
    "Database",
    "NotAllowed",
    "NotFound",
    "NotSupported",
    "NotYours",
    "RunGone",
    "WrongState",
    "connect",
    "find",
]

_MODULES = {"Client": "client", **dict.fromkeys(("Database", "connect", "find"), "connection")}


def __getattr__(name: str) -> object:
    """Load a public name when it is used, so that the command line answers at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES.get(name, 'errors')}", __name__)
    return getattr(module, name)
