"""What can stand between hg and its server: it asks for logins, and changes or refuses answers."""

from __future__ import annotations

import base64
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

from .git_servers import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True)
class Front:
    """What stands before a server; ``faults`` and ``changes`` go by hg's wire commands.

    A fault answers in place of the server; a change gets the body of its answer.
    """

    url: str
    faults: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    changes: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    """Who alone is let in."""
    moved: str = "//"
    """What redirects to the repository."""
    commands: list[str] = field(default_factory=list)
    """What was asked for."""
    shown: set[str] = field(default_factory=set)
    """The logins that were shown."""


@contextmanager
def serve_front(behind: str) -> Iterator[Front]:
    """Stand before the server of a url until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.behind = behind
    server.front = Front(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cut(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send half of a body that was said to be whole, and hang up."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/mercurial-0.1")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    behind: str
    front: Front

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, body: bytes | None) -> None:
        front = self.server.front
        command = parse_qs(urlsplit(self.path).query).get("cmd", [""])[0]
        front.commands.append(command)
        if not self._is_welcome(front):
            answer(401, WWW_Authenticate='Basic realm="hg"')(self)
        elif self.path.startswith(front.moved):
            answer(301, Location=f"{front.url}/{self.path.removeprefix(front.moved)}")(self)
        elif command in front.faults:
            front.faults[command](self)
        else:
            self._forward(body, front.changes.get(command, bytes))

    def _is_welcome(self, front: Front) -> bool:
        kind, _, shown = self.headers.get("Authorization", "").partition(" ")
        if shown:
            front.shown.add(base64.b64decode(shown).decode() if kind == "Basic" else kind)
        return front.login is None or (":".join(front.login) in front.shown and bool(shown))

    def _forward(self, body: bytes | None, change: Callable[[bytes], bytes]) -> None:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "authorization", "accept-encoding")
        }
        request = urllib.request.Request(self.server.behind + self.path, body, headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as got:
                status, kind, data = got.status, got.headers["Content-Type"], got.read()
        except HTTPError as error:
            status, kind, data = error.code, error.headers["Content-Type"], error.read()
        answer(status, change(data), Content_Type=kind)(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
