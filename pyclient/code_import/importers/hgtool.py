"""Mercurial in a closed environment: its commands, and its command server for a local clone.

The command server is hg's own stable surface for programs: one process answers many commands.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .process import Finished, ToolFailed, closed_environment, piped, run, run_logged
from .secret import secret_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from code_import.importers import Login
    from code_import.mirror import Workspace

    from .gate import Gate
    from .update import Log

PROBE_TIMEOUT = 300.0
SILENCE = 60
"""Seconds that a server may be silent."""
NULL = "0" * 40

_ALWAYS = """\
[ui]
interactive = no
ssh = false
clonebundles = no
clonebundlefallback = no
username = nobody
merge = internal:fail
detailed-exit-code = yes
[phases]
publish = no
[subrepos]
allowed = no
[progress]
assume-tty = yes
delay = 0
refresh = 2
width = 79
"""


@dataclass(frozen=True, slots=True)
class Hg:
    """The hg command with the configuration of one run."""

    work: Workspace
    log: Log
    environment: dict[str, str]
    keep_open: tuple[int, ...]

    @classmethod
    @contextlib.contextmanager
    def configured(
        cls, work: Workspace, log: Log, gate: Gate, url: str, login: Login | None
    ) -> Iterator[Hg]:
        """hg that goes out through the gate alone, and shows a login to a url's host alone.

        What it compares is how urls begin: only a whole host, with what ends it, is no other's.
        """
        host, port = gate.proxy
        text = (
            f"{_ALWAYS}[http]\ntimeout = {SILENCE}\n"
            f"[http_proxy]\nhost = {host}:{port}\nalways = yes\n"
        )
        if login is not None:
            parts = urlsplit(url)
            text += (
                f"[auth]\nsource.prefix = {parts.scheme}://{parts.netloc}/\n"
                f"source.username = {login.username}\nsource.password = {login.password}\n"
            )
        with secret_file(text) as configuration:
            environment = closed_environment(
                work.home,
                HGRCPATH=str(configuration.path),
                HGRCSKIPREPO="1",
                HGPLAIN="1",
                HGPLAINEXCEPT="progress",
                HGENCODING="utf-8",
                HGENCODINGMODE="replace",
                CHGDISABLE="1",
            )
            yield cls(work, log, environment, (work.fd, *configuration.keep_open))

    def __call__(self, *args: str, timeout: float | None = None) -> Finished:
        """Run a command without a word in the log. Raises ToolFailed and ToolTooSlow."""
        finished = run(
            ["hg", *args], env=self.environment, cwd=self.work.folder, keep_open=self.keep_open,
            timeout=timeout,
        )  # fmt: skip
        return _checked(args, finished)

    def logged(self, *args: str) -> Finished:
        """Run a command and log what it says. Raises ToolFailed."""
        finished = run_logged(
            ["hg", *args], env=self.environment, cwd=self.work.folder, log=self.log,
            keep_open=self.keep_open,
        )  # fmt: skip
        return _checked(args, finished)

    @contextlib.contextmanager
    def serve(self, repository: Path) -> Iterator[Server]:
        """A command server for a repository."""
        command = ["hg", "-R", str(repository), "serve", "--cmdserver", "pipe"]
        with piped(
            command, env=self.environment, cwd=self.work.folder, keep_open=self.keep_open
        ) as (out, into):
            yield Server.greeted(out, into)


class Server:
    """Answers commands about a local clone."""

    def __init__(self, out: IO[bytes], into: IO[bytes]) -> None:
        self._out = out
        self._in = into

    @classmethod
    def greeted(cls, out: IO[bytes], into: IO[bytes]) -> Server:
        """One that has said that it is there."""
        server = cls(out, into)
        server._read()
        return server

    def __call__(self, *args: str | bytes, codes: Collection[int] = (0,)) -> bytes:
        """Return what a command prints. Raises ToolFailed."""
        words = b"\0".join(os.fsencode(arg) for arg in args)
        self._in.write(b"runcommand\n" + struct.pack(">I", len(words)) + words)
        self._in.flush()
        out, err = [], []
        while True:
            channel, data = self._read()
            if channel == b"o":
                out.append(data)
            elif channel == b"e":
                err.append(data)
            elif channel == b"r":
                break
            elif channel.isupper():  # It wants to be told something: there is nobody to ask.
                self._in.write(struct.pack(">I", 0))
                self._in.flush()
        (code,) = struct.unpack(">i", data)
        if code not in codes:
            said = b"".join(err).decode("utf-8", "replace")
            raise ToolFailed(f"hg {os.fsdecode(args[0])}", Finished(code, b"", said))
        return b"".join(out)

    def rows(self, revisions: str, template: str) -> list[Any]:
        """What a template says of revisions, each as JSON; the older ones first."""
        said = self("log", "-r", f"sort({revisions}, rev)", "-T", f"{{{template}|json}}\\n")
        return [json.loads(line) for line in said.splitlines()]

    def _read(self) -> tuple[bytes, bytes]:
        head = self._out.read(5)
        if len(head) < 5:
            raise ToolFailed("hg serve", Finished(-1, b"", "the command server has ended"))
        channel, length = struct.unpack(">cI", head)
        if channel.isupper():
            return channel, b""
        return channel, self._out.read(length)


def _checked(args: Sequence[str], finished: Finished) -> Finished:
    if finished.code != 0:
        raise ToolFailed(f"hg {args[0]}", finished)
    return finished
