"""What converting costs beside the bare tools: ``python3 tests bench conversions``.

A Bazaar branch, a CVS module, a Mercurial repository and a Subversion folder of some thousand
commits are made and served on the loopback. Then, round by round and in turn, the tools and a run
do the same thing:

* first mirror, Bazaar: ``brz branch`` and ``brz push --lossy`` into git, and a run
* first mirror, CVS: ``git cvsimport``, and a run
* first mirror, Mercurial: ``git clone`` by git-remote-hg, and a run
* first mirror, Subversion: ``git svn init`` and ``git svn fetch``, and a run
* nothing new: the same tools once more, and a run
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.worker import measure, run_once, tell
from code_import.importers import Source, svn
from code_import.worker.runs import start_forkserver
from harness import debian
from harness.bzr_servers import Branch, brz, need_bzr, serve_bzr
from harness.cvs_servers import CvsRepository, need_cvs, serve_cvs, write_master
from harness.hg_servers import Mercurial, need_hg, serve_hg
from harness.svn_servers import Subversion, serve_svn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.worker import Measured

MOST_TIMES_THE_TOOLS = 1.1
FILES = 200
BEGIN = 1_000_000_000


def main(argv: list[str]) -> int:
    """Measure, print, and return 0 when the bars are met, else 1."""
    options = _options(argv)
    types = options.types.split(",")
    context = start_forkserver(types)
    met = True
    for name in types:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as folder:
            root = Path(folder)
            root.chmod(0o755)
            print(f"\n{name}: making {options.commits:,} commits in {root}", flush=True)
            with SERVED[name](root, options.commits) as (source, tools):
                print(f"{options.rounds} rounds, load {os.getloadavg()[0]:.1f}", flush=True)
                met &= _bench(context, root, source, tools, options)
    return 0 if met else 1


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 tests bench conversions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--types", default="bzr,cvs,hg,svn", help="default: %(default)s")
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where everything is put, and removed again")
    return parser.parse_args(argv)


def _bench(
    context: Any, root: Path, source: Source, tools: Callable[[], None], options: argparse.Namespace
) -> bool:
    store, bare = root / "store", root / "bare"

    def fresh() -> None:
        for folder in (bare, store):
            shutil.rmtree(folder, ignore_errors=True)
        bare.mkdir()
        os.sync()

    first = measure(
        options.rounds, tools, lambda: run_once(context, store, source, "success"), before=fresh
    )
    nothing = measure(
        options.rounds, tools, lambda: run_once(context, store, source, "success_nochange")
    )
    for name, times in (("the bare tools", first.git), ("a run", first.run)):
        print(f"  {name}: {options.commits / median(times):,.0f} commits a second")
    return all([_tell("first mirror", first), _tell("nothing new", nothing)])


def _tell(what: str, measured: Measured) -> bool:
    ratio = median(measured.run) / median(measured.git)
    bar = f"at most {MOST_TIMES_THE_TOOLS}"
    is_met = ratio <= MOST_TIMES_THE_TOOLS
    return tell(what, "the bare tools", measured, f"{ratio:.3f} times", bar, is_met)


@contextmanager
def _serve_bzr(root: Path, commits: int) -> Iterator[tuple[Source, Callable[[], None]]]:
    _need(need_bzr())
    chance = random.Random(commits)
    branch = Branch(root / "served/branch")
    revisions: list[dict[str, Any]] = [{"id": "r0", "parents": [], "actions": [
        ("add", ["", "root", "directory", None]),
        *(("add", [f"file{number}", f"f{number}", "file", "\n"]) for number in range(FILES)),
    ]}]  # fmt: skip
    for number in range(1, commits):
        file = f"file{chance.randrange(FILES)}"
        actions = [("modify", [file, _text(chance)])]
        revisions.append({"id": f"r{number}", "parents": [f"r{number - 1}"], "actions": actions})
    branch.build(revisions, f"r{commits - 1}")
    with serve_bzr(root / "served") as base:
        url = f"{base}/branch"

        def tools() -> None:
            work, target = root / "bare/work", root / "bare/target.git"
            if work.exists():
                brz(work, "pull", "--overwrite", url)
            else:
                _run(["git", "init", "-q", "--bare", str(target)])
                brz(root / "bare", "branch", "--no-tree", url, "work")
            brz(work, "push", "--lossy", "--overwrite", f"file://{target},branch=main")

        yield Source("bzr", url), tools


@contextmanager
def _serve_cvs(root: Path, commits: int) -> Iterator[tuple[Source, Callable[[], None]]]:
    _need(need_cvs())
    try:
        debian.need(["cvsps"], "git-cvs", "cvsps")
    except debian.NotToBeHad as error:
        sys.exit(str(error))
    chance = random.Random(commits)
    repository = CvsRepository(root / "served/cvs")
    changes: dict[int, list[tuple[int, str, str]]] = {number: [] for number in range(FILES)}
    for number in range(commits):
        for file in chance.sample(range(FILES), 1 if number else FILES):
            changes[file].append((BEGIN + number * 600, f"commit {number}", _text(chance)))
    for file, history in changes.items():
        write_master(repository.path / f"module/file{file},v", history)
    with serve_cvs(repository.path) as server:
        cvs_root = server.root()

        def tools() -> None:
            bare = root / "bare"
            (bare / ".cvspass").touch()
            argv = ["git", "cvsimport", "-a", "-i", "-k", "-R", "-o", "main", "-d", cvs_root]
            _run([*argv, "module"], HOME=str(bare), GIT_DIR=str(bare / "target.git"), cwd=str(bare))

        yield Source("cvs", cvs_root=cvs_root, cvs_module="module"), tools


@contextmanager
def _serve_svn(root: Path, commits: int) -> Iterator[tuple[Source, Callable[[], None]]]:
    _need(svn.missing_tools())
    chance = random.Random(commits)
    repository = Subversion.create(root / "served/repo")
    repository.make_standard()
    for _ in range(1, commits):
        repository.put(f"trunk/file{chance.randrange(FILES)}", _text(chance))
    with serve_svn(root / "served") as base:
        url = f"{base}/repo"

        def tools() -> None:
            target = root / "bare/target.git"
            if not target.exists():
                _run(["git", "init", "-q", "--bare", str(target)])
                _run(["git", "svn", "init", "--stdlayout", url], GIT_DIR=str(target))
            _run(["git", "svn", "fetch", "--quiet"], GIT_DIR=str(target))

        yield Source("svn", url), tools


@contextmanager
def _serve_hg(root: Path, commits: int) -> Iterator[tuple[Source, Callable[[], None]]]:
    _need(need_hg())
    try:
        debian.need(["git-remote-hg"], "git-remote-hg")
    except debian.NotToBeHad as error:
        sys.exit(str(error))
    repository = Mercurial.create(root / "served/hg")
    repository.hg("debugbuilddag", "--new-file", f"+{commits}")
    with serve_hg(repository.path) as url:

        def tools() -> None:
            target = root / "bare/target.git"
            if target.exists():
                _run(["git", f"--git-dir={target}", "fetch", "-q", "--prune"])
            else:
                _run(["git", "clone", "-q", "--bare", f"hg::{url}", str(target)])

        yield Source("hg", url), tools


SERVED = {"bzr": _serve_bzr, "cvs": _serve_cvs, "hg": _serve_hg, "svn": _serve_svn}


def _text(chance: random.Random) -> str:
    return "".join(f"{chance.getrandbits(64):016x}\n" for _ in range(chance.randint(3, 30)))


def _need(missing: str | None) -> None:
    if missing is not None:
        sys.exit(missing)


def _run(argv: list[str], cwd: str | None = None, **env: str) -> None:
    done = subprocess.run(
        argv, env={**os.environ, **env}, cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stderr}")
