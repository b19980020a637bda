"""How a secret is handed to a tool: as a file that nobody else finds, never as words that `ps` or
an environment shows."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file to be named to a tool, which has to inherit ``keep_open`` to open it."""

    path: Path
    keep_open: tuple[int, ...] = ()


@contextmanager
def secret_file(content: str) -> Iterator[SecretFile]:
    """Hold a text in a file until the end of the block.

    On Linux it is in memory, has no name that others could open, and goes with the last process
    that has it, however that ends; elsewhere it lies in a folder of its user's alone.
    """
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("secret"), "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content.encode())
            yield SecretFile(Path(f"/dev/fd/{file.fileno()}"), (file.fileno(),))
    else:
        with tempfile.TemporaryDirectory(prefix="code-import-") as folder:
            path = Path(folder, "secret")
            path.touch(mode=0o600)
            path.write_bytes(content.encode())
            yield SecretFile(path)
