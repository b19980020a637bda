"""How thorough a run of the tests is: ``CODE_IMPORT_TEST_LONG=10`` takes ten minutes and more."""

from __future__ import annotations

import os

_VARIABLE = "CODE_IMPORT_TEST_LONG"


def minutes() -> float:
    """How long each search may look for what is wrong; 0 in a usual run."""
    return float(os.environ.get(_VARIABLE, "0"))


def is_long() -> bool:
    """Whether to try everything, on every server."""
    return minutes() > 0
