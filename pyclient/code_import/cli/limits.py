"""The options that say what a run may use, and how it is confined."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import click

from ..limits import GIB, MIB, Limits, size_text
from .base import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"": 1, "k": 1 << 10, "m": MIB, "g": GIB, "t": GIB << 10}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SECONDS = click.FloatRange(min=0, min_open=True)
_NUMBER = click.IntRange(min=1)


def read_size(given: str | int) -> int:
    """Read a number of bytes, as ``512MiB`` or ``20G``: units are powers of 1024."""
    if isinstance(given, int):
        return given
    match = _SIZE.fullmatch(given.strip())
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size <= 0:
        raise click.BadParameter(f"{given!r} is no size: say 512MiB, or 20GiB.")
    return size


_OPTIONS: dict[str, tuple[str, str, Any, str]] = {
    "time": ("--time-limit", "SECONDS", _SECONDS, "How long one run may take."),
    "silence": (
        "--silence-limit", "SECONDS", _SECONDS, "How long a run may be without output.",
    ),
    "memory": ("--memory-limit", "SIZE", read_size, "How much memory a run may need."),
    "processes": ("--process-limit", "N", _NUMBER, "How many processes a run may have."),
    "written": ("--write-limit", "SIZE", read_size, "How much a run may add to its files."),
    "refs": ("--ref-limit", "N", _NUMBER, "How many refs a source may have."),
}  # fmt: skip


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the limits of a run as ``limits``, and the program of ``sandbox``."""
    defaults = Limits()

    @functools.wraps(command)
    def with_limits(*args: Any, sandbox: str, **options: Any) -> Any:
        limits = Limits(**{name: options.pop(f"{name}_limit") for name in _OPTIONS})
        return command(*args, limits=limits, sandbox=sandbox, **options)

    options = [
        click.option(
            flag, f"{name}_limit", metavar=metavar, type=kind, help=words,
            default=getattr(defaults, name),
            show_default=size_text(getattr(defaults, name)) if kind is read_size else True,
        )
        for name, (flag, metavar, kind, words) in _OPTIONS.items()
    ]  # fmt: skip
    options.append(
        click.option(
            "--sandbox", type=click.Choice(("auto", "require", "off")), default="auto",
            show_default=True, help="Confine the tools of a run by bubblewrap: if it works here.",
        )
    )  # fmt: skip
    for option in reversed(options):
        with_limits = option(with_limits)
    return with_limits


def choose_sandbox(mode: str) -> tuple[str | None, str]:
    """Return the program that confines tools, if it is to be used, and a word about it."""
    from ..importers.sandbox import find_sandbox

    if mode == "off":
        return None, "off"
    found = find_sandbox()
    if mode == "require" and found.program is None:
        raise Failure(
            f"no sandbox: {found.words}", hint="install bubblewrap, or use --sandbox auto"
        )
    return found.program, found.words if found.program else f"none ({found.words})"
