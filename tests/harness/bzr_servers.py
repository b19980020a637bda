"""Bazaar over the loopback: branches made as they are described, and ``brz serve``.

A branch over http needs no more than a server of files: :func:`harness.git_servers.serve_http`.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from code_import.importers import bzr

from . import debian
from .git_servers import free_port, is_answering
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUILDER = Path(__file__).with_name("bzr_builder.py")


def need_bzr() -> str | None:
    """None when Bazaar can be tried here; else one line that says why not."""
    try:
        debian.need(["brz"], "brz")
    except debian.NotToBeHad as error:
        return str(error)
    bzr._python.cache_clear()
    return bzr.missing_tools()


@dataclass(slots=True)
class Branch:
    """A Bazaar branch on disk."""

    path: Path
    format: str = "2a"
    count: int = field(default=0)

    def build(
        self,
        revisions: list[dict[str, Any]],
        tip: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Add revisions in one go, move the branch, and set tags."""
        told = {
            "path": str(self.path), "format": self.format, "revisions": revisions,
            "tip": tip, "tags": tags or {},
        }  # fmt: skip
        python = bzr._python()
        assert python is not None
        _run([python, "-I", str(_BUILDER)], self.path.parent, json.dumps(told))

    def grow(self, number: int = 1) -> None:
        """Add revisions r1, r2, … each of which changes the same file."""
        revisions = []
        for _ in range(number):
            self.count += 1
            parents = [f"r{self.count - 1}"] if self.count > 1 else []
            revisions.append({"id": f"r{self.count}", "parents": parents,
                              "actions": self._change()})  # fmt: skip
        self.build(revisions, f"r{self.count}")

    def brz(self, *args: str) -> str:
        """Run a brz command in the branch."""
        return brz(self.path, *args)

    def _change(self) -> list[tuple[str, Any]]:
        content = f"{self.count}\n"
        if self.count > 1:
            return [("modify", ["file", content])]
        return [("add", ["", "root", "directory", None]), ("add", ["file", "id", "file", content])]


def brz(folder: Path, *args: str) -> str:
    """Run a brz command in a folder, as nobody in particular."""
    return _run(["brz", *args], folder)


@contextmanager
def serve_bzr(folder: Path) -> Iterator[str]:
    """Serve over bzr:// until the end of the block; gives the url of the folder."""
    port = free_port()
    server = subprocess.Popen(
        ["brz", "serve", "--listen=127.0.0.1", f"--port={port}", f"--directory={folder}"],
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_answering(port), what="brz serve answers")
        yield f"bzr://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@contextmanager
def relay(url: str, cut_after: int) -> Iterator[str]:
    """A server that hangs up on everybody after so many bytes of what another one says."""
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, socket.create_connection((target.hostname, target.port)) as server:
                        _carry(client, server, cut_after)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{target.scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _carry(client: socket.socket, server: socket.socket, left: int) -> None:
    while left > 0:
        ready, _, _ = select.select([client, server], [], [], 30)
        for source, sink in ((client, server), (server, client)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                if source is server:
                    data = data[:left]
                    left -= len(data)
                sink.sendall(data)
        if not ready:
            return


def _run(argv: list[str], folder: Path, text: str = "") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        argv, cwd=folder, env=_environment(folder), input=text, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    home = str(folder.parent)
    program = shutil.which("brz") or ""
    return {
        # Debian's brz takes the first python3 of the path to be its own.
        "PATH": os.pathsep.join([os.path.dirname(program), os.environ["PATH"]]),  # noqa: PTH120
        "HOME": home,
        "BRZ_HOME": home,
        "BRZ_EMAIL": "A Tester <tester@example.org>",
        "BRZ_LOG": os.devnull,
        "LC_ALL": "C.UTF-8",
    }
