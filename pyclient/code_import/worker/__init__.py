"""The worker: takes due imports from the database and runs each in a process group of its own."""

from __future__ import annotations

from .engine import CannotStart, Options, Watcher, Worker
from .lock import Held
from .runs import start_forkserver
from .work import Claims, Found, Work

__all__ = [
    "CannotStart",
    "Claims",
    "Found",
    "Held",
    "Options",
    "Watcher",
    "Work",
    "Worker",
    "start_forkserver",
]
