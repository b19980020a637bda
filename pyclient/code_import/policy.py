"""What may be fetched: schemes, hosts and local paths. Checked at every run, not once.

A policy is a value: a worker makes it once and hands it to every run. Local paths are the
exception: the list of allowed ones is read at each check, so that a worker that is running already
honours a path that its user has added since.

What a name leads to may change after a check: whoever connects asks :meth:`Policy.resolve`, and
connects to one of the addresses that it returns.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
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
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_HOST_AND_PORT = re.compile(_HOST + _PORT)
_AUTHORITY = re.compile(rf"(?:(?P<user>[^/@]*)@)?{_HOST}{_PORT}(?P<path>(?:/.*)?)")
_CVS_ROOT = re.compile(
    rf":pserver:(?P<user>[A-Za-z0-9_][A-Za-z0-9._+-]*@)?{_HOST}(?::(?P<port>[0-9]{{1,5}})?)?"
    r"(?P<path>/[^;:]*)"
)
_CVS_MODULE = re.compile(r"[A-Za-z0-9_.+][^/;:]*(?:/[^/;:]+)*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")


SCHEMES = {
    "git": frozenset({"https", "http", "git", "file"}),
    "svn": frozenset({"https", "http", "svn", "file"}),
    "hg": frozenset({"https", "http", "file"}),
    "bzr": frozenset({"https", "http", "bzr", "file"}),
    "cvs": frozenset({"pserver", "rsync", "file"}),
}
"""What each type is fetched by."""
DEFAULT_PORTS = {
    "https": 443, "http": 80, "git": 9418, "svn": 3690, "bzr": 4155, "pserver": 2401,
    "rsync": 873,
}  # fmt: skip


class Forbidden(Exception):
    """The policy refuses a source; the message says which rule, and what would help."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a worker fetches.

    ``excluded_hosts`` are refused together with their subdomains, and so is a host that has any
    address that is not of the public Internet. ``allow_hosts`` make exceptions: a ``host`` or
    ``host:port``, as it is written in a source, comes before both; a network (``10.0.0.0/8``)
    makes addresses as good as public ones. Local paths are refused unless ``allowed_paths`` lists
    them.
    """

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
        """Return the url to fetch, or the CVS root, written so that all programs read it alike.

        It has no user: one without a password opens nothing, and a command line is no place for a
        name that may be a token. (A CVS root keeps its user, without whom there is no login.)
        Raises Forbidden. A host that cannot be resolved is not refused: its fetch will say so.
        """
        place = _place(source)
        if place.scheme == "file":
            from urllib.parse import quote_from_bytes

            path = self._check_path(place.path, source.rcs_type)
            return "file://" + quote_from_bytes(os.fsencode(path))
        with suppress(OSError):
            self.resolve(place.host, place.actual_port)
        return place.written()

    def local_path(self, source: Source) -> Path | None:
        """Return where a source is on disk, or None when it is elsewhere. Raises Forbidden."""
        from pathlib import Path

        place = _place(source)
        if place.scheme != "file":
            return None
        return Path(self._check_path(place.path, source.rcs_type))

    def foresee(self, source: Source) -> str | None:
        """Why each worker without an exception for it will refuse a source, or None.

        Names are not looked up, and of local paths nothing is known.
        """
        try:
            place = _place(source)
            if place.scheme != "file":
                self.resolve(place.host, place.actual_port, names=False)
        except Forbidden as refusal:
            return str(refusal)
        except OSError:
            return None
        return None

    def resolve(self, host: str, port: int, *, names: bool = True) -> list[str]:
        """Return the addresses of a host, each of which may be connected to at this port.

        Without ``names`` only an address, however written, is known to have one. Raises Forbidden,
        and OSError when the host has no address.
        """
        import socket

        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        if not re.fullmatch(_HOST, host) or not 0 < port < 65536:
            raise Forbidden(f"there is no host with a port like this: {host}:{port}")
        host = _plain(host)
        is_allowed = not {host, f"{host}:{port}"}.isdisjoint(self.allow_hosts)
        if not is_allowed:
            for excluded in self.excluded_hosts:
                if host == excluded or host.endswith(f".{excluded}"):
                    raise Forbidden(f"the host {host} is excluded")
        flags = 0 if names else socket.AI_NUMERICHOST
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=flags)
        except UnicodeError:
            raise OSError(f"{host} is no name that a host can have") from None
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        if not is_allowed:
            self._check_addresses(host, addresses)
        return addresses

    def _check_addresses(self, host: str, addresses: list[str]) -> None:
        from code_import.addresses import why_not_public

        for address in addresses:
            kind = why_not_public(address)
            if kind is not None and not self._allows_address(address):
                raise Forbidden(
                    f"the host {host} is {kind} ({address}); a worker with an --allow-host for it"
                    " may fetch from it"
                )
        if _ENDS_IN_A_NUMBER.search(host) and host not in addresses:
            raise Forbidden(f"the host {host} is an address that is written as {addresses[0]}")

    def _allows_address(self, address: str) -> bool:
        from ipaddress import ip_address, ip_network

        ip = ip_address(address.partition("%")[0])
        networks = [entry for entry in self.allow_hosts if "/" in entry]
        return any(ip in ip_network(network) for network in networks)

    def _check_path(self, path: str, rcs_type: str) -> str:
        if re.search(r"[\x00-\x1f\x7f]", path):
            raise Forbidden("a local path must not have control characters")
        repository = os.path.realpath(path)
        if rcs_type == "git":
            repository = _git_repository(repository)
        if not any(_is_within(repository, allowed) for allowed in self._allowed()):
            raise Forbidden(
                f"the local path {repository} is not on the list of this worker's user"
                " (code-import mirror adds the paths that it is given)"
            )
        return repository

    def _allowed(self) -> list[str]:
        if self.allowed_paths is None:
            return []
        return [os.path.realpath(path) for path in _read(self.allowed_paths)]


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


def hosts_listed(setting: str | None) -> list[str]:
    """Return the hosts in a setting that lists them with commas."""
    return [host.strip() for host in (setting or "").split(",") if host.strip()]


def check_allowed(entry: str) -> str:
    """Return an entry for ``allow_hosts`` as it is given. Raises ValueError when it is none."""
    if "/" in entry:
        from ipaddress import ip_network

        ip_network(entry)
    elif not _HOST_AND_PORT.fullmatch(entry):
        raise ValueError(f"{entry!r} is no host, host:port or network")
    return entry


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a source is: on a host, or at a local path (scheme ``file``)."""

    scheme: str
    path: str
    """What follows the authority, with its slash."""
    host: str = ""
    port: int | None = None
    user: str = ""
    """Of a CVS root, with its ``@``."""

    @property
    def actual_port(self) -> int:
        return DEFAULT_PORTS[self.scheme] if self.port is None else self.port

    def written(self) -> str:
        if self.scheme == "pserver":
            return f":pserver:{self.user}{self.host}:{self.port or ''}{self.path}"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


