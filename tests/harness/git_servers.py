"""Git over the loopback: ``git daemon``, and ``git http-backend`` behind a small http server.

The http server counts requests, and can be told to answer paths with faults instead.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(slots=True)
class HttpServer:
    """Serves the repositories below a folder; ``faults`` maps the start of a path to an answer."""

    url: str
    requests: list[str] = field(default_factory=list)
    faults: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    cut_after: int | None = None
    """When set, a fetch ends after so many bytes of its answer."""
    serve_files: bool = False
    """Hand out files, as a server does that has never heard of git."""


@contextmanager
def serve_http(folder: Path) -> Iterator[HttpServer]:
    """Serve over http until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.folder = folder
    server.told = HttpServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve_git(folder: Path) -> Iterator[str]:
    """Serve over git:// until the end of the block; gives the url of the folder."""
    port = free_port()
    daemon = subprocess.Popen(
        [
            *("git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"),
            *(f"--port={port}", f"--base-path={folder}", str(folder)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_listening(port), what="git daemon answers")
        yield f"git://127.0.0.1:{port}"
    finally:
        daemon.terminate()
        daemon.wait()


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[..., None]:
    """A fault: this status, with these headers, and this body."""

    def give(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return give


def stall(until: threading.Event) -> Callable[..., None]:
    """A fault: the start of an answer, and then nothing."""

    def give(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        handler.end_headers()
        handler.wfile.flush()
        until.wait(30)

    return give


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    folder: Path
    told: HttpServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        told = self.server.told
        told.requests.append(f"{self.command} {self.path}")
        for start, fault in told.faults.items():
            if self.path.startswith(start):
                fault(self)
                return
        if told.serve_files:
            self._serve_file()
        else:
            self._run_backend()

    def _serve_file(self) -> None:
        file = self.server.folder / self.path.partition("?")[0].lstrip("/")
        found = file.is_file()
        answer(200 if found else 404, file.read_bytes() if found else b"")(self)

    def _run_backend(self) -> None:
        backend = subprocess.Popen(
            ["git", "http-backend"],
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert backend.stdin is not None
        assert backend.stdout is not None
        with backend, suppress(BrokenPipeError, ConnectionError):
            backend.stdin.write(self._body())
            backend.stdin.close()
            self._answer_with(backend.stdout)
            backend.stdout.close()

    def _environment(self) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        about = {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        for header, name in (
            ("Git-Protocol", "GIT_PROTOCOL"),
            ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
        ):
            if header in self.headers:
                about[name] = self.headers[header]
        return {**os.environ, **about}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer_with(self, output: Any) -> None:
        headers = []
        while line := output.readline().rstrip(b"\r\n").decode():
            headers.append(line.partition(": ")[::2])
        found = dict(headers)
        self.send_response(int(found.pop("Status", "200").split()[0]))
        for name, value in found.items():
            self.send_header(name, value)
        self.end_headers()
        left = self._limit()
        while data := output.read1(65536):
            self.wfile.write(data[:left])
            left -= len(data)
            if left <= 0:
                self.close_connection = True
                return

    def _limit(self) -> int:
        cut = self.server.told.cut_after
        is_fetch = cut is not None and self.command == "POST"
        return cut if cut is not None and is_fetch else 1 << 62

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
