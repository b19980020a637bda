"""The client's side of a conversation with a cvs server, as far as an import needs it.

The requests and responses are those of the CVS client/server protocol. What the server complains of
is kept and logged; what it answers is bytes, as they are in the repository.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NoReturn

from .process import TAIL, Finished, ToolFailed
from .update import Cause, Ended, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST_ASKED = 32
"""Files that are asked for before the first of them has come."""
LONGEST_LINE = 16 * 1024 * 1024

_RESPONSES = "ok error Valid-requests Mode M Mbinary E Checked-in Created Updated Merged Removed"
_NEEDED = frozenset({b"rlog", b"co"})
_ABORTED = re.compile(rb"cvs \[[a-z ]+ aborted\]: ")
"""What a server says at once when it was started by inetd and cannot even begin."""

CAUSES = (
    Cause(
        r"HATE YOU|authorization failed|no such user|[Aa]uthorization",
        "failure_invalid",
        "the server refuses the login",
    ),
    Cause(
        r"cannot find module|no such module|nothing known about|cannot find .* directory",
        "failure_invalid",
        "there is no such module",
    ),
    Cause(
        r"no such repository|[Bb]ad root|[Cc]annot access .*CVSROOT|No such file or directory",
        "failure_invalid",
        "there is no such repository at the server",
    ),
    Cause(
        r"RCS file|EOF (?:while|looking|in)"
        r"|[Uu]nexpected end of file|mismatch in rcs file|unable to parse|invalid rcs file"
        r"|premature end|missing (?:delta|revision|parent)|could not find desired version",
        "failure_remote_broken",
        "the repository is damaged",
    ),
    Cause(
        r"No space left|out of memory|Cannot allocate|failed to obtain .*lock"
        r"|[Rr]ead-only file system|Too many",
        "failure",
        "the server is in trouble",
    ),
    Cause(r"Permission denied", "failure_invalid", "the server refuses access"),
    Cause(r"unrecognized request", "failure_unsupported_feature", "the server is too old"),
)
"""What the complaints of cvs servers mean; the first match counts. Else it is a ``failure``."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A file as a server sends it."""

    content: bytes
    executable: bool


