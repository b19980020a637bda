"""What one run may use before it is ended: a bomb ends its own run, and not the machine."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30

_CONTAINER_MEMORY = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def half_of_memory() -> int:
    """Half of the memory that this machine, or the container that we are in, has."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CONTAINER_MEMORY:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit.
            sizes.append(int(file.read_text()))
    return min(sizes) // 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything one run may have, its tools included.

    The defaults leave room for the largest repositories, several of them side by side: they are
    there for what grows without end. A machine whose memory gives out all the same ends runs, and
    nothing else.
    """

    time: float = 86_400
    """Seconds that it may take."""
    silence: float = 3_600
    """Seconds that it may go on without any output."""
    memory: int = field(default_factory=half_of_memory)
    """Bytes of memory, of all its processes together; mapped files, as packs are, do not count."""
    processes: int = 200
    written: int = 20 * GIB
    """Bytes by which its places in the store may grow."""
    refs: int = 1_000_000
    """Refs that its source may have."""


def size_text(size: int) -> str:
    """A number of bytes as people write it."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