def _place(source: Source) -> _Place:
    """Return where a source is. Raises Forbidden when its type is not fetched from there."""
    if source.rcs_type == "cvs":
        place = _place_of_cvs(source.cvs_root or "", source.cvs_module or "")
    else:
        place = _place_of_url(source.url or "")
    if place.scheme not in SCHEMES[source.rcs_type]:
        raise Forbidden(_why_not(place.scheme))
    return place


def _place_of_url(url: str) -> _Place:
    if _NEVER_IN_A_URL.search(url) or url.startswith("-"):
        raise Forbidden("the url has characters that no url has")
    if _HELPER.match(url):
        raise Forbidden("programs named in a url are never started")
    if url.startswith("/"):
        return _Place("file", url)
    match = _URL.fullmatch(url)
    if match is None:
        if ":" in url.partition("/")[0]:
            return _Place("ssh", url)
        raise Forbidden("a local path must be absolute")
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _Place("file", _path_of(rest))
    return _place_on_host(scheme, rest)


def _place_on_host(scheme: str, rest: str) -> _Place:
    match = _AUTHORITY.fullmatch(rest)
    if match is None:
        if not rest.partition("/")[0].isascii():
            raise Forbidden("the host is not written in ASCII, as xn--…, which programs read alike")
        raise Forbidden("the url names no host in a form that all programs read alike")
    if ":" in (match["user"] or ""):
        raise Forbidden("a url must not carry a password")
    return _Place(scheme, match["path"], _plain(match["host"]), _port(match["port"]))


def _place_of_cvs(root: str, module: str) -> _Place:
    if _NEVER_IN_A_URL.search(root + module):
        raise Forbidden("the CVS root or module has characters that none has")
    if not _CVS_MODULE.fullmatch(module) or ".." in module.split("/"):
        raise Forbidden("the CVS module is not a path below its root")
    if root.startswith("/"):
        return _Place("file", root)
    if root.startswith("rsync://"):
        return _place_of_url(root)
    match = _CVS_ROOT.fullmatch(root)
    if match is None:
        raise Forbidden(
            "a CVS root is :pserver:user@host:/path, rsync://host/path or a local path, and nothing"
            " else"
        )
    user = match["user"] or ""
    return _Place("pserver", match["path"], _plain(match["host"]), _port(match["port"]), user)


def _port(digits: str | None) -> int | None:
    return int(digits) if digits else None


def _path_of(rest: str) -> str:
    # git would read file://host/path as /host/path, and other programs as /path.
    if not rest.startswith("/"):
        raise Forbidden("a file url names no host: file:///path")
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(rest))


def _why_not(scheme: str) -> str:
    if "ssh" in scheme:
        return "ssh is not allowed: this worker has no keys; use the https address"
    return f"the scheme {scheme} is not allowed"


def _git_repository(path: str) -> str:
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


def _plain(host: str) -> str:
    """Return a host, with or without a port, in the one way of writing it that is compared."""
    if not host.isascii():
        with suppress(UnicodeError):
            host = host.encode("idna").decode("ascii")
    if host.count(":") > 1 and not host.startswith("[") and "/" not in host:
        host = f"[{host}]"
    if (match := _HOST_AND_PORT.fullmatch(host)) is None:
        return host.lower()
    name, port = match["host"].lower().rstrip("."), match["port"]
    if name.startswith("["):
        from ipaddress import IPv6Address

        with suppress(ValueError):
            name = f"[{IPv6Address(name[1:-1])}]"
    return name if port is None else f"{name}:{port}"


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
