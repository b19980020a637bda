"""Names of another system's branches and tags, as git can have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|(?<=\.)\.|(?<=@)\{|(?:^|(?<=/))[./]|[./]$|\.(?=lock(?:/|$))"
)


def escape(name: str) -> str:
    """Write the characters that a name must not have in git as they are written in a url."""
    return _NEVER.sub(lambda found: "".join(f"%{ord(char):02X}" for char in found[0]), name)


def name_refs(prefix: str, values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the refs of a kind by their names in git, and the names that have no place there.

    A name cannot be beside one that it would be a folder of; the shorter one stays.
    """
    named: dict[str, str] = {}
    left_out = []
    for name, value in sorted(values.items()):
        ref = prefix + escape(name)
        parts = ref.split("/")
        folders = {"/".join(parts[:end]) for end in range(3, len(parts))}
        if not name or ref in named or not folders.isdisjoint(named):
            left_out.append(name)
        else:
            named[ref] = value
    return named, left_out
