"""External tools: run in a closed environment, their words made fit for a log.

What a tool says may come from a stranger's server: it is kept within bounds, and cleaned.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn

from code_import.redaction import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from .sandbox import Sandbox

PROGRESS_EVERY = 2.0
"""Seconds between two lines of progress in the log."""
LONGEST_LINE = 500
MOST_LINES = 2_000
"""More lines than this, from one tool, do not reach the log."""
TAIL = 64 * 1024
"""As much of a tool's complaints is kept to find out what they mean."""

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


class ToolTooLoud(Exception):
    """A tool had more to say than it may, and was stopped."""


_sandbox: ContextVar[Sandbox | None] = ContextVar("sandbox", default=None)


@contextlib.contextmanager
def confined(sandbox: Sandbox | None) -> Iterator[None]:
    """Have all tools that this thread starts in the block be in a sandbox.

    What starts tools is one thread: those in a sandbox die with the thread that started them.
    """
    token = _sandbox.set(sandbox)
    try:
        yield
    finally:
        _sandbox.reset(token)


def gist(err: str) -> str:
    """The line that says most: the first fatal one, else the last; cleaned."""
    lines = [line for line in err.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    said = (fatal[:1] or lines[-1:] or ["it said nothing"])[0].removeprefix("fatal: ")
    return clean(said.strip(), LONGEST_LINE)


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
    changes: Collection[Path] = (),
    most_output: int | None = None,
) -> Finished:
    """Run a tool to its end, without a word in the log. ``text`` is its input, else it has none.

    ``keep_open`` are descriptors that it inherits: a lock among them is held for as long as it
    lives, even when we do not. ``changes`` is what it may write to beside the run's own places.
    Raises ToolTooSlow, and ToolTooLoud after ``most_output`` bytes, which only a tool without an
    input may be asked for.
    """
    with _start(argv, env, cwd, text is not None, keep_open, changes=changes) as tool:
        try:
            if most_output is None:
                out, err = tool.communicate(text, timeout)
            else:
                out, err = _read(tool, timeout, most_output)
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
    changes: Collection[Path] = (),
) -> Finished:
    """Run a tool to its end and log what it says meanwhile; its output is thrown away."""
    with _start(
        argv, env, cwd, False, keep_open, output=subprocess.DEVNULL, changes=changes
    ) as tool:
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
    changes: Collection[Path] = (),
) -> subprocess.Popen[bytes]:
    argv, env = list(argv), dict(env)
    if (sandbox := _sandbox.get()) is not None:
        env |= sandbox.environment()
        argv = sandbox.command(argv, cwd, changes)
    # No session and no group of its own: whoever ends the run's group ends its tools.
    return subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
        stdout=output,
        stderr=complaints,
        pass_fds=tuple(keep_open),
    )


def _read(tool: subprocess.Popen[bytes], timeout: float | None, most: int) -> tuple[bytes, bytes]:
    """Read what a tool says until its end. Raises ToolTooLoud, and TimeoutExpired."""
    assert tool.stdout is not None
    assert tool.stderr is not None
    said = {tool.stdout.fileno(): bytearray(), tool.stderr.fileno(): bytearray()}
    until = None if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for fd in said:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(tool.args, timeout or 0)
            for key, _ in selector.select(left):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                said[key.fd] += data
                if len(said[key.fd]) > most:
                    raise ToolTooLoud
    tool.wait()
    out, err = said.values()
    return bytes(out), bytes(err)


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
        if line := clean(raw.decode("utf-8", "replace").strip(), LONGEST_LINE):
            self._logged += 1
            if self._logged > MOST_LINES:
                line = "(this tool says more than a log can hold: the rest is left out)"
            self._log(line)
