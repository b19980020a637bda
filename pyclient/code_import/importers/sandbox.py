"""The sandbox: what the tools of a run may see, and where they may write.

A tool reads what strangers send. With bubblewrap it sees programs, what the network needs, the
mirror and a source on disk, none of which it can change, and it writes in the run's own places
alone. It sees no other processes, has no privileges, and dies with whoever has started it.

The network is the machine's: which hosts a tool reaches is the gate's business.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from code_import.mirror import TEMPORARY, BadTarget, Store
from code_import.policy import Forbidden

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from code_import.importers import Run

BUBBLEWRAP = "bwrap"
PROBE_TIMEOUT = 20.0
PRIVATE_TMP = 64 << 20
"""Bytes of memory that /tmp of a tool may hold. What is large goes where TMPDIR says."""
MOST_BORROWED = 100
"""Places that a repository on disk may be spread over."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "gai.conf", "group", "host.conf", "hosts",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "passwd", "pki",
    "protocols", "resolv.conf", "services", "ssl",
)  # fmt: skip
_INSTALLATION = ("bin", "lib", "lib64", "libexec", "pyvenv.cfg")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where the tools of one run are.

    ``program`` is bubblewrap; without it they are free, and only told where temporary files go.
    What is not there when a tool starts is left out.
    """

    program: str | None
    own: Sequence[Path] = ()
    """The run's places, which are written to, and hold its temporary files: the first that is."""
    seen: Sequence[Path] = ()
    """What is read besides."""

    def command(self, argv: Sequence[str], cwd: Path, changed: Collection[Path]) -> list[str]:
        """What to start in place of a tool, which may also write to what it is to change."""
        if self.program is None:
            return list(argv)
        return [
            self.program, "--unshare-all", "--share-net", "--die-with-parent", "--cap-drop", "ALL",
            "--proc", "/proc", "--dev", "/dev", "--size", str(PRIVATE_TMP), "--tmpfs", "/tmp",
            *_system(), "--dir", str(cwd),
            *_bound("--ro-bind", [*_installation(argv[0]), *self.seen]),
            *_bound("--bind", [*self.own, *changed]),
            "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(cwd), "--", *argv,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """What tools are told: temporary files count as the run's, and go with its places."""
        for place in self.own:
            if place.is_dir():
                temporary = place / TEMPORARY
                temporary.mkdir(mode=0o700, exist_ok=True)
                return {"TMPDIR": str(temporary)}
        return {}


@dataclass(frozen=True, slots=True)
class Found:
    """Whether a sandbox is to be had: its program, and what there is to say about it."""

    program: str | None
    words: str


def find_sandbox() -> Found:
    """Try bubblewrap. It may be missing, or be refused what it needs, as in some containers."""
    program = shutil.which(BUBBLEWRAP)
    if program is None:
        return Found(None, "bubblewrap is not installed")
    try:
        subprocess.run(
            Sandbox(program).command(["true"], Path("/"), ()),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, cwd="/",
            timeout=PROBE_TIMEOUT,
        )  # fmt: skip
    except subprocess.CalledProcessError as failed:
        said = failed.stderr.strip().splitlines() or [f"exit code {failed.returncode}"]
        return Found(None, f"bubblewrap does not work here: {said[-1]}")
    except (OSError, subprocess.TimeoutExpired) as err:
        return Found(None, f"bubblewrap does not work here: {err}")
    return Found(program, "bubblewrap")


def sandbox_of(run: Run, program: str | None) -> Sandbox:
    """Return the sandbox of a run; what the run will be refused anyway is not in it."""
    store = Store(run.store)
    seen: list[Path] = []
    with contextlib.suppress(BadTarget):
        seen.append(store.path(run.target))
    with contextlib.suppress(Forbidden):
        path = run.policy.local_path(run.source)
        if path is not None:
            seen += source_places(path, run.source.rcs_type)
    return Sandbox(program, store.places(run.code_import_id, run.job_id), seen)


def source_places(path: Path, rcs_type: str) -> list[Path]:
    """What a repository on disk consists of: itself, and where it has its objects from."""
    if rcs_type == "git":
        return _git_places(path)
    shares = [place for folder in path.parents for place in _shared(folder, rcs_type)]
    return [path, *shares, *_named(path / ".hg/sharedpath", "", path / ".hg")]


def _git_places(repository: Path) -> list[Path]:
    """A repository, what it is a worktree of, and what it borrows from."""
    found: list[Path] = []
    unseen = [repository]
    while unseen and len(found) < MOST_BORROWED:
        place = Path(os.path.realpath(unseen.pop()))
        if place in found:
            continue
        found.append(place)
        if place.is_file():
            unseen += _named(place, "gitdir: ", place.parent)
        unseen += _named(place / "commondir", "", place)
        unseen += _named(place / "objects/info/alternates", "", place / "objects")
        unseen += _named(place / "info/alternates", "", place)
    return found


def _named(file: Path, prefix: str, base: Path) -> Iterator[Path]:
    """The paths that a file names, which are relative to a folder."""
    try:
        lines = os.fsdecode(file.read_bytes()).splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith(prefix) and not line.startswith("#") and line != prefix:
            yield base / line.removeprefix(prefix)


def _shared(folder: Path, rcs_type: str) -> Iterator[Path]:
    """What a source in a folder below has in common with others."""
    if rcs_type == "bzr" and (folder / ".bzr").is_dir():
        yield folder / ".bzr"
    elif rcs_type == "svn" and (folder / "format").is_file() and (folder / "db").is_dir():
        yield folder


@functools.cache
def _system() -> tuple[str, ...]:
    """Programs, libraries, and what looks up hosts and trusts certificates."""
    options: list[str] = []
    for name in _SYSTEM:
        if os.path.islink(name):  # noqa: PTH114
            options += ("--symlink", os.readlink(name), name)  # noqa: PTH115
        else:
            options += _bound("--ro-bind", [Path(name)])
    options += _bound("--ro-bind", [Path("/etc", name) for name in _ETC])
    ours = [Path(__file__).parents[1], *_prefix(Path(sys.prefix)), *_prefix(Path(sys.base_prefix))]
    options += _bound("--ro-bind", filter(_is_apart, ours))
    return tuple(options)


@functools.cache
def _installation(tool: str) -> tuple[Path, ...]:
    """What belongs to a tool that is not one of the system's."""
    program = shutil.which(tool)
    if program is None:
        return ()
    homes = {Path(program).parent, Path(os.path.realpath(program)).parent}
    return tuple(part for home in homes for part in _parts(home) if _is_apart(part))


def _parts(home: Path) -> list[Path]:
    return _prefix(home.parent) if home.name in ("bin", "sbin") else [home]


def _prefix(prefix: Path) -> list[Path]:
    return [prefix / part for part in _INSTALLATION]


def _is_apart(path: Path) -> bool:
    return not any(path.is_relative_to(place) for place in _SYSTEM)


def _bound(option: str, paths: Iterable[Path]) -> list[str]:
    there = [str(path) for path in dict.fromkeys(paths) if _exists(path)]
    return [word for path in there for word in (option, path, path)]


def _exists(path: Path) -> bool:
    """Whether it is there for us; what we have no right to look at is not."""
    return os.path.exists(path)  # noqa: PTH110  The other one raises.
