"""Logins of sources: sealed before they reach the database, opened by the worker that needs one.

What is sealed says which host and which import it is for, so that a row that was changed or swapped
in the database opens nothing elsewhere. The keys are lines of a file of its user's alone: the first
one seals, all of them open. A worker on another machine needs a copy of the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken

from code_import.importers import Login
from code_import.wire import dump_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from code_import.importers import Source
    from code_import.models import JobCredential

LONGEST_PASSWORD = 4_096

_HEAD = """\
# The keys of the credentials in code-import's database. Whoever has both can read them. The first
# key seals; all open. `code-import credential new-key` puts a new one above the others, and an old
# one can go when `code-import credential list` shows its name no more.
"""
_KEY = re.compile(rb"[A-Za-z0-9_-]{43}=")
_URL = re.compile(
    r"(?P<scheme>https?|ftp|svn)://(?:[^/?#@]*@)?"
    r"(?P<host>[^][/?#@:\\]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]*))?(?:[/?#].*)?",
    re.IGNORECASE,
)
_CVS_ROOT = re.compile(
    r":(?P<scheme>pserver):(?:[^/@:]*@)?"
    r"(?P<host>[^][/?#@:\\]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]*))?/.*"
)
_NEVER_IN_A_PASSWORD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PORTS = {"https": "443", "http": "80", "ftp": "21", "svn": "3690", "pserver": "2401"}
_ENCRYPTED = "https"


class KeysUnusable(Exception):
    """The key file is missing, or not a secret, or lacks the key; the message says what helps."""


class BadSeal(Exception):
    """What is sealed was changed, or is not for this import, or for this host."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A login, and what it is for."""

    host: str
    code_import_id: int | None
    username: str
    password: str = field(repr=False)
    allow_unencrypted: bool = False


class Keys:
    """The keys of a user, by name; the first is the newest."""

    def __init__(self, keys: Mapping[str, Fernet], file: Path) -> None:
        self._keys = keys
        self._file = file

    @property
    def name(self) -> str:
        """The name of the key that seals."""
        return next(iter(self._keys))

    def seal(self, bound: Bound) -> bytes:
        """Seal a login with the newest key."""
        return self._keys[self.name].encrypt(dump_json(asdict(bound)).encode())

    def unseal(self, key_name: str, secret: bytes) -> Bound:
        """Open what was sealed with the key of this name. Raises KeysUnusable and BadSeal."""
        key = self._keys.get(key_name)
        if key is None:
            raise KeysUnusable(
                f"{self._file} does not have the key {key_name}: add the lines of the key file that"
                " the credential was stored with"
            )
        try:
            return Bound(**json.loads(key.decrypt(secret)))
        except (InvalidToken, ValueError, TypeError):
            raise BadSeal(f"it is not what was sealed with the key {key_name}") from None


def open_for(
    keys: Keys, credential: JobCredential, code_import_id: int, source: Source
) -> Login | None:
    """Open the credential of a run, for its source and no other; None if it comes without secret.

    Nothing is taken on the database's word. Raises KeysUnusable and BadSeal.
    """
    if credential.secret is None:
        return None
    bound = keys.unseal(credential.key_name, credential.secret)
    if bound.code_import_id not in (None, code_import_id):
        raise BadSeal("it was sealed for another import")
    if bound.host not in places(source):
        raise BadSeal(f"it was sealed for the host {bound.host}, and this source has another")
    if not (bound.allow_unencrypted or is_encrypted(source)):
        raise BadSeal("it was sealed for encrypted connections alone")
    return Login(bound.host, bound.username, bound.password)


def places(source: Source) -> list[str]:
    """What the host of a source is called in a credential, the narrowest first.

    That is ``host:port``, and ``host`` if it is the scheme's own port; nothing for a source that
    takes no password.
    """
    match = _split(source)
    if match is None:
        return []
    host, own = match["host"].lower(), _PORTS[match["scheme"].lower()]
    port = (match["port"] or "").lstrip("0") or own
    return [f"{host}:{port}", *([host] if port == own else [])]