@dataclass(slots=True)
class Conversation:
    """What is said with one server about one repository. Raises Ended for all that it refuses."""

    incoming: IO[bytes]
    outgoing: IO[bytes]
    root: str
    log: Callable[[str], None]
    longest: float
    """Seconds that one answer may take."""
    _complaints: bytearray = field(default_factory=bytearray)
    _until: float = 0.0

    def log_in(self, user: str, password: str) -> None:
        """Say who asks, which a pserver wants to know first."""
        lines = ("BEGIN AUTH REQUEST", self.root, user, scramble(password), "END AUTH REQUEST")
        self._send("".join(f"{line}\n" for line in lines))
        self._begin()
        while (line := self._line()) != b"I LOVE YOU":
            self._complain(line)
            if line.startswith((b"I HATE YOU", b"error")) or _ABORTED.match(line):
                self._fail("the login")

    def start(self) -> None:
        """Agree on what is spoken."""
        self._send(f"Root {self.root}\nValid-responses {_RESPONSES}\nvalid-requests\n")
        self._begin()
        for line in self._answer("the greeting"):
            if line.startswith(b"Valid-requests "):
                missing = _NEEDED - frozenset(line.split())
                if missing:
                    raise Ended(
                        "failure_unsupported_feature",
                        f"The server is too old: it has no {b', '.join(sorted(missing)).decode()}.",
                    )
        self._send("UseUnchanged\nGlobal_option -q\n")

    def rlog(self, module: str) -> Iterator[bytes]:
        """The lines of the log of everything in a module."""
        self._ask("rlog", "--", module)
        for line in self._answer(f"the log of {module}"):
            if line.startswith(b"M "):
                yield line[2:]
            elif line == b"M":
                yield b""

    def files(self, wanted: Sequence[tuple[bytes, str]]) -> Iterator[Sent | None]:
        """Files as they were in a revision, in the order of the request; None if there is none."""
        for path, revision in wanted[:MOST_ASKED]:
            self._ask_file(path, revision)
        for number, (path, revision) in enumerate(wanted):
            yield self._file(f"revision {revision} of {path.decode('utf-8', 'replace')}")
            asked = number + MOST_ASKED
            if asked < len(wanted):
                self._ask_file(*wanted[asked])

    def _ask_file(self, path: bytes, revision: str) -> None:
        name = path.decode("utf-8", "surrogateescape")
        # -ko: as it was put in, without keywords. -n: no program of the modules file is run.
        self._ask("co", "-n", "-N", "-P", "-ko", "-r", revision, "--", name)

    def _file(self, what: str) -> Sent | None:
        sent: Sent | None = None
        for line in self._answer(what):
            if line.startswith((b"Created ", b"Updated ", b"Merged ")):
                self._line()
                self._line()
                executable = b"x" in self._line().partition(b",")[0]
                sent = Sent(self._read(self._size()), executable)
        return sent

    def _answer(self, what: str) -> Iterator[bytes]:
        self._begin()
        while True:
            line = self._line()
            if line == b"ok":
                return
            if line.startswith(b"E "):
                self._complain(line)
            elif line.startswith(b"error") or _ABORTED.match(line):
                self._complain(line)
                self._fail(what)
            elif line.startswith((b"Removed ", b"Remove-entry ")):
                self._line()
            elif line.startswith(b"Mbinary"):
                self._read(self._size())
            else:
                yield line

    def _ask(self, request: str, *arguments: str) -> None:
        lines = "".join(f"Argument {argument}\n" for argument in arguments)
        self._send(f"{lines}Directory .\n{self.root}\n{request}\n")

    def _send(self, text: str) -> None:
        self.outgoing.write(text.encode("utf-8", "surrogateescape"))
        self.outgoing.flush()

    def _begin(self) -> None:
        self._complaints.clear()
        self._until = time.monotonic() + self.longest

    def _line(self) -> bytes:
        line = self.incoming.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise EOFError("the server hung up in the middle of an answer")
        if time.monotonic() > self._until:
            raise TimeoutError(f"an answer took longer than {self.longest:.0f} s")
        return line[:-1]

    def _size(self) -> int:
        line = self._line()
        if not re.fullmatch(rb"\d{1,12}", line):
            raise Ended("failure", "The server does not speak as a cvs server does.")
        return int(line)

    def _read(self, size: int) -> bytes:
        data = self.incoming.read(size)
        if len(data) < size:
            raise EOFError("the server hung up in the middle of a file")
        return data

    def _complain(self, line: bytes) -> None:
        text = line.removeprefix(b"E ")
        self._complaints += text + b"\n"
        del self._complaints[:-TAIL]
        self.log(text.decode("utf-8", "replace"))

    def _fail(self, what: str) -> NoReturn:
        said = self._complaints.decode("utf-8", "replace")
        explain(ToolFailed(f"asking for {what}", Finished(1, b"", said)), CAUSES)


def scramble(password: str) -> str:
    """A password as the protocol has it: not readable at a glance, and no secret."""
    if not password.isascii():
        raise Ended("failure_invalid", "A cvs server takes ASCII passwords only.")
    return "A" + "".join(chr(_SHIFTS[ord(char)]) for char in password)


def _shifts() -> list[int]:
    """The protocol's table, which stands for itself below 32 and swaps the rest in pairs."""
    table = list(range(256))
    table[32:127] = [
        114, 120, 53, 79, 96, 109, 72, 108, 70, 64, 76, 67, 116, 74, 68, 87, 111, 52, 75, 119,
        49, 34, 82, 81, 95, 65, 112, 86, 118, 110, 122, 105, 41, 57, 83, 43, 46, 102, 40, 89,
        38, 103, 45, 50, 42, 123, 91, 35, 125, 55, 54, 66, 124, 126, 59, 47, 92, 71, 115, 78,
        88, 107, 106, 56, 36, 121, 117, 104, 101, 100, 69, 73, 99, 63, 94, 93, 39, 37, 61, 48,
        58, 113, 32, 90, 44, 98, 60, 51, 33, 97, 62, 77, 84, 80, 85,
    ]  # fmt: skip
    return table


_SHIFTS = _shifts()
