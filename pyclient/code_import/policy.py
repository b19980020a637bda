"""What may be fetched: schemes, hosts and local paths. Checked at every run, not once.

A policy is a value: a worker makes it once and hands it to every run. Local paths are the
exception: the list of allowed ones is read at each check, so that a worker that is running already
honours a path that its user has added since.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from code_import.importers import Source

ALLOWED_PATHS = "allowed-paths"
"""The file in the user's configuration that lists the allowed local paths, one a line."""

_NEVER_IN_A_URL = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_HELPER = re.compile(r"[A-Za-z0-9]+::")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_AUTHORITY = re.compile(
    r"(?:(?P<user>[^/@]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)"
    r"(?::(?P<port>[0-9]+))?"
    r"(?:/.*)?"
)


class Forbidden(Exception):
    """The policy refuses a source; the message says which rule, and what would help."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a worker fetches.

    ``excluded_hosts`` are refused together with their subdomains. Hosts that are, or resolve to,
    this machine itself or its link are refused too. ``allow_hosts`` (``host`` or ``host:port``)
    come before both. Local paths are refused unless ``allowed_paths`` lists them.
    """

    schemes: frozenset[str] = frozenset({"https", "http", "git", "file"})
    excluded_hosts: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    allowed_paths: Path | None = None
    """The file that lists the local paths that may be read; None allows none."""

    @classmethod
    def load(
        cls,
        *,
        excluded_hosts: Iterable[str] = (),
        allow_hosts: Iterable[str] = (),
        config_dir: Path | None = None,
    ) -> Policy:
        """Return the policy of the user who asks, whose configuration lists the allowed paths."""
        return cls(
            excluded_hosts=tuple(map(_plain, excluded_hosts)),
            allow_hosts=tuple(map(_plain, allow_hosts)),
            allowed_paths=_allowed_paths_file(config_dir),
        )

    def check(self, source: Source) -> str:
        """Return the url to fetch, which is written so that git reads it as this check did.

        It has no user: one without a password opens nothing, and a command line is no place for a
        name that may be a token. Raises Forbidden. A host that cannot be resolved is not refused:
        its fetch will say so.
        """
        scheme, rest = _split(source)
        if scheme not in self.schemes:
            raise Forbidden(_why_not(scheme))
        if scheme == "file":
            return self._check_path(rest)
        self._check_host(scheme, rest)
        authority, slash, path = rest.partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"

    def _check_path(self, path: str) -> str:
        from urllib.parse import quote_from_bytes

        if re.search(r"[\x00-\x1f\x7f]", path):
            raise Forbidden("a local path must not have control characters")
        repository = _repository(os.path.realpath(path))
        if not any(_is_within(repository, allowed) for allowed in self._allowed()):
            raise Forbidden(
                f"the local path {repository} is not on the list of this worker's user"
                " (code-import mirror adds the paths that it is given)"
            )
        return "file://" + quote_from_bytes(os.fsencode(repository))

    def _allowed(self) -> list[str]:
        if self.allowed_paths is None:
            return []
        return [os.path.realpath(path) for path in _read(self.allowed_paths)]

    def _check_host(self, scheme: str, rest: str) -> None:
        match = _AUTHORITY.fullmatch(rest)
        if match is None:
            raise Forbidden("the url names no host in a form that all programs read alike")
        if ":" in (match["user"] or ""):
            raise Forbidden("a url must not carry a password")
        host = _plain(match["host"])
        if not {host, f"{host}:{match['port']}"}.isdisjoint(self.allow_hosts):
            return
        for excluded in self.excluded_hosts:
            if host == excluded or host.endswith(f".{excluded}"):
                raise Forbidden(f"the host {host} is excluded")
        _check_addresses(host.strip("[]"))


def allow_path(path: Path, *, config_dir: Path | None = None) -> bool:
    """Add a path, and all below it, to the list of local paths that its user's workers may read.

    Returns whether it was added: one that is allowed already is not. Safe beside other writers,
    and a reader sees the old list or the new one. Raises ValueError for a path with a line break.
    """
    real = os.path.realpath(path)
    if "\n" in real:
        raise ValueError(f"a path with a line break cannot be allowed: {real!r}")
    file = _allowed_paths_file(config_dir)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(file.with_name(f"{file.name}.lock")):
        present = _read(file)
        if any(_is_within(real, os.path.realpath(other)) for other in present):
            return False
        _replace(file, [*present, real])
    return True


def _split(source: Source) -> tuple[str, str]:
    """Return the scheme and what follows ``://``; for a local path ``file`` and the path."""
    url = source.url
    if url is None:
        raise Forbidden(f"this worker fetches urls only, and a {source.rcs_type} source has none")
    if _NEVER_IN_A_URL.search(url) or url.startswith("-"):
        raise Forbidden("the url has characters that no url has")
    if _HELPER.match(url):
        raise Forbidden("programs named in a url are never started")
    if url.startswith("/"):
        return "file", url
    match = _URL.fullmatch(url)
    if match is None:
        if ":" in url.partition("/")[0]:
            return "ssh", url
        raise Forbidden("a local path must be absolute")
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        rest = _path_of(rest)
    return scheme, rest


def _path_of(rest: str) -> str:
    # git would read file://host/path as /host/path, and other programs as /path.
    if not rest.startswith("/"):
        raise Forbidden("a file url names no host: file:///path")
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(rest))


def _why_not(scheme: str) -> str:
    if scheme in ("ssh", "git+ssh", "ssh+git"):
        return "ssh is not allowed: this worker has no keys; use the https address"
    return f"the scheme {scheme} is not allowed"


def _repository(path: str) -> str:
    """Return the real path of the repository that git will find for a path, which looks in this
    order. A file named .git, which marks a worktree, is where our own look ends.
    """
    for candidate in (f"{path}/.git", path, f"{path}.git/.git", f"{path}.git"):
        is_marker = candidate.endswith("/.git") and os.path.isfile(candidate)  # noqa: PTH113
        if is_marker or os.path.lexists(f"{candidate}/HEAD"):
            return os.path.realpath(candidate)
    return path


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _check_addresses(host: str) -> None:
    """Refuse a host any of whose addresses is this machine or its link, however it is written."""
    import ipaddress
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast:
            raise Forbidden(f"the host {host} is this machine or its link ({ip})")


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


def _allowed_paths_file(config_dir: Path | None) -> Path:
    if config_dir is None:
        import platformdirs

        config_dir = platformdirs.user_config_path("code-import", appauthor=False)
    return config_dir / ALLOWED_PATHS


def _read(file: Path) -> list[str]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    return [line for line in os.fsdecode(data).split("\n") if line.startswith("/")]


def _replace(file: Path, paths: list[str]) -> None:
    lines = ["# Local paths that this user's workers may read, one a line.", *paths, ""]
    new = file.with_name(f"{file.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:  # noqa: PTH123
        out.write(os.fsencode("\n".join(lines)))
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    import fcntl

    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
