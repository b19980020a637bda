"""Lines fit for a log: one line, of bounded length, without control characters and secrets.

What a url carries before its host is starred, and so is every secret that this process has been
told to ``hide``, in the forms in which tools and protocols write one.
"""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LONGEST_LINE = 2_000
STARS = "***"

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+")
_USERINFO = re.compile(r"\b([a-z][a-z0-9+.-]{0,30})://([^/\s'\"]*)@", re.IGNORECASE)
_HEADER = re.compile(r"((?:proxy-)?authorization:).*", re.IGNORECASE)
_LEAST_BASE64 = 6
"""So many characters of base64 are no accident."""

_WRITTEN = {" ": ("+",), '"': ('\\"',), "'": ("\\'", r"'\''", "'\"'\"'")}
"""Further ways, of urls, of Python and of shells, to write a character."""

_hidden: list[re.Pattern[str]] = []


def clean(text: str, longest: int = LONGEST_LINE) -> str:
    """One line of anybody's words, fit for a database, a terminal and other people's eyes.

    Secrets are starred before the line is cut, so that none is left in part.
    """
    text = _CONTROLS.sub(" ", _ESCAPES.sub("", text)).rstrip()
    text = text.encode("utf-8", "replace").decode("utf-8")
    for secret in _hidden:
        text = secret.sub(STARS, text)
    text = _HEADER.sub(rf"\1 {STARS}", _USERINFO.sub(_without_secret, text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def hide(secrets: Iterable[str]) -> Callable[[], None]:
    """Have ``clean`` star these texts from now on, until the function that it returns is called."""
    forms = [form for secret in secrets if secret for form in _forms(secret)]
    pattern = re.compile("|".join(forms) or r"(?!)")
    _hidden.append(pattern)
    return lambda: _hidden.remove(pattern)


def _without_secret(match: re.Match[str]) -> str:
    scheme, userinfo = match.groups()
    user, colon, _ = userinfo.partition(":")
    if scheme.lower().endswith("ssh"):
        return f"{scheme}://{user}:{STARS}@" if colon else match[0]
    return f"{scheme}://{STARS}@"  # Over http a user name alone may be a token.


def _forms(secret: str) -> Iterator[str]:
    """Patterns of a secret, longest first: inside base64, and as it is, each character perhaps
    escaped as urls, JSON, HTML, Python or a shell do it."""
    for piece in sorted(_in_base64(secret.encode()), key=len, reverse=True):
        stable = re.escape(piece).replace(r"\+", "[+-]").replace("/", "[/_]")
        yield rf"[\w+/-]{{0,3}}{stable}[\w+/=-]{{0,3}}"
    yield "".join(map(_character, secret))


def _in_base64(secret: bytes) -> set[str]:
    """What any base64 has in it that encodes a text with this secret in it.

    A secret begins at one of three places in a group of characters, and those that it shares with
    its neighbours are not known.
    """
    pieces = set()
    for before in range(3):
        data = bytes(before) + secret
        encoded = base64.b64encode(data).decode()
        pieces.add(encoded[-(-before * 8 // 6) : len(data) * 8 // 6])
    return {piece for piece in pieces if len(piece) >= _LEAST_BASE64}


def _character(char: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in char.encode())
    written = {
        char,
        quote(char),
        json.dumps(char)[1:-1],
        repr(char)[1:-1],
        html.escape(char),
        *_WRITTEN.get(char, ()),
    }
    plain = sorted(map(re.escape, written), key=len, reverse=True)
    return f"(?:{'|'.join([*plain, f'(?i:{percent})'])})"
