"""What the arguments of benchmarks can be: told at once, not after an hour."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path


def positive(words: str) -> float:
    """A number above nothing."""
    try:
        value = float(words)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{words} is not a number above 0")
    return value


def count(words: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(words)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{words} is not a whole number above 0")
    return value


def directory(words: str) -> Path:
    """A directory in which something can be made."""
    path = Path(words)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{words} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{words} cannot be written to")
    return path


def file(words: str) -> Path:
    """A file that can be written, whether it is there or not."""
    path = Path(words)
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise argparse.ArgumentTypeError(f"{words} cannot be written to")
    directory(str(path.parent))
    return path
