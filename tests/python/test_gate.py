"""The gate, with real sockets: what it connects, what it refuses, and that it ends."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from code_import.importers import gate as gate_module
from code_import.importers.gate import Gate
from code_import.policy import Policy
from harness.git_servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Policy(allow_hosts=("127.0.0.1",))
NAMED = Policy(allow_hosts=("source.example",))


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def gate(log: list[str]) -> Iterator[Gate]:
    with Gate(HERE, log.append) as made:
        yield made


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it is sent."""
    with serve(_echo) as port:
        yield port


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


@contextmanager
def serve(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of raw connections on the loopback, one after the other or side by side."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            handle(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                opened.append(listener.accept()[0])
                threading.Thread(target=one, args=(opened[-1],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        for each in (listener, *opened):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


class _Web(BaseHTTPRequestHandler):
    """Says what it was asked, and keeps its connections."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        if self.headers.get("Expect"):
            self.server.expected = True  # type: ignore[attr-defined]
        said = f"{self.requestline}\n{self.headers}".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Keep-Alive", "timeout=5")
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def connect(where: tuple[str, int]) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(10)
    try:
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection


def tunnel(gate: Gate, authority: str) -> tuple[bytes, socket.socket]:
    """The first line of what CONNECT is answered with, and the connection."""
    connection = connect(gate.proxy)
    connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return connection.recv(65536).split(b"\r\n")[0], connection


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, ...]) -> list[str]:
    """Make a resolver that gives these addresses, one set a question; returns what it is asked."""
    asked: list[str] = []

    def resolve(host: str, port: object, *_a: object, **_k: object) -> list[Any]:
        found = addresses[min(len(asked), len(addresses) - 1)]
        asked.append(host)
        return [(0, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return asked


def everything(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def test_a_tunnel_carries_bytes_both_ways(gate: Gate, echo: int) -> None:
    status, connection = tunnel(gate, f"127.0.0.1:{echo}")
    with connection:
        assert status == b"HTTP/1.1 200 Connection established"
        sent = os.urandom(3_000_000)
        thread = threading.Thread(target=connection.sendall, args=(sent,))
        thread.start()
        received = b""
        while len(received) < len(sent):
            received += connection.recv(1 << 20)
        thread.join()
        assert received == sent
    assert (gate.refused, gate.unreached) == ([], None)


def test_what_follows_the_head_at_once_is_not_lost(gate: Gate, echo: int) -> None:
    with connect(gate.proxy) as connection:
        connection.sendall(f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\n\r\nearly".encode())
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).endswith(b"\r\n\r\nearly")


def test_the_end_of_one_way_leaves_the_other_open(gate: Gate) -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        connection.sendall(b"%d bytes" % len(everything(connection)))

    with serve(answer_at_the_end) as port, connect(gate.forward("127.0.0.1", port)) as connection:
        connection.sendall(b"x" * 1000)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"1000 bytes"


def test_a_forward_leads_to_its_host_only_and_to_each_its_own(gate: Gate, echo: int) -> None:
    with serve(lambda connection: connection.sendall(b"other")) as port:
        first, second = gate.forward("127.0.0.1", echo), gate.forward("127.0.0.1", port)
        with connect(first) as one, connect(second) as other:
            one.sendall(b"hello")
            assert one.recv(10) == b"hello"
            assert everything(other) == b"other"


def test_plain_http_goes_through_and_keeps_no_connection(gate: Gate, web: int) -> None:
    client = http.client.HTTPConnection(*gate.proxy, timeout=10)
    for _ in range(2):
        client.request(
            "POST", f"http://127.0.0.1:{web}/p?q=1", b"body",
            {"Proxy-Authorization": "Basic x", "Proxy-Connection": "keep-alive", "X-Own": "1",
             "Host": "elsewhere.example"},
        )  # fmt: skip
        answer = client.getresponse()
        said = answer.read().decode()
        assert answer.getheader("Connection") == "close"
        assert answer.getheader("Keep-Alive") is None
        assert said.startswith("POST /p?q=1 HTTP/1.1\n")
        assert said.endswith("body")
        assert f"Host: 127.0.0.1:{web}\n" in said
        assert "X-Own: 1\n" in said
        assert "Proxy" not in said
        assert "elsewhere" not in said
    client.close()


def test_a_body_that_waits_for_its_leave_gets_it(gate: Gate, web: int) -> None:
    head = f"POST http://127.0.0.1:{web}/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4"
    with connect(gate.proxy) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"body")
        assert everything(connection).endswith(b"body")


@pytest.mark.parametrize("path", ["", "?q"])
def test_a_url_without_a_path_has_the_root(gate: Gate, web: int, path: str) -> None:
    with connect(gate.proxy) as connection:
        connection.sendall(f"GET http://127.0.0.1:{web}{path} HTTP/1.1\r\n\r\n".encode())
        assert f"GET /{path} HTTP/1.1".encode() in everything(connection)


def test_the_environment_is_what_tools_understand(gate: Gate, web: int) -> None:
    fetch = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    done = subprocess.run(
        [sys.executable, "-c", fetch, f"http://127.0.0.1:{web}/by-a-tool"],
        env=gate.environment(), capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert "GET /by-a-tool" in done.stdout


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.1", "[::1]", "[::ffff:7f00:1]", "0x7f.1"])
def test_a_refused_host_is_said_and_never_touched(log: list[str], host: str, echo: int) -> None:
    with Gate(Policy(), log.append) as gate:
        for _ in range(2):
            status, connection = tunnel(gate, f"{host}:{echo}")
            connection.close()
            assert status == b"HTTP/1.1 403 Forbidden"
        assert len(gate.refused) == len(log) == 1
        assert "this machine" in gate.refused[0]


def test_a_tool_that_is_kept_to_one_place_gets_to_no_other(
    log: list[str], web: int, echo: int
) -> None:
    """Not even on the same host, nor by plain http."""
    with Gate(HERE, log.append, ("127.0.0.1", echo)) as gate:
        status, connection = tunnel(gate, f"127.0.0.1:{echo}")
        connection.close()
        assert status == b"HTTP/1.1 200 Connection established"
        assert gate.strayed is None
        client = http.client.HTTPConnection(*gate.proxy, timeout=10)
        client.request("GET", f"http://127.0.0.1:{web}/")
        assert client.getresponse().status == 403
        client.close()
        assert gate.strayed == f"127.0.0.1:{web}"
        assert log == [f"Refused: 127.0.0.1:{web} is not where the source is."]


def test_plain_http_and_forwards_are_checked_too(log: list[str], web: int) -> None:
    with Gate(Policy(excluded_hosts=("bad.example",)), log.append) as gate:
        client = http.client.HTTPConnection(*gate.proxy, timeout=10)
        client.request("GET", f"http://127.0.0.1:{web}/")
        assert client.getresponse().status == 403
        client.close()
        with connect(gate.forward("git.bad.example", web)) as connection:
            assert everything(connection) == b""
        assert [("127.0.0.1" in why, "excluded" in why) for why in gate.refused] == [
            (True, False), (False, True),
        ]  # fmt: skip


def test_a_name_that_changes_what_it_means_gains_nothing(
    monkeypatch: pytest.MonkeyPatch, log: list[str], echo: int
) -> None:
    """Public when it is asked for first, this machine ever after: each answer is checked."""
    asked = answers(monkeypatch, ("192.0.2.1",), ("127.0.0.1",))
    policy = Policy()
    assert policy.resolve("rebinds.example", echo) == ["192.0.2.1"]
    with Gate(policy, log.append) as gate:
        status, connection = tunnel(gate, f"rebinds.example:{echo}")
        connection.close()
    assert status == b"HTTP/1.1 403 Forbidden"
    assert asked == ["rebinds.example"] * 2


def test_what_was_checked_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, log: list[str], echo: int
) -> None:
    """One question a connection: there is no second answer that could differ."""
    asked = answers(monkeypatch, ("127.0.0.1",), ("192.0.2.1",))
    with Gate(NAMED, log.append) as gate:
        status, connection = tunnel(gate, f"source.example:{echo}")
        with connection:
            connection.sendall(b"here")
            assert (status[-11:], connection.recv(10)) == (b"established", b"here")
    assert asked == ["source.example"]


def test_one_bad_address_spoils_a_host(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    answers(monkeypatch, ("192.0.2.1", "10.0.0.1"))
    with Gate(Policy(), log.append) as gate:
        status, connection = tunnel(gate, "both.example:80")
        connection.close()
        assert status == b"HTTP/1.1 403 Forbidden"
        assert "private network (10.0.0.1)" in gate.refused[0]


def test_the_addresses_of_a_host_are_tried_in_turn(
    monkeypatch: pytest.MonkeyPatch, log: list[str], echo: int
) -> None:
    answers(monkeypatch, ("127.0.0.2", "::1", "127.0.0.1"))
    with Gate(NAMED, log.append) as gate:
        status, connection = tunnel(gate, f"source.example:{echo}")
        connection.close()
        assert status.endswith(b"established")


def test_a_machine_without_ipv6_connects_by_ipv4(
    monkeypatch: pytest.MonkeyPatch, log: list[str], echo: int
) -> None:
    answers(monkeypatch, ("::1", "127.0.0.1"))
    monkeypatch.setattr(gate_module.socket, "AF_INET6", 12_345)
    with Gate(NAMED, log.append) as gate:
        status, connection = tunnel(gate, f"source.example:{echo}")
        connection.close()
        assert status.endswith(b"established")


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, gate: Gate, echo: int
) -> None:
    status, connection = tunnel(gate, f"127.0.0.1:{free_port()}")
    connection.close()
    assert status == b"HTTP/1.1 502 Bad Gateway"
    assert "Connection refused" in str(gate.unreached)
    status, connection = tunnel(gate, f"127.0.0.1:{echo}")
    connection.close()
    assert gate.unreached is None

    def fail(*_a: object, **_k: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    status, connection = tunnel(gate, "nowhere.example:80")
    connection.close()
    assert status == b"HTTP/1.1 502 Bad Gateway"
    assert gate.unreached == "the name of the host is not known: nowhere.example"


@pytest.mark.parametrize(
    "request_line",
    ["GET /path HTTP/1.1", "CONNECT 127.0.0.1 HTTP/1.1", "GET ftp://127.0.0.1/ HTTP/1.1",
     "GET http://user@127.0.0.1/ HTTP/1.1", "CONNECT 127.0.0.1:99999 HTTP/1.1",
     "CONNECT a b:80 HTTP/1.1", "GET https://127.0.0.1/ HTTP/1.1", "\x16\x03\x01", ""],
)  # fmt: skip
def test_what_is_no_request_for_a_proxy_is_refused(gate: Gate, request_line: str) -> None:
    with connect(gate.proxy) as connection:
        connection.sendall(request_line.encode("latin-1") + b"\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 4")


def test_a_head_without_end_is_cut_off(gate: Gate) -> None:
    with connect(gate.proxy) as connection, suppress(ConnectionError):
        connection.sendall(b"CONNECT x:1 HTTP/1.1\r\n" + b"X: y\r\n" * 40_000)
        assert everything(connection) == b""


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(gate_module, "HEAD_TIMEOUT", 0.05)
    with connect(gate.proxy) as connection:
        connection.sendall(b"CONNECT ")
        assert everything(connection) == b""


@pytest.mark.parametrize("answer", [b"", b"no http\r\n\r\n", b"X: y\r\n" * 40_000, b"\r\n\r\n"])
def test_an_answer_that_is_no_http_breaks_the_connection(gate: Gate, answer: bytes) -> None:
    def reply(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with serve(reply) as port, connect(gate.proxy) as connection:
        connection.sendall(f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n".encode())
        with suppress(ConnectionError):
            assert everything(connection) == b""


def test_connections_beyond_the_most_are_not_served(
    monkeypatch: pytest.MonkeyPatch, gate: Gate, echo: int
) -> None:
    monkeypatch.setattr(gate_module, "MOST_CONNECTIONS", 2)
    where = gate.forward("127.0.0.1", echo)
    with ExitStack() as stack:
        held = [stack.enter_context(connect(where)) for _ in range(2)]
        for each in held:
            each.sendall(b"x")
            assert each.recv(1) == b"x"
        with connect(where) as third, suppress(ConnectionError):
            assert everything(third) == b""
        held[0].close()
        until = time.monotonic() + 10
        served = b""
        while not served and time.monotonic() < until:
            with connect(where) as again, suppress(ConnectionError):
                again.sendall(b"y")
                served = again.recv(1)
        assert served == b"y"


# --- whose it is, and its end ------------------------------------------------------------------


def test_a_process_of_another_user_is_not_served(
    monkeypatch: pytest.MonkeyPatch, gate: Gate, echo: int
) -> None:
    proxy, forward = gate.proxy, gate.forward("127.0.0.1", echo)
    monkeypatch.setattr(gate_module.os, "geteuid", lambda: os.getuid() + 1)
    for where in (proxy, forward):
        with connect(where) as connection, suppress(ConnectionError):
            connection.sendall(f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\n\r\n".encode())
            assert everything(connection) == b""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_real_process_of_another_user_is_not_served(gate: Gate, echo: int) -> None:
    ask = (
        "import os, socket, sys; os.setuid(65534)\n"
        "c = socket.socket(); c.settimeout(10); c.connect(('127.0.0.1', int(sys.argv[1])))\n"
        "try: c.sendall(b'hello'); c.shutdown(socket.SHUT_WR); print(c.recv(10))\n"
        "except OSError: print(b'')\n"
    )
    port = gate.forward("127.0.0.1", echo)[1]
    done = subprocess.run(
        [sys.executable, "-c", ask, str(port)], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "b''\n", done.stderr
    with connect(("127.0.0.1", port)) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"


def test_a_system_that_does_not_say_whose_a_connection_is_has_no_gate(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr(gate_module, "_CONNECTIONS", "/nonexistent")
    with pytest.raises(OSError, match="whose a connection is"):
        _ = gate.proxy


def test_the_end_ends_everything(log: list[str], echo: int) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        with Gate(HERE, log.append) as gate:
            ports = [gate.proxy, gate.forward("127.0.0.1", echo)]
            status, tunnelled = tunnel(gate, f"127.0.0.1:{echo}")
            stack.enter_context(tunnelled)
            idle = stack.enter_context(connect(ports[0]))
            forwarded = stack.enter_context(connect(ports[1]))
            forwarded.sendall(b"x")
            assert (status[-11:], forwarded.recv(1)) == (b"established", b"x")
            started = time.monotonic()
        assert time.monotonic() - started < 5
        for connection in (tunnelled, idle, forwarded):
            with suppress(ConnectionError):
                assert everything(connection) == b""
        for where in ports:
            with pytest.raises(ConnectionRefusedError):
                connect(where)
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_it_listens_on_the_loopback_only_and_only_when_it_is_used(gate: Gate) -> None:
    before = threading.active_count()
    with Gate(HERE, print):
        assert threading.active_count() == before
    assert gate.proxy[0] == gate.forward("127.0.0.1", 1)[0] == "127.0.0.1"
    assert gate.proxy is gate.proxy
