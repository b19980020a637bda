"""The processes below a run, in whatever sessions and groups they have put themselves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PASSES = 1_000

_PR_SET_CHILD_SUBREAPER = 36


def keep_orphans() -> None:
    """Have what our processes leave behind become ours, so that nothing gets away."""
    with contextlib.suppress(OSError, AttributeError):  # Only Linux has it.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> set[int]:
    """All processes below one, the dead that nobody has waited for included."""
    found: set[int] = set()
    unseen = [pid]
    while unseen:
        children = set(_children(unseen.pop())) - found
        found |= children
        unseen += children
    return found


def kill_descendants(pid: int) -> None:
    """Kill them all, also those that come into being meanwhile."""
    killed: set[int] = set()
    for _ in range(MOST_PASSES):
        left = descendants(pid) - killed
        if not left:
            return
        for each in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        killed |= left


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  Names, not paths.
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                yield from map(int, file.read().split())
