"""The gate: how the tools of a run reach the network, one checked connection at a time.

It listens on the loopback, in threads of the run's own process, until the run is over. A tool that
is pointed at it resolves no name itself and follows no redirect past it: each connection is made to
an address that the policy has checked a moment before, and to no other. Only processes of the
run's own user are served, so that nobody else on the machine has use of a port that stands open.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from code_import.policy import Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from code_import.policy import Policy

    Serve = Callable[[socket.socket], None]

MOST_CONNECTIONS = 32
LARGEST_HEAD = 64 * 1024
"""Bytes that the head of a request or an answer may have."""
HEAD_TIMEOUT = 30.0
"""Seconds in which a tool must say what it wants."""
CONNECT_TIMEOUT = 30.0
"""Seconds for all addresses of a host together."""

_PATIENCE = 1.0
"""Seconds that the end of the gate waits for its threads, which may be looking up a name."""
_CONNECTIONS = "/proc/self/net/tcp"
_CHUNK = 256 * 1024
_END = b"\r\n\r\n"
_CONNECT = re.compile(rb"CONNECT (\S+):([0-9]{1,5}) HTTP/1\.[01]")
_ABSOLUTE = re.compile(
    rb"([A-Z]+) http://(?P<authority>(\[[^\]\s]*\]|[^/?#@:\[\]\s]+)(?::([0-9]{1,5}))?)"
    rb"([/?]\S*)? (HTTP/1\.[01])",
    re.IGNORECASE,
)
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"upgrade"}
)


class Gate:
    """The only way out of a run; a context manager.

    When a tool has failed, what the gate saw says more than the tool does: ``refused``, then
    ``unreached``. A tool that is not to follow redirects to other hosts is kept to ``only`` one.
    """

    def __init__(
        self, policy: Policy, log: Callable[[str], None], only: tuple[str, int] | None = None
    ) -> None:
        self.refused: list[str] = []
        """What was asked for and refused by the policy, in words."""
        self.unreached: str | None = None
        """Why the last connection could not be made, in words; None when it could."""
        self.strayed: str | None = None
        """The host and port that were asked for in place of the only ones."""
        self._policy = policy
        self._log = log
        self._only = only
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._connections = 0
        self._closed = False

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all connections, and whatever they wait for."""
        with self._lock:
            self._closed = True
            for each in self._sockets:
                _hang_up(each)
            threads = list(self._threads)
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    @cached_property
    def proxy(self) -> tuple[str, int]:
        """Where an HTTP proxy listens, for https (CONNECT) and plain http."""
        return self._listen(self._serve_proxy)

    def environment(self) -> dict[str, str]:
        """What makes a tool use the proxy. (Mercurial needs ``http_proxy.always`` besides.)"""
        url = "http://{}:{}".format(*self.proxy)
        names = ("http_proxy", "https_proxy", "all_proxy")
        proxies = {spelt: url for name in names for spelt in (name, name.upper())}
        return {**proxies, "no_proxy": "", "NO_PROXY": ""}

    def forward(self, host: str, port: int) -> tuple[str, int]:
        """Where a port listens that leads to a host, for protocols that know no proxy.

        The host is checked at each connection.
        """

        def serve(client: socket.socket) -> None:
            with contextlib.suppress(Forbidden), self._reach(host, port) as server:
                self._relay(client, server)

        return self._listen(serve)

    def _listen(self, serve: Serve) -> tuple[str, int]:
        if not os.access(_CONNECTIONS, os.R_OK):
            raise OSError(f"whose a connection is cannot be told here: there is no {_CONNECTIONS}")
        listener = socket.create_server(("127.0.0.1", 0), backlog=MOST_CONNECTIONS)
        self._start(self._accept, listener, serve)
        address: tuple[str, int] = listener.getsockname()
        return address

    def _accept(self, listener: socket.socket, serve: Serve) -> None:
        with self._kept(listener):
            while not self._closed:
                try:
                    client, _ = listener.accept()
                except OSError:
                    time.sleep(0.05)  # Of files there may be enough again in a moment.
                    continue
                try:
                    self._start(self._admit, client, serve)
                except RuntimeError:  # No thread is to be had.
                    client.close()

    def _admit(self, client: socket.socket, serve: Serve) -> None:
        """Serve a connection, unless it is a stranger's or one too many."""
        with self._kept(client), self._counted() as has_room, contextlib.suppress(OSError):
            if has_room and _is_own(client):
                client.settimeout(HEAD_TIMEOUT)
                serve(client)

    # A connection

    def _serve_proxy(self, client: socket.socket) -> None:
        head, rest = _read_head(client)
        request, *headers = head.split(b"\r\n")
        if found := _CONNECT.fullmatch(request):
            with self._reach_for(client, found[1], found[2]) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
                self._relay(client, server)
        elif found := _ABSOLUTE.fullmatch(request):
            method, path, version = found[1], found[5] or b"/", found[6]
            path = path if path.startswith(b"/") else b"/" + path
            with self._reach_for(client, found[3], found[4] or b"80") as server:
                lines = [
                    b"%s %s %s" % (method, path, version),
                    b"Host: " + found["authority"],
                    *_end_to_end(headers, but=b"host"),
                ]
                server.sendall(_closing(lines) + rest)
                self._relay(client, server, _answer)
        else:
            _say(client, b"400 Bad Request", "This is a proxy for https and http.")

    @contextlib.contextmanager
    def _reach_for(
        self, client: socket.socket, host: bytes, port: bytes
    ) -> Iterator[socket.socket]:
        """As :meth:`_reach`, and tell a client of http what came in the way."""
        try:
            server = self._reach(host.decode("latin-1"), int(port))
        except Forbidden as refusal:
            _say(client, b"403 Forbidden", str(refusal))
            raise OSError from None
        except OSError:
            _say(client, b"502 Bad Gateway", self.unreached or "")
            raise
        with server:
            yield server

    def _reach(self, host: str, port: int) -> socket.socket:
        """Connect to a host. Raises Forbidden and OSError, both of which are remembered."""
        try:
            if self._only not in (None, (host.strip("[]").lower(), port)):
                self.strayed = f"{host}:{port}"
                raise Forbidden(f"{self.strayed} is not where the source is")
            server = _connect(self._policy.resolve(host, port), port)
        except Forbidden as refusal:
            self._refuse(str(refusal))
            raise
        except socket.gaierror:
            self.unreached = f"the name of the host is not known: {host}"
            raise
        except OSError as err:
            self.unreached = f"there is no connection to {host}:{port} ({err.strerror or err})"
            raise
        self.unreached = None
        return server

    def _refuse(self, why: str) -> None:
        with self._lock:
            is_new = why not in self.refused
            if is_new:
                self.refused.append(why)
        if is_new:
            self._log(f"Refused: {why}.")

    def _relay(
        self, client: socket.socket, server: socket.socket, back: Callable[..., None] | None = None
    ) -> None:
        """Carry bytes both ways until both sides have ended, or one has broken."""
        with self._kept(server):
            client.settimeout(None)
            thread = self._start(back or _pour, server, client)
            _pour(client, server)
            thread.join()

    def _start(self, work: Callable[..., None], *args: object) -> threading.Thread:
        def task() -> None:
            try:
                work(*args)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=task, daemon=True)
        with self._lock:
            thread.start()
            self._threads.add(thread)
        return thread

    @contextlib.contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[None]:
        """Close a socket at the end of the block; the end of the gate hangs it up before."""
        with self._lock:
            self._sockets.add(connection)
            if self._closed:
                _hang_up(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)
                connection.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[bool]:
        """Count a connection, and say whether there is room for it."""
        with self._lock:
            self._connections += 1
            has_room = self._connections <= MOST_CONNECTIONS
        try:
            yield has_room
        finally:
            with self._lock:
                self._connections -= 1


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first address that answers. Raises OSError: the last one's."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    last: OSError | None = None
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return _connect_to(address, port, max(1.0, (deadline - time.monotonic()) / left))
        except OSError as err:
            last = err
    raise last or OSError("it has no address")


