"""Which version control systems can be imported on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

from code_import import importers
from code_import.models import RcsType

from .child import importer


def tools() -> dict[RcsType, str | None]:
    """For each type that has an importer: what keeps it from working here, or None."""
    return {
        name: importer(name).missing_tools()
        for name in get_args(RcsType)
        if find_spec(f"{importers.__name__}.{name}")
    }
