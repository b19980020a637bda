"""What mirroring costs beside what git itself costs: ``python3 tests bench worker``.

A repository of 50,000 commits is made and served over git:// and http on the loopback. Then, round
by round and in turn, git and a run do the same thing:

* first mirror: ``git clone --mirror``, and a run into an empty store
* nothing new: ``git ls-remote``, and a run that finds its mirror up to date

A run is what it is in a worker: a process of the worker's fork server, with its log and its
questions going through the worker's own end. Only the database is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

from bench import arguments
from code_import.importers import Source
from code_import.policy import Policy
from code_import.worker.child import Order
from code_import.worker.runs import RunProcess, start_forkserver
from harness.git_servers import serve_git, serve_http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkServerContext

MOST_TIMES_A_CLONE = 1.1
MOST_SECONDS_MORE = 0.050
POLICY = Policy(allow_hosts=("127.0.0.1",))

_job_ids = count(1)


@dataclass(slots=True)
class Measured:
    """Seconds that git and a run took, round by round."""

    git: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)


def main(argv: list[str]) -> int:
    """Measure, print, and return 0 when both bars are met, else 1."""
    options = _options(argv)
    context = start_forkserver(["git"])
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as folder:
        root = Path(folder)
        source = root / "served" / "source.git"
        print(f"making a repository of {options.commits:,} commits in {root}", flush=True)
        make_repository(source, options.commits)
        met = True
        for name, url in _serve(source, options.transports):
            print(f"\n{name}: {options.rounds} rounds, load {os.getloadavg()[0]:.1f}", flush=True)
            met &= _bench(context, root, url, options.rounds)
    return 0 if met else 1


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 tests bench worker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--commits", type=arguments.count, default=50_000)
    parser.add_argument("--rounds", type=arguments.count, default=7)
    parser.add_argument(
        "--transports", type=_transports, default="git,http", help="default: %(default)s"
    )
    parser.add_argument(
        "--directory", type=arguments.directory, help="where everything is put, and removed again"
    )
    return parser.parse_args(argv)


def _transports(words: str) -> list[str]:
    names = words.split(",")
    if unknown := set(names) - {"git", "http"}:
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is neither git nor http")
    return names


def make_repository(path: Path, commits: int) -> None:
    """Make the same repository each time: a long history, branches and tags, packed as hosts do."""
    run_git("init", "--quiet", "--bare", "--initial-branch=main", str(path))
    command = ["git", f"--git-dir={path}", "fast-import", "--quiet", "--done"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as importer:
        assert importer.stdin is not None
        _write_history(importer.stdin, commits)
        importer.stdin.close()
    if importer.returncode:
        sys.exit("git fast-import failed")
    run_git(f"--git-dir={path}", "repack", "-a", "-d", "-q")


def _write_history(out: IO[bytes], commits: int) -> None:
    chance = random.Random(50_000)
    on_main = 0
    for number in range(1, commits + 1):
        aside = number % 500 == 0
        branch = f"refs/heads/topic/{number // 500}" if aside else "refs/heads/main"
        message = f"commit {number}\n"
        lines = "".join(f"{chance.getrandbits(64):016x}\n" for _ in range(chance.randint(3, 30)))
        file = f"folder{chance.randint(0, 40)}/file{chance.randint(0, 50)}"
        parent = f"from :{on_main}\n" if on_main else ""
        out.write(
            f"commit {branch}\nmark :{number}\n"
            f"committer A Tester <tester@example.org> {1_500_000_000 + number * 60} +0000\n"
            f"data {len(message)}\n{message}{parent}"
            f"M 100644 inline {file}\ndata {len(lines)}\n{lines}\n".encode()
        )
        if not aside:
            on_main = number
        if number % 1_000 == 0:
            out.write(f"reset refs/tags/t{number // 1_000}\nfrom :{number}\n\n".encode())
    out.write(b"done\n")


def _serve(source: Path, transports: list[str]) -> Iterator[tuple[str, str]]:
    for name in transports:
        with contextlib.ExitStack() as stack:
            if name == "http":
                base = stack.enter_context(serve_http(source.parent)).url
            else:
                base = stack.enter_context(serve_git(source.parent))
            yield name, f"{base}/{source.name}"


def _bench(context: ForkServerContext, root: Path, url: str, rounds: int) -> bool:
    clone, store = root / "clone.git", root / "store"

    def fresh() -> None:
        for folder in (clone, store):
            shutil.rmtree(folder, ignore_errors=True)
        os.sync()

    first = measure(
        rounds,
        lambda: run_git("clone", "--quiet", "--mirror", url, str(clone)),
        lambda: run_once(context, store, url, "success"),
        before=fresh,
    )
    nothing = measure(
        rounds * 3,
        lambda: run_git("ls-remote", url),
        lambda: run_once(context, store, url, "success_nochange"),
    )
    ratio = median(first.run) / median(first.git)
    more = median(nothing.run) - median(nothing.git)
    met = [
        tell("first mirror", "git clone --mirror", first, f"{ratio:.3f} times",
              f"at most {MOST_TIMES_A_CLONE}", ratio <= MOST_TIMES_A_CLONE),
        tell("nothing new", "git ls-remote", nothing, f"{more * 1000:.1f} ms more",
              f"at most {MOST_SECONDS_MORE * 1000:.0f}", more <= MOST_SECONDS_MORE),
    ]  # fmt: skip
    return all(met)


def measure(
    rounds: int,
    git: Callable[[], None],
    run: Callable[[], None],
    before: Callable[[], None] = lambda: None,
) -> Measured:
    """Time both, each first in every other round, after a round that does not count."""
    measured = Measured()
    for number in range(rounds + 1):
        before()
        pairs = [(git, measured.git), (run, measured.run)]
        for work, times in pairs if number % 2 else reversed(pairs):
            start = time.perf_counter()
            work()
            if number:
                times.append(time.perf_counter() - start)
    return measured


def run_git(*args: str) -> None:
    """Run git and throw its output away."""
    subprocess.run(["git", *args], check=True, stdout=subprocess.DEVNULL)


def run_once(context: ForkServerContext, store: Path, source: str | Source, expected: str) -> None:
    """Do one run as a worker does, and make sure that it ended as expected."""
    job_id = next(_job_ids)
    if isinstance(source, str):
        source = Source("git", source)
    order = Order(job_id, 1, "bench/source", source, store, POLICY, 300.0)
    assignment: Any = SimpleNamespace(id=job_id)
    with selectors.DefaultSelector() as selector:
        process = RunProcess(
            assignment, context, selector, order, 1 << 20, lambda _run, _line: None
        )
        while not process.ended:
            for key, _ in selector.select():
                key.data()
            if process.confirming:
                process.answer(True)
    outcome, log = process.outcome, process.log.content().decode()
    process.close()
    if outcome is None or outcome.status != expected:
        sys.exit(f"a run ended as {outcome}, and not as {expected}:\n{log}")


def tell(what: str, peer: str, measured: Measured, difference: str, bar: str, met: bool) -> bool:
    print(f"  {what}")
    for name, times in ((peer, measured.git), ("a run", measured.run)):
        print(
            f"    {name:<20} median {median(times) * 1000:9.1f} ms"
            f"   least {min(times) * 1000:9.1f}   most {max(times) * 1000:9.1f}"
        )
    print(
        f"    difference           {difference} ({bar}): {'met' if met else 'MISSED'}", flush=True
    )
    return met
