"""What a person names as a source: a path or a url, and what to call its mirror."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from .. import reading
from ..errors import AlreadyThere

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from ..client import Client
    from ..models import Import

SAME_SOURCE = "code_import_source_is_imported_once"
DEFAULT_PORTS = {
    "http": "80",
    "https": "443",
    "ftp": "21",
    "git": "9418",
    "ssh": "22",
    "svn": "3690",
    "svn+ssh": "22",
    "bzr": "4155",
    "bzr+ssh": "22",
}
MOST_CANDIDATES = 100_000

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?"
    r"(?P<host>\[[^][/?#@]*\]|[^/?#@:]*)(?::(?P<port>\d*))?(?P<path>[/?#].*)?"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SCP = re.compile(r"(?P<place>[^@/:]+@[^@/:]+):/*(?P<path>.*)")


class NotASource(ValueError):
    """Neither a repository on this machine nor a url; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where code comes from: its url, and the path if it is on this machine."""

    url: str
    path: Path | None = None

    @classmethod
    def named(cls, text: str) -> Place:
        """What a person means by a path or a url. Raises NotASource."""
        if not text:
            raise NotASource("it names nothing")
        path = Path(text).expanduser()
        if path.exists():
            repository = _repository(Path(os.path.realpath(path)))
            if _CONTROLS.search(str(repository)):
                raise NotASource("its path has control characters, and no worker reads such a one")
            return cls("file://" + quote_from_bytes(os.fsencode(repository)), repository)
        if _URL.fullmatch(text) or _SCP.fullmatch(text):
            return cls(text)
        raise NotASource("there is no such path, and it is not a url")

    def full_target(self) -> str:
        """A name for the mirror that no other place has: its host and its whole path."""
        if self.path is not None:
            return _target(self.path.parts[1:])
        match = _URL.fullmatch(normal(self.url))
        assert match is not None
        return _target((match["host"], *(match["path"] or "").split("/")))

    def targets(self) -> Iterator[str]:
        """Names for the mirror: the plainest first, then longer ones, without end."""
        if self.path is not None:
            parts = self.path.parts[1:]
            first = [_target(parts[-1:]), _target(parts[-2:])]
        else:
            match = _URL.fullmatch(normal(self.url))
            assert match is not None
            parts = tuple(part for part in (match["path"] or "").split("/") if part)
            first = [_target(parts[-2:]), _target((match["host"], *parts[-2:]))]
        yield from dict.fromkeys(first)
        for number in count(2):
            yield f"{first[-1]}-{number}"


def register(
    conn: psycopg.Connection[Any], client: Client, place: Place, person: str
) -> tuple[Import, bool]:
    """Return the import of this source, and whether it is a new one."""
    for target in place.targets():
        taken = [line for line in reading.imports_named(conn, target) if line.target == target]
        if taken and normal(taken[0].url) == normal(place.url):
            return taken[0], False
        if taken:
            continue
        try:
            return client.new(person, target, "git", place.url), True
        except AlreadyThere as err:
            if err.constraint == SAME_SOURCE:
                found = _find(conn, place)
                if found is None:
                    raise
                return found, False
    raise AssertionError("names do not end")


def normal(url: str | None) -> str:
    """The form in which two spellings of one url are the same, as the database compares them."""
    url = url or ""
    if url.startswith("/"):
        url = f"file://{url}"
    elif scp := _SCP.fullmatch(url):
        url = f"ssh://{scp['place']}/{scp['path']}"
    match = _URL.fullmatch(url)
    if match is None:
        return url
    scheme, port = match["scheme"].lower(), (match["port"] or "").lstrip("0")
    user = f"{match['user']}@" if match["user"] else ""
    port = f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{user}{match['host'].lower()}{port}{(match['path'] or '').rstrip('/')}"


def _find(conn: psycopg.Connection[Any], place: Place) -> Import | None:
    """The import whose source is the same in another spelling."""
    wanted = normal(place.url)
    lines = reading.imports(conn, text=wanted.rpartition("/")[2], limit=MOST_CANDIDATES)
    return next((line for line in lines if normal(line.url) == wanted), None)


def _repository(path: Path) -> Path:
    """The repository that a path is in: a checkout, or a bare one."""
    for folder in (path, *path.parents):
        is_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
        if (folder / ".git").exists() or (is_bare and folder.name != ".git"):
            return folder
    raise NotASource("it is not in a git repository")


def _target(parts: tuple[str, ...]) -> str:
    """A target that the database takes, as much like these parts of a path as can be."""
    return "/".join(filter(None, map(_target_part, parts))) or "mirror"


def _target_part(text: str) -> str:
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", text)[-80:].lstrip(".-")
    while text.endswith((".git", ".lock")):
        text = text.removesuffix(".git").removesuffix(".lock")
    return text.rstrip("-")