def is_encrypted(source: Source) -> bool:
    """Whether nobody on the way can read what is said to the source."""
    match = _split(source)
    return match is not None and match["scheme"].lower() == _ENCRYPTED


def password_refusal(password: str) -> str | None:
    """Why something cannot be a password; None when it can."""
    if not password:
        return "it is empty"
    if _NEVER_IN_A_PASSWORD.search(password):
        return "it has a line break or another control character in it"
    if len(password.encode()) > LONGEST_PASSWORD:
        return f"it is longer than {LONGEST_PASSWORD} bytes"
    return None


def load_keys(file: Path) -> Keys:
    """Read the keys. Raises KeysUnusable."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:  # noqa: PTH123
            _check_is_secret(file, os.fstat(opened.fileno()))
            lines = [line.strip() for line in opened.read().splitlines()]
    except FileNotFoundError:
        raise KeysUnusable(
            f"there is no key file {file}: copy it from where credentials are stored"
        ) from None
    except OSError as err:
        raise KeysUnusable(f"the key file cannot be read: {err}") from None
    keys = [line for line in lines if line and not line.startswith(b"#")]
    if not keys:
        raise KeysUnusable(f"{file} has no key in it")
    if not all(map(_KEY.fullmatch, keys)):
        raise KeysUnusable(f"{file} has a line that is no key")
    return Keys({_name(key): Fernet(key) for key in keys}, file)


def make_keys(file: Path) -> bool:
    """Make a key file with one new key, unless there is one; whether it was made.

    It is there whole or not at all, and the first of two at once wins. Raises KeysUnusable.
    """
    if os.path.lexists(file):
        return False
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _written(file, _HEAD.encode() + Fernet.generate_key() + b"\n") as new:
            os.link(new, file)
    except FileExistsError:
        return False
    except OSError as err:
        raise KeysUnusable(f"the key file cannot be made: {err}") from None
    return True


def add_key(file: Path) -> Keys:
    """Put a new key above those that a file has. Raises KeysUnusable."""
    load_keys(file)
    try:
        with _locked(file) as old:
            lines = old.splitlines(keepends=True)
            head = next(n for n, line in enumerate(lines) if _KEY.match(line.strip()))
            key = Fernet.generate_key() + b"\n"
            with _written(file, b"".join([*lines[:head], key, *lines[head:]])) as new:
                os.replace(new, file)  # noqa: PTH105
    except OSError as err:
        raise KeysUnusable(f"the key file cannot be written: {err}") from None
    return load_keys(file)


@contextmanager
def _locked(file: Path) -> Iterator[bytes]:
    """The content of a key file, which nobody else changes until the end of the block."""
    while True:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                yield opened.read()
                return


@contextmanager
def _written(file: Path, content: bytes) -> Iterator[str]:
    """A new file beside one, with this content, for its user alone; what is left of it goes."""
    fd, new = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with open(fd, "wb") as out:  # noqa: PTH123
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        yield new
    finally:
        with suppress(FileNotFoundError):
            Path(new).unlink()


def _check_is_secret(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeysUnusable(f"{file} is not a file")
    if found.st_uid not in (os.geteuid(), 0):
        raise KeysUnusable(f"{file} belongs to another user")
    if found.st_mode & 0o077:
        raise KeysUnusable(f"others may read or write {file}: chmod 600 it, if nobody has")


def _name(key: bytes) -> str:
    """A name that gives nothing of the key away."""
    return hashlib.sha256(b"code-import credential key " + key).hexdigest()[:16]


def _split(source: Source) -> re.Match[str] | None:
    if source.url is not None:
        return _URL.fullmatch(source.url)
    return _CVS_ROOT.fullmatch(source.cvs_root or "")
