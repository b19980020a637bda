"""The worker: takes due imports from the database and runs each in a process group of its own."""

from __future__ import annotations

from .engine import Options, Watcher, Worker
from .lock import Held
from .work import Claims, Found, Work

__all__ = ["Claims", "Found", "Held", "Options", "Watcher", "Work", "Worker"]
