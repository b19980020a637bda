"""The first request that a tool makes of an http server, made by ourselves.

git follows redirects to wherever they lead or not at all, and does not say how long a busy server
wants to be left alone; hg takes a login along to wherever they lead. So git follows none and hg is
kept to its host, and when one has met a redirect, the server is asked here again: each hop is
checked before it is taken, and nothing but the head of an answer is read.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from code_import.importers import Source
from code_import.policy import DEFAULT_PORTS

if TYPE_CHECKING:
    from code_import.policy import Policy

    from .gate import Gate

MOST_HOPS = 5
TIMEOUT = 30.0
"""Seconds that a server may be silent."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a tool asks for first: something below a repository's url, in words of its own."""

    rcs_type: str
    path: str
    query: str
    agent: str

    @property
    def suffix(self) -> str:
        return f"{self.path}?{self.query}"


GIT = Question("git", "/info/refs", "service=git-upload-pack", "git/2 (code-import)")
HG = Question("hg", "", "cmd=capabilities", "mercurial/proto-1.0 (code-import)")


class NoAnswer(Exception):
    """The server could not be asked, or does not say what it should."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of what a server answers."""

    status: int
    location: str | None
    retry_after: str | None

    @property
    def wait(self) -> int | None:
        """Seconds for which the server wants to be left alone."""
        text = self.retry_after or ""
        if re.fullmatch("[0-9]{1,9}", text):
            return int(text)
        with suppress(ValueError):
            return max(0, round(parsedate_to_datetime(text).timestamp() - time.time()))
        return None


@dataclass(frozen=True, slots=True)
class Moved:
    """Where the repository of a url is now."""

    url: str
    is_repository: bool
    """Whether a repository answers there to those without a login."""
    same_host: bool
    """Whether no hop has left the host, nor what protects the connection."""


def follow(url: str, policy: Policy, gate: Gate, question: Question = GIT) -> Moved | None:
    """Return where a url leads to, None when it leads nowhere else.

    Raises Forbidden for a hop that the policy refuses, and NoAnswer.
    """
    here, same_host = url, True
    for _ in range(MOST_HOPS):
        answer = ask(here, gate, question)
        if not 300 <= answer.status < 400 or answer.location is None:
            moved = Moved(here, answer.status == 200, same_host)
            return None if here == url else moved
        there = urljoin(here + question.suffix, answer.location)
        base = there.partition("?")[0]
        if not base.endswith(question.path):
            return Moved(policy.check(Source(question.rcs_type, there)), False, False)
        there = policy.check(Source(question.rcs_type, base.removesuffix(question.path)))
        same_host = same_host and is_same_host(here, there)
        here = there
    raise NoAnswer(f"the server redirects more than {MOST_HOPS} times")


def ask(url: str, gate: Gate, question: Question = GIT) -> Answer:
    """Make the first request of a url, and return the head of its answer."""
    parts = urlsplit(url)
    target = (parts.path if parts.scheme == "https" else url) + question.suffix
    try:
        with closing(_connection(url, gate)) as connection:
            connection.request("GET", target, headers={"User-Agent": question.agent})
            answer = connection.getresponse()
            return Answer(
                answer.status, answer.getheader("Location"), answer.getheader("Retry-After")
            )
    except (OSError, HTTPException, ValueError) as err:
        raise NoAnswer(str(err)) from None


def _connection(url: str, gate: Gate) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme != "https":
        return HTTPConnection(*gate.proxy, timeout=TIMEOUT)
    connection = HTTPSConnection(*gate.proxy, timeout=TIMEOUT)
    connection.set_tunnel(parts.hostname or "", _port(url))
    return connection


def is_same_host(one: str, other: str) -> bool:
    """Whether two urls lead to one host, the second one no less protected than the first."""
    old, new = urlsplit(one), urlsplit(other)
    if old.hostname != new.hostname:
        return False
    if old.scheme == new.scheme:
        return _port(one) == _port(other)
    return (old.scheme, new.scheme) == ("http", "https")


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS[parts.scheme]