def _connect_to(address: str, port: int, timeout: float) -> socket.socket:
    server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        server.settimeout(timeout)
        server.connect((address, port))
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        server.close()
        raise
    return server


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way to their end. What breaks one way breaks both."""
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _hang_up(source)
        _hang_up(sink)


def _answer(server: socket.socket, client: socket.socket) -> None:
    """Carry an answer of plain http, and let it be the last of its connection.

    A client that went on with it might mean another host by its next request.
    """
    rest, is_final = b"", False
    try:
        while not is_final:
            head, rest = _read_head(server, rest)
            status, *headers = head.split(b"\r\n")
            if not status.startswith(b"HTTP/1."):
                raise OSError("this is no http")
            is_final = status.split(b" ", 2)[1][:1] != b"1"
            client.sendall(_closing([status, *_end_to_end(headers)]) if is_final else head + _END)
        client.sendall(rest)
    except (OSError, IndexError):
        _hang_up(server)
        _hang_up(client)
    else:
        _pour(server, client)


def _read_head(connection: socket.socket, start: bytes = b"") -> tuple[bytes, bytes]:
    """Read up to the empty line; gives what is before it and what is after it."""
    data = bytearray(start)
    while (end := data.find(_END)) < 0:
        if len(data) > LARGEST_HEAD:
            raise OSError("the head of a message is too large")
        if not (more := connection.recv(LARGEST_HEAD)):
            raise OSError("the connection has ended within the head of a message")
        data += more
    return bytes(data[:end]), bytes(data[end + len(_END) :])


def _end_to_end(headers: Iterable[bytes], *, but: bytes = b"") -> list[bytes]:
    """Leave out the headers that are for one connection only; a folded line goes with its own."""
    kept: list[bytes] = []
    keeps = True
    for line in headers:
        if not line.startswith((b" ", b"\t")):
            name = line.partition(b":")[0].strip().lower()
            keeps = name not in _HOP_BY_HOP and name != but
        if keeps:
            kept.append(line)
    return kept


def _closing(lines: Iterable[bytes]) -> bytes:
    return b"\r\n".join([*lines, b"Connection: close"]) + _END


def _say(client: socket.socket, status: bytes, why: str) -> None:
    body = why.encode("ascii", "replace") + b"\n"
    head = [b"HTTP/1.1 " + status, b"Content-Type: text/plain", b"Content-Length: %d" % len(body)]
    client.sendall(_closing(head) + body)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _is_own(client: socket.socket) -> bool:
    """Whether the other end of a loopback connection is a process of our own user.

    A socket that its process has left already is nobody's (inode 0).
    """
    wanted = [_in_hex(client.getpeername()), _in_hex(client.getsockname())]
    with open(_CONNECTIONS) as table:  # noqa: PTH123
        for line in table:
            fields = line.split()
            if fields[1:3] == wanted:
                return fields[7] == str(os.geteuid()) and fields[9] != "0"
    return False


def _in_hex(address: tuple[str, int]) -> str:
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
