"""Subversion repositories, made with its own tools, and svnserve on the loopback."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .git_servers import free_port, is_answering
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(slots=True)
class Subversion:
    """A repository."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Subversion:
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["svnadmin", "create", "--fs-type=fsfs", path], check=True)
        return cls(path)

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def change(self, *actions: str, message: str = "a change", user: str = "ann") -> int:
        """Make one revision of svnmucc's actions, and return its number."""
        done = subprocess.run(
            [
                "svnmucc", "--non-interactive", f"--username={user}", f"--root-url={self.url}",
                f"--message={message}", "--", *actions,
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout.split()[0].removeprefix("r"))

    def put(self, path: str, content: str, *actions: str, **more: str) -> int:
        """Make one revision that gives a file this content."""
        file = self.path / "put"
        file.write_text(content)
        return self.change(*actions, "put", str(file), path, **more)

    def make_standard(self) -> None:
        """Make the usual folders, and a file."""
        self.put("trunk/file", "one\n", "mkdir", "trunk", "mkdir", "branches", "mkdir", "tags")


@contextmanager
def serve_svn(folder: Path) -> Iterator[str]:
    """Serve over svn:// until the end of the block; gives the url of the folder."""
    port = free_port()
    server = subprocess.Popen(
        [
            "svnserve", "--daemon", "--foreground", "--threads", "--listen-host=127.0.0.1",
            f"--listen-port={port}", f"--root={folder}",
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: is_answering(port), what="svnserve answers")
        yield f"svn://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def grow(source: Subversion, steps: int, start: int = 0) -> None:
    """Let a standard layout live: changes, branches and tags that come, go and come again."""
    for step in range(start, start + steps):
        source.put(
            "trunk/file", f"{step}\n", message=f"step {step}\n\nmore", user=f"user{step % 3}"
        )
        match step % 6:
            case 0:
                source.change("cp", "HEAD", "trunk", f"branches/b{step}")
            case 1:
                source.put(f"branches/b{step - 1}/other", f"{step}\n")
            case 2:
                source.change("cp", "HEAD", f"branches/b{step - 2}", f"tags/t{step}")
            case 3:
                source.change("rm", f"branches/b{step - 3}")
            case 4:
                source.change("cp", str(step), "trunk", f"branches/b{step - 4}")
            case _:
                source.put(f"branches/b{step - 5}/file", f"{step}\n", "rm", f"tags/t{step - 3}")
