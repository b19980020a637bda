"""How thorough a run of the tests is: ``CODE_IMPORT_TEST_LONG=10`` searches for ten minutes."""

from __future__ import annotations

import os

import pytest

_VARIABLE = "CODE_IMPORT_TEST_LONG"


def minutes() -> float:
    """How long a search may look for what is wrong; 0 in a usual run."""
    return float(os.environ.get(_VARIABLE, "0"))


def is_long() -> bool:
    """Whether to try everything there is."""
    return minutes() > 0


def marks() -> list[pytest.MarkDecorator]:
    """For tests that meet every server in long runs, and have the time."""
    if not is_long():
        return []
    return [pytest.mark.sql, pytest.mark.timeout(60 * minutes() + 1200)]
