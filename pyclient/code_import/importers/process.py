"""External tools: run in a closed environment, their words made fit for a log.

What a tool says may come from a stranger's server. It is kept within bounds, control characters go,
and so does whatever a url carries before its host.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

PROGRESS_EVERY = 2.0
"""Seconds between two lines of progress in the log."""
LONGEST_LINE = 500
MOST_LINES = 2_000
"""More lines than this, from one tool, do not reach the log."""
TAIL = 64 * 1024
"""As much of a tool's complaints is kept to find out what they mean."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]*@")
_SECRET_HEADER = re.compile(r"((?:proxy-)?authorization:).*", re.IGNORECASE)
_LINE_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a tool ended: its exit code (negative: the signal), its output, its last complaints."""

    code: int
    out: bytes
    err: str


class ToolFailed(Exception):
    """A tool ended with another exit code than 0."""

    def __init__(self, what: str, finished: Finished) -> None:
        super().__init__(f"{what} failed ({finished.code}): {gist(finished.err)}")
        self.what = what
        self.finished = finished


class ToolTooSlow(Exception):
    """A tool did not end in its time, and was stopped."""


def clean(text: str) -> str:
    """One line of a tool's, a server's or a url's words, fit for a log."""
    text = _CONTROLS.sub(" ", _ESCAPES.sub("", text)).strip()
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = _SECRET_HEADER.sub(r"\1 ***", _USERINFO.sub(r"\1***@", text))
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"


def gist(err: str) -> str:
    """The line that says most: the first fatal one, else the last; cleaned."""
    lines = [line for line in err.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return clean((fatal[:1] or lines[-1:] or ["it said nothing"])[0].removeprefix("fatal: "))


def closed_environment(home: Path, **more: str) -> dict[str, str]:
    """All that a tool sees of our environment: where programs are, and nothing of the user's."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "TZ": "UTC",
        **more,
    }


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    text: bytes | None = None,
    keep_open: Collection[int] = (),
    timeout: float | None = None,
) -> Finished:
    """Run a tool to its end, without a word in the log. ``text`` is its input, else it has none.

    ``keep_open`` are descriptors that it inherits: a lock among them is held for as long as it
    lives, even when we do not. Raises ToolTooSlow.
    """
    with _start(argv, env, cwd, text is not None, keep_open) as tool:
        try:
            out, err = tool.communicate(text, timeout)
        except subprocess.TimeoutExpired:
            _too_slow(tool, argv, timeout)
        except BaseException:
            tool.kill()
            raise
    return Finished(tool.returncode, out, err[-TAIL:].decode("utf-8", "replace"))


def run_logged(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Callable[[str], None],
    keep_open: Collection[int] = (),
) -> Finished:
    """Run a tool to its end and log what it says meanwhile; its output is thrown away."""
    with _start(argv, env, cwd, False, keep_open, output=subprocess.DEVNULL) as tool:
        assert tool.stderr is not None
        listener = _Listener(log)
        try:
            while data := os.read(tool.stderr.fileno(), 65536):
                listener.hear(data)
            listener.hear(b"\n")
            tool.wait()
        except BaseException:
            tool.kill()
            raise
    return Finished(tool.returncode, b"", listener.tail.decode("utf-8", "replace"))


def converse(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    question: bytes,
    answer: Callable[[bytes], bytes | None],
    log: Callable[[str], None],
    keep_open: Collection[int] = (),
    silence: float | None = None,
) -> Finished:
    """Run a tool to its end that takes lines and gives lines, and log its complaints meanwhile.

    ``question`` is its first line of input; each line of its output goes to ``answer``, and what
    that returns is its next one. Raises ToolTooSlow after ``silence`` seconds without a word.
    """
    with _start(argv, env, cwd, True, keep_open) as tool, selectors.DefaultSelector() as selector:
        assert tool.stdin is not None
        assert tool.stdout is not None
        assert tool.stderr is not None
        listener = _Listener(log)
        selector.register(tool.stdout, selectors.EVENT_READ)
        selector.register(tool.stderr, selectors.EVENT_READ)
        try:
            _say(tool.stdin, question)
            said = b""
            while selector.get_map():
                ready = selector.select(silence)
                if not ready:
                    _too_slow(tool, argv, silence)
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is tool.stderr:
                        listener.hear(data)
                    else:
                        *lines, said = (said + data).split(b"\n")
                        for line in lines:
                            if (reply := answer(line)) is not None:
                                _say(tool.stdin, reply)
            listener.hear(b"\n")
            tool.wait()
        except BaseException:
            tool.kill()
            raise
    return Finished(tool.returncode, b"", listener.tail.decode("utf-8", "replace"))


@contextlib.contextmanager
def piped(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, keep_open: Collection[int] = ()
) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Run a tool as long as the block goes on; gives its output and its input."""
    with _start(argv, env, cwd, True, keep_open, complaints=subprocess.DEVNULL) as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        try:
            yield tool.stdout, tool.stdin
        finally:
            tool.kill()
            with contextlib.suppress(BrokenPipeError):
                tool.stdin.close()


def _say(pipe: IO[bytes], line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # How it has ended says more.
        pipe.write(line + b"\n")
        pipe.flush()


def _start(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    has_input: bool,
    keep_open: Collection[int],
    output: int = subprocess.PIPE,
    complaints: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    # No session and no group of its own: whoever ends the run's group ends its tools.
    return subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
        stdout=output,
        stderr=complaints,
        pass_fds=tuple(keep_open),
    )


def _too_slow(
    tool: subprocess.Popen[bytes], argv: Sequence[str], timeout: float | None
) -> NoReturn:
    tool.kill()
    raise ToolTooSlow(f"{argv[0]} did not end within {timeout or 0:.0f} s") from None


class _Listener:
    """Cuts a stream into lines: full ones are logged, progress only now and then."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.tail = b""
        self._log = log
        self._rest = b""
        self._logged = 0
        self._next_progress = time.monotonic() + PROGRESS_EVERY

    def hear(self, data: bytes) -> None:
        data = self._rest + data
        start = 0
        for end in _LINE_END.finditer(data):
            self._line(data[start : end.start()], is_progress=end[0] == b"\r")
            start = end.end()
        self._rest = data[start:][-TAIL:]

    def _line(self, raw: bytes, *, is_progress: bool) -> None:
        if is_progress:
            if time.monotonic() < self._next_progress:
                return
            self._next_progress = time.monotonic() + PROGRESS_EVERY
        else:
            self.tail = (self.tail + raw + b"\n")[-TAIL:]
        if self._logged > MOST_LINES:
            return
        if line := clean(raw.decode("utf-8", "replace")):
            self._logged += 1
            if self._logged > MOST_LINES:
                line = "(this tool says more than a log can hold: the rest is left out)"
            self._log(line)
