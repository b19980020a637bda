"""CVS over the loopback: repositories made by commits, ``cvs pserver`` and an rsync daemon."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import debian
from .git_servers import free_port, is_answering
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "anonymous"


def need_cvs() -> str | None:
    """None when CVS can be tried here; else one line that says why not."""
    try:
        debian.need(["cvs", "rsync"], "cvs", "rsync")
    except debian.NotToBeHad as error:
        return str(error)
    return None


@dataclass(slots=True)
class CvsRepository:
    """A repository, and a working copy of its module."""

    path: Path
    module: str = "module"

    def __post_init__(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True)
            for folder in (self.path.parent, self.path.parent.parent):
                folder.chmod(0o755)
            self.cvs("init", folder=self.path)
            (self.path / self.module).mkdir()
            for folder in (self.path, self.path / self.module):
                folder.chmod(0o777)
            self.copy.parent.mkdir(exist_ok=True)
            self.administer("config", "UserAdminOptions=okmnbqla\n")
            self.allow(USER, "")
            self.cvs("-q", "checkout", self.module, folder=self.copy.parent)

    @property
    def copy(self) -> Path:
        return self.path.parent / f"{self.path.name}-copies" / self.module

    def administer(self, name: str, content: str) -> None:
        """Put a file into CVSROOT, in place of one that cvs has made, which may not be changed."""
        file = self.path / "CVSROOT" / name
        file.unlink(missing_ok=True)
        file.write_text(content)

    def allow(self, user: str, password: str) -> None:
        """Let a user log in, who then is the user that runs the tests, or nobody: root may not."""
        system_user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        crypted = ""
        if password:
            asked = ["openssl", "passwd", "-1", "-salt", "xy", password]
            crypted = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        line = f"{user}:{crypted.strip()}:{system_user}\n"
        with (self.path / "CVSROOT/passwd").open("a") as file:
            file.write(line)

    def write(self, **files: str | bytes | None) -> None:
        """Put files into the working copy, and add or remove them as need be."""
        self.write_all({name.replace("__", "/"): content for name, content in files.items()})

    def write_all(self, files: dict[str, str | bytes | None]) -> None:
        for name, content in files.items():
            path = self.copy / name
            if content is None:
                path.unlink()
                self.cvs("-q", "remove", name)
                continue
            is_new = not path.exists()
            self._make_folders(name)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            if is_new:
                binary = ["-kb"] if isinstance(content, bytes) else []
                self.cvs("-q", "add", *binary, name)

    def _make_folders(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            folder = "/".join(parts[:end])
            if not (self.copy / folder).exists():
                (self.copy / folder).mkdir()
                self.cvs("-q", "add", folder)

    def commit(self, message: str = "a change", **files: str | bytes | None) -> None:
        self.write(**files)
        self.cvs("-q", "commit", "-m", message)

    def cvs(self, *args: str, folder: Path | None = None) -> str:
        """Run a cvs command in the working copy, or in another folder."""
        done = subprocess.run(
            ["cvs", "-f", "-d", str(self.path), *args],
            cwd=folder or self.copy,
            env=_environment(self.path.parent),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            umask=0,
        )
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout

    def export(self, tag: str, place: Path) -> dict[str, bytes]:
        """All files as CVS itself gives them for a branch or a tag, without keywords."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        self.cvs("-q", "export", "-ko", "-r", tag, "-d", "out", self.module, folder=place)
        out = place / "out"
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }


@dataclass(slots=True)
class PServer:
    """A pserver; ``cut_after`` ends a conversation after so many bytes, or stalls it."""

    port: int
    path: Path
    cut_after: int | None = None
    stalls: bool = False
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def root(self, user: str = USER) -> str:
        return f":pserver:{user}@127.0.0.1:{self.port}{self.path}"


def write_master(path: Path, changes: list[tuple[int, str, str]], commit_ids: bool = True) -> None:
    """Write the file of a file's history, of any length at once: times, messages and contents."""
    numbers = [f"1.{number}" for number in range(1, len(changes) + 1)]
    deltas, texts = [], []
    later = ""
    for at in range(len(changes) - 1, -1, -1):
        when, message, content = changes[at]
        date = time.strftime("%Y.%m.%d.%H.%M.%S", time.gmtime(when))
        commit_id = f"commitid\tc{when};\n" if commit_ids else ""
        before = f"next\t{numbers[at - 1]};\n" if at else "next\t;\n"
        deltas.append(f"\n{numbers[at]}\ndate\t{date};\tauthor tester;\tstate Exp;\n"
                      f"branches;\n{before}{commit_id}")  # fmt: skip
        lines = later.count("\n")
        edit = f"d1 {lines}\na{lines} {content.count(chr(10))}\n{content}"
        text = edit if at + 1 < len(changes) else content
        texts.append(f"\n\n{numbers[at]}\nlog\n@{message}\n@\ntext\n@{text}@\n")
        later = content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"head\t{numbers[-1]};\naccess;\nsymbols;\nlocks; strict;\ncomment\t@# @;\n\n"
        + "".join(deltas) + "\n\ndesc\n@@\n" + "".join(texts)
    )  # fmt: skip


@contextmanager
def serve_rsync(folder: Path) -> Iterator[str]:
    """Serve a folder by rsync until the end of the block; gives its url."""
    port = free_port()
    config = folder.parent / "rsyncd.conf"
    config.write_text(
        f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nreverse lookup = no\n"
        f"[all]\npath = {folder}\nread only = yes\n"
    )
    daemon = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", f"--config={config}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_answering(port), what="rsync answers")
        yield f"rsync://127.0.0.1:{port}/all"
    finally:
        daemon.terminate()
        daemon.wait()


@contextmanager
def serve_cvs(repository: Path) -> Iterator[PServer]:
    """Serve a repository until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = PServer(listener.getsockname()[1], repository)
        thread = threading.Thread(target=_accept, args=(listener, told))
        thread.start()
        try:
            yield told
        finally:
            told.over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, told: PServer) -> None:
    threads = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            told.connections += 1
            threads.append(threading.Thread(target=_serve, args=(connection, told)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _serve(connection: socket.socket, told: PServer) -> None:
    """Stand between a client and a pserver of its own, which inetd would have started."""
    ours, theirs = socket.socketpair()
    with connection, ours:
        with theirs:
            server = subprocess.Popen(
                ["cvs", "-f", f"--allow-root={told.path}", "pserver"],
                env=_environment(told.path.parent),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
            )
        upward = threading.Thread(target=_copy, args=(connection, ours, told, None))
        upward.start()
        _copy(ours, connection, told, told.cut_after)
        for end in (connection, ours):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        upward.join()
        server.kill()
        server.wait()


def _copy(source: socket.socket, sink: socket.socket, told: PServer, limit: int | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if limit is not None:
                data, limit = data[:limit], max(limit - len(data), 0)
            sink.sendall(data)
            if limit == 0:
                if told.stalls:
                    told.over.wait(30)
                return
        sink.shutdown(socket.SHUT_WR)


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "CVSUMASK": "000",  # The server may be another user than who commits.
        "LOGNAME": "tester",
    }
