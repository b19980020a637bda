"""What a log shows, and what it does not: control characters, what urls carry, known secrets."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_import.redaction import LONGEST_LINE, clean, hide
from code_import.worker.log import RunLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "p@ss w/ö&\"'\\x+1%$"


@pytest.fixture
def hidden() -> Iterator[Callable[..., None]]:
    """Hides secrets until the end of the test."""
    undo = []
    yield lambda *secrets: undo.append(hide(secrets))
    for again in undo:
        again()


@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        ("plain\ttext", "plain\ttext"),
        ("  indented ", "  indented"),
        ("a\x00b\x07\x08c\r", "a b c"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("remote: \x1b[31mred\x1b[0m\x07\x00text", "remote: red text"),
        (
            "at https://token@host/x and http://user:secret@host",
            "at https://***@host/x and http://***@host",
        ),
        ("https://user:p@ss@host/p", "https://***@host/p"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("svn+ssh://git:secret@host/x", "svn+ssh://git:***@host/x"),
        ("Authorization: Basic abc", "Authorization: ***"),
        ("< Proxy-Authorization: Basic abc", "< Proxy-Authorization: ***"),
        ("half \udcff a character", "half ? a character"),
        ("a\u2028b\r\nc", "a b c"),
        ("x" * 9_999, "x" * (LONGEST_LINE - 1) + "…"),
    ],
)
def test_anybodys_words_are_made_fit_for_a_log(line: str, cleaned: str) -> None:
    assert clean(line) == cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "form",
    [
        str,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: quote(secret, safe="").lower(),
        lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
        lambda secret: json.dumps(secret)[1:-1],
        lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
        lambda secret: repr(secret)[1:-1],
        lambda secret: shlex.quote(secret)[1:-1],
        html.escape,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"robot:{secret}".encode()).decode(),
    ],
)
def test_a_secret_is_starred_in_every_form(
    form: Callable[[str], str], hidden: Callable[..., None]
) -> None:
    hidden(PASSWORD)
    shown = clean(f"before {form(PASSWORD)} after")
    assert re.fullmatch(r"before (cm9ib)?\*\*\* after", shown)


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
)
def test_no_base64_shows_a_secret(secret: str, before: bytes, after: bytes) -> None:
    """What is left of an encoded text has not five characters of the secret in a row."""
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    again = hide([secret])
    shown = clean(encoded)
    again()
    assert "***" in shown
    for piece in shown.split("***"):
        for shift in range(4):
            whole = piece[shift : shift + (len(piece) - shift) // 4 * 4]
            told = base64.b64decode(whole.rstrip("=") + "=" * (-len(whole.rstrip("=")) % 4))
            if secret.encode() not in before + after:
                assert not any(
                    secret[start : start + 5].encode() in told
                    and secret[start : start + 5].encode() not in before + after
                    for start in range(len(secret) - 4)
                )


def test_a_secret_is_starred_before_a_line_is_cut(hidden: Callable[..., None]) -> None:
    hidden("correct-horse")
    line = clean("x" * (LONGEST_LINE - 5) + "correct-horse")
    assert "corr" not in line
    assert len(line) <= LONGEST_LINE


def test_a_short_secret_is_starred_too(hidden: Callable[..., None]) -> None:
    hidden("abc", "bot:abc")
    assert clean("abc YWJj Ym90OmFiYw==") == "*** YWJj ***"


def test_what_is_no_longer_hidden_is_shown() -> None:
    first, second = hide(["secret"]), hide(["secret"])
    first()
    assert clean("secret") == "***"
    second()
    assert clean("secret") == "secret"
    hide([""])()
    hide([])()


def test_a_log_keeps_no_secret(hidden: Callable[..., None]) -> None:
    hidden("correct-horse")
    log = RunLog(10_000)
    assert log.write("with correct-horse") == "with ***"
    assert "horse" not in log.tail() + log.content().decode()
    log.close()


@pytest.mark.parametrize("line", ["a" * 65_536, "http://" * 9_000, "x@" * 30_000, "A:/" * 20_000])
def test_a_long_line_holds_nobody_up(line: str, hidden: Callable[..., None]) -> None:
    hidden("a" * 20 + "b", "http://a:b")
    started = time.process_time()
    clean(line)
    assert time.process_time() - started < 5
