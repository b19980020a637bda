"""Subversion repositories, made with its own tools, and their servers on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .git_servers import free_port, is_answering
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
        return f"file://{quote(str(self.path))}"

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


@contextmanager
def relay(port: int, *, cut_after: int | None = None, stall: bool = False) -> Iterator[int]:
    """A port that leads to another one; what comes from there ends or stops after some bytes."""
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=_pour, args=(client, server), daemon=True).start()
            left = 1 << 60 if cut_after is None else cut_after
            while left and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)
            if stall:
                over.wait(60)
            for each in (client, server):  # A thread that reads would keep it open.
                each.shutdown(socket.SHUT_RDWR)

    with _listening(serve) as here:
        yield here
        over.set()


@contextmanager
def talk(words: bytes) -> Iterator[int]:
    """A port where something else than Subversion speaks."""

    def serve(client: socket.socket) -> None:
        with client:
            client.sendall(words)
            client.recv(65536)

    with _listening(serve) as here:
        yield here


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    def attempt(client: socket.socket) -> None:
        with suppress(OSError):
            serve(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=attempt, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


MODULES = Path("/usr/lib/apache2/modules")
has_dav = (MODULES / "mod_dav_svn.so").exists() and shutil.which("apache2") is not None


@contextmanager
def serve_dav(folder: Path, extra: str = "") -> Iterator[str]:
    """Serve over http until the end of the block; gives the url of the folder.

    A web server that is started by root serves as another user, who must be able to read.
    """
    port, place = free_port(), folder.parent / "apache"
    place.mkdir(exist_ok=True)
    modules = ("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic",
               "alias", "dav", "dav_svn")  # fmt: skip
    loaded = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in modules)
    user = "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
    (place / "apache.conf").write_text(
        f"ServerRoot {place}\nServerName 127.0.0.1\nListen 127.0.0.1:{port}\n{loaded}{user}"
        f"PidFile {place}/pid\nErrorLog {place}/log\nDefaultRuntimeDir {place}\n"
        f"<Location /svn>\nDAV svn\nSVNParentPath {folder}\n</Location>\n{extra}\n"
    )
    make_readable(folder.parent)
    server = subprocess.Popen(
        ["apache2", "-X", "-f", str(place / "apache.conf")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: is_answering(port), what="the web server answers")
        yield f"http://127.0.0.1:{port}/svn"
    finally:
        server.terminate()
        server.wait()


def make_readable(folder: Path) -> None:
    """Let all users read a folder and what is in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
