"""Everything that is tested, with one command on a fresh machine: ``python3 tests``.

    python3 tests [ARGUMENTS OF PYTEST]     all tests and linters; for example -k claim, or -n0
    python3 tests matrix [ARGUMENTS]        the SQL on PostgreSQL 14 to 18
    python3 tests bench [--quick]           ours and other queues side by side
    python3 tests bench scale [--quick]     as it grows to ten million, and for a steady day
    python3 tests bench NAME [ARGUMENTS]    another benchmark: tests/bench/NAME.py

Needs Python 3.11 with venv, and git. Makes .venv, fetches pgTAP, starts its own servers, and
touches no database that PG* variables may name.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  (said in words, not in a traceback)
    sys.exit("error: the tests need Python 3.11 or newer, and this is " + sys.version.split()[0])

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
BENCHES = ("queues", "worker", "conversions", "scale", "pressure")
# One process more than there are cores: many tests wait.
PROCESSES = str(min((os.cpu_count() or 1) + 1, 6))
PYTEST = ("-m", "pytest", "-n", PROCESSES, "--dist=worksteal")
BENCH = """
import importlib, sys
tests, name, *rest = sys.argv[1:]
sys.path.insert(0, tests)
try:
    sys.exit(importlib.import_module(f"bench.{name}").main(rest))
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
"""

sys.path.insert(0, str(TESTS))
from harness import debian, environment, matrix  # noqa: E402  (after the path it comes from)


def main(arguments: list[str]) -> None:
    """Prepare what is needed, then become the program that does the work."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    environment.scrub()
    if arguments[:1] == ["bench"]:
        become(virtual_environment(), "-c", BENCH, str(TESTS), *benchmark(arguments[1:]))
    try:
        debian.pgtap()
    except debian.NotToBeHad as missing:
        sys.exit(f"error: {missing}")
    python = virtual_environment()
    if arguments[:1] == ["matrix"]:
        matrix.use_all_versions()
        become(python, *PYTEST, "-m", "sql", *arguments[1:])
    become(python, *PYTEST, *arguments)


def benchmark(arguments: list[str]) -> list[str]:
    """The arguments, beginning with the name of a benchmark; that of the queues goes unsaid."""
    if not arguments or arguments[0].startswith("-"):
        return [BENCHES[0], *arguments]
    if arguments[0] in BENCHES:
        return arguments
    return sys.exit(f"python3 tests bench NAME, where NAME is one of: {', '.join(BENCHES)}")


def virtual_environment() -> Path:
    """The interpreter of .venv, made or brought up to date first."""
    spec = importlib.util.spec_from_file_location("_bootstrap", ROOT / "pyclient" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    return Path(bootstrap.ensure_venv(["test"]))


def become(python: Path, *arguments: str) -> None:
    """Replace this process, so that what it says last is the last that is said."""
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(python, [str(python), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
