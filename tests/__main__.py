"""Everything that is tested, with one command on a fresh machine: ``python3 tests``.

    python3 tests [ARGUMENTS OF PYTEST]     all tests and linters; for example -k claim, or -n0
    python3 tests matrix [ARGUMENTS]        the SQL on PostgreSQL 14 to 18
    python3 tests bench NAME [ARGUMENTS]    a benchmark: tests/bench/NAME.py

Needs Python 3.11 with venv, and git. Makes .venv, fetches pgTAP, starts its own servers, and
touches no database that PG* variables may name.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
sys.path.insert(0, str(TESTS))


def main(arguments: list[str]) -> None:
    """Prepare what is needed, then become the program that does the work."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    from harness import environment

    environment.scrub()
    python = _virtual_environment()
    match arguments:
        case ["bench", name, *rest] if (TESTS / "bench" / f"{name}.py").is_file():
            _become(python, "-c", _BENCH, str(TESTS), name, *rest)
        case ["bench", *_]:
            known = sorted(path.stem for path in (TESTS / "bench").glob("[a-z]*.py"))
            sys.exit(f"python3 tests bench NAME, where NAME is one of: {', '.join(known)}")
        case ["matrix", *rest]:
            _fetch_pgtap()
            from harness import matrix

            matrix.use_all_versions()
            _become(python, *_PYTEST, "-m", "sql", *rest)
        case _:
            _fetch_pgtap()
            _become(python, *_PYTEST, *arguments)


_PYTEST = ("-m", "pytest", "-n", "auto", "--maxprocesses=4", "--dist=worksteal")
_BENCH = """
import importlib, sys
tests, name, *rest = sys.argv[1:]
sys.path.insert(0, tests)
sys.exit(importlib.import_module(f"bench.{name}").main(rest))
"""


def _virtual_environment() -> Path:
    """The interpreter of .venv, made or brought up to date first."""
    spec = importlib.util.spec_from_file_location("_bootstrap", ROOT / "pyclient" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    return Path(bootstrap.ensure_venv(["test"]))


def _fetch_pgtap() -> None:
    from harness import debian

    try:
        debian.pgtap()
    except debian.NotToBeHad as missing:
        sys.exit(f"error: {missing}")


def _become(python: Path, *arguments: str) -> None:
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(python, [str(python), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
