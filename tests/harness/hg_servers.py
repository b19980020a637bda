"""Mercurial repositories, made by its own command, and ``hg serve`` on the loopback."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import debian
from .git_servers import free_port, is_answering
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def need_hg() -> str | None:
    """None when Mercurial can be tried here; else one line that says why not."""
    try:
        debian.need(["hg"], "mercurial")
    except debian.NotToBeHad as error:
        return str(error)
    return None


@dataclass(slots=True)
class Mercurial:
    """A repository with a working copy."""

    path: Path
    count: int = 0

    @classmethod
    def create(cls, path: Path) -> Mercurial:
        """Make an empty one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        made = cls(path)
        subprocess.run(["hg", "init", path], env=made._environment(), check=True)
        return made

    def hg(self, *args: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["hg", "-R", self.path, *args], env=self._environment(), cwd=self.path,
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message: str = "", **files: str | None) -> str:
        """Commit files, removing those that are None; returns the changeset."""
        self.count += 1
        files = files or {"file": f"{self.count}\n"}
        for name, content in files.items():
            file = self.path / name.replace("__", "/")
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        self.hg("addremove", "-q")
        self.hg("commit", "-m", message or f"change {self.count}", "-d", f"{self.count} -7200",
                "-u", "Ada <ada@example.org>")  # fmt: skip
        return self.hg("id", "-i", "--debug", "-r", ".")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HGRCPATH": "", "HGPLAIN": "1", "HGENCODING": "utf-8"}


@contextmanager
def serve_hg(path: Path) -> Iterator[str]:
    """Serve a repository; gives its url."""
    port = free_port()
    server = subprocess.Popen(
        ["hg", "-R", path, "serve", "--address", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HGRCPATH": "", "HGPLAIN": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: is_answering(port), what="hg serve answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
