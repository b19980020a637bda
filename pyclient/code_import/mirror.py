"""Mirrors on disk: where they are, whose they are, and how they are changed safely.

A store is a folder of bare git repositories, ``<target>.git``, and a folder ``.code-import``::

    locks/<import>          held (flock) by whoever changes the mirror of that import
    by-id/<import>          the target where the mirror of that import was put
    stage/<import>.<job>/   where a run builds what it will publish
    work/<import>/          what a conversion needs to go on from, held by the run that goes on
    aside/<import>.git      a mirror that had to make room, until its own import's next run
    damaged/<import>.<job>  a mirror that was replaced by a fresh one, for a while
    journal/<import>        what was made of a mirror, until the database has been told
    home/                   the empty home directory of all tools

A mirror knows whose it is, and the highest job id that changed it (``code-import.json``). Job ids
grow within an import, so a run that slept through its own reclaim has a lower id than its
successor, and is refused. The check and the change happen under the import's lock. Tools that
change a mirror inherit the lock, so that it is free when the last of them is gone, and not before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PRIVATE = ".code-import"
STATE = "code-import.json"

LOCK_WAIT = 300.0
"""Seconds that a run waits for another one to leave a mirror."""

TEMPORARY = "tmp"

_MEMORY = "memory.json"
_LOCK = "lock"

_TARGET = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_+][A-Za-z0-9._+-]*)*")
_LITTER = re.compile(
    r"tmp_(?:pack|idx|rev|obj|midx|bitmap)_.*|\.tmp-.*|tmp_objdir-.*|.*\.lock"
    r"|packed-refs\.new|code-import\.json\.new"
)


class BadTarget(ValueError):
    """A target that cannot be a place in a store."""


class Busy(Exception):
    """Another run did not leave the mirror in time."""


class Superseded(Exception):
    """A run with a higher job id has changed the mirror before this one."""


class Lost(Exception):
    """The mirror is not where this run has put or found it."""


@dataclass(frozen=True, slots=True)
class State:
    """What a mirror remembers of itself.

    ``fingerprint`` is that of the source's refs which it was brought in line with, ``seal`` that of
    its files then. Both are None while a run publishes, and stay so when it dies on the way.
    ``kept`` says since when old refs are kept, by the run that has kept them.
    """

    code_import_id: int
    job_id: int
    fingerprint: str | None = None
    seal: str | None = None
    damage: str | None = None
    """What was wrong when all of it was read; it is to be replaced."""
    kept: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lock:
    """The right to change the mirror of an import. Tools inherit ``fd`` to share it."""

    code_import_id: int
    fd: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A run's own place in the store: ``repository`` is where it builds. Tools inherit ``fd``."""

    repository: Path
    fd: int


@dataclass(frozen=True, slots=True)
class Workspace:
    """An import's own lasting place in the store. Tools inherit ``fd``, and so hold its lock."""

    folder: Path
    fd: int

    @property
    def home(self) -> Path:
        """The home directory of this import's tools."""
        home = self.folder / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    def recall(self) -> dict[str, Any]:
        """What the last run has remembered; empty at first, and when it cannot be read."""
        try:
            known = json.loads((self.folder / _MEMORY).read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def remember(self, known: Mapping[str, Any]) -> None:
        """Write it so that it is there as a whole, also after a power cut."""
        write_whole(self.folder / _MEMORY, json.dumps(known) + "\n")

    def clear(self) -> None:
        """Throw everything away, what it remembers first."""
        (self.folder / _MEMORY).unlink(missing_ok=True)
        for entry in list(self.folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror of an import, whether it exists or not."""

    path: Path
    code_import_id: int
    job_id: int
    """The run that looks at it."""

    def exists(self) -> bool:
        return self.path.is_dir()

    def state(self) -> State | None:
        """What it remembers; None when there is no mirror, or none that knows whose it is."""
        return read_state(self.path)

    def fence(self) -> None:
        """Refuse a run that is older than what the mirror holds. Raises Superseded."""
        state = self.state()
        if state is not None and state.job_id > self.job_id:
            raise Superseded(
                f"run {state.job_id} has changed {self.path} already, and this is run {self.job_id}"
            )

    def is_sealed(self) -> bool:
        """Whether its files are those that the last run left: same refs, same packs."""
        state = self.state()
        return state is not None and state.seal is not None and state.seal == seal(self.path)

    def begin(self) -> None:
        """Remember this run, and that the mirror is being changed."""
        self._remember()

    def finish(self, fingerprint: str, kept: Mapping[str, float] | None = None) -> None:
        """Remember what it was brought in line with, and seal the files."""
        known = {} if kept is None else {"kept": kept}
        self._remember(fingerprint=fingerprint, seal=seal(self.path), **known)

    def condemn(self, damage: str) -> None:
        """Remember that it is damaged, so that a run replaces it."""
        self._remember(damage=damage)

    def _remember(self, **known: Any) -> None:
        old = self.state()
        kept = {"kept": old.kept} if old else {}
        write_state(self.path, State(self.code_import_id, self.job_id, **{**kept, **known}))

    def clear_litter(self) -> None:
        """Remove locks and half-written files of tools that were killed.

        Only under the lock, which they would hold if they were alive.
        """
        for folder, folders, files in os.walk(self.path):
            for name in filter(_LITTER.fullmatch, files):
                with contextlib.suppress(FileNotFoundError):
                    Path(folder, name).unlink()
            for name in list(filter(_LITTER.fullmatch, folders)):
                folders.remove(name)
                shutil.rmtree(Path(folder, name), ignore_errors=True)


class Store:
    """A folder of mirrors, perhaps shared by many workers."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self._private = self.root / PRIVATE

    @property
    def home(self) -> Path:
        """An empty private directory for tools to call home."""
        return self._folder("home", 0o700)

    def path(self, target: str) -> Path:
        """Return where the mirror of a target belongs.

        Raises BadTarget for what is no target, and for one that a symbolic link would lead
        somewhere else.
        """
        parts = target.split("/")
        if (
            not _TARGET.fullmatch(target)
            or len(target) > 200
            or any(part.endswith((".git", ".lock")) for part in parts)
        ):
            raise BadTarget(f"not a target: {target!r}")
        path = self.root.joinpath(*parts[:-1], parts[-1] + ".git")
        if os.path.realpath(path) != str(path):
            raise BadTarget(f"{path} leads elsewhere by a symbolic link")
        return path

    def mirror(self, target: str, code_import_id: int, job_id: int) -> Mirror:
        return Mirror(self.path(target), code_import_id, job_id)

    @contextlib.contextmanager
    def lock(
        self, code_import_id: int, log: Callable[[str], None], wait: float | None = None
    ) -> Iterator[Lock]:
        """Hold the lock of an import. Raises Busy when nobody gives it up in time."""
        fd = self._open_lock(code_import_id)
        try:
            _flock(fd, "mirror", log, LOCK_WAIT if wait is None else wait)
            yield Lock(code_import_id, fd)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def stage(self, lock: Lock, job_id: int) -> Iterator[Stage]:
        """Make a place for a run to build in, and remove it in the end.

        ``lock`` is held at the start only: a run that sleeps in its stage is in nobody's way.
        """
        self._folder("stage")
        folder, _ = self.places(lock.code_import_id, job_id)
        _remove_stage(folder)
        folder.mkdir()
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Stage(folder / "mirror.git", fd)
        finally:
            os.close(fd)
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def workspace(
        self, code_import_id: int, log: Callable[[str], None], wait: float | None = None
    ) -> Iterator[Workspace]:
        """Hold the workspace of an import. Raises Busy when nobody gives it up in time."""
        self._folder("work", 0o700)
        _, folder = self.places(code_import_id, 0)
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(fd, "workspace", log, LOCK_WAIT if wait is None else wait)
            shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
            yield Workspace(folder, fd)
        finally:
            os.close(fd)

    def places(self, code_import_id: int, job_id: int) -> tuple[Path, Path]:
        """Return where the stage of a run and the workspace of its import are, once there are any.

        In both, tools put temporary files into a folder TEMPORARY.
        """
        stage = self._private / "stage" / f"{code_import_id}.{job_id}"
        return stage, self._private / "work" / str(code_import_id)

    def sweep(self, lock: Lock) -> None:
        """Remove the stages that killed runs have left, of this import and of any other.

        A stage is made under its import's lock, so nobody can be at it whose stage is not locked.
        """
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._private / "stage"):  # noqa: PTH208  Names, not paths.
                folder = self._private / "stage" / name
                owner = name.partition(".")[0]
                if owner == str(lock.code_import_id):
                    _remove_stage(folder)
                elif owner.isdigit():
                    with contextlib.suppress(Busy), self.lock(int(owner), _silent, 0):
                        _remove_stage(folder)

    def settle(
        self, mirror: Mirror, confirm: Callable[[], None], log: Callable[[str], None]
    ) -> None:
        """Bring the mirror of an import to its place, which a changed target may have moved.

        Whatever else is in that place is put aside, to be found by its own import's next run.
        ``confirm`` is called before anything is moved. Raises Superseded and Lost.
        """
        for _ in range(3):
            tenant = self._owner(mirror)
            with self._locks({mirror.code_import_id, tenant or mirror.code_import_id}, log):
                if tenant != self._owner(mirror):
                    continue
                if tenant == mirror.code_import_id:
                    mirror.fence()
                    self._remember(mirror)
                    return
                source = self._find(mirror.code_import_id)
                if source is None and tenant is None:
                    return
                confirm()
                self._make_room(mirror, tenant, log)
                if source is not None:
                    self._move(source, mirror, log)
                return
        raise Lost(f"other runs keep moving mirrors to {mirror.path}")

    def install(self, stage: Stage, mirror: Mirror, fingerprint: str) -> None:
        """Put what a stage holds into the mirror's place, which must be free. Raises Lost.

        Only under the lock, and after ``fence``.
        """
        staged = replace(mirror, path=stage.repository)
        staged.finish(fingerprint)
        self._remember(mirror)
        _rename(stage.repository, mirror.path, self.root)

    def journal(self, code_import_id: int) -> Path:
        """Return the file of the journal of an import's mirror."""
        return self._folder("journal", 0o700) / str(code_import_id)

    def put_away(self, mirror: Mirror) -> Path:
        """Move a damaged mirror out of the way of the one that replaces it. Returns where it is."""
        place = _free(self._folder("damaged"), f"{mirror.code_import_id}.{mirror.job_id}")
        _rename(mirror.path, place, self.root)
        return place

    def check(self, mirror: Mirror) -> None:
        """Make sure that a run may change its mirror, or put one in its place.

        Only under the lock. Raises Superseded when a later run has changed the mirror, wherever it
        is now, and Lost when the mirror, or its place, is not where this run has left it.
        """
        owner = self._owner(mirror)
        if owner == mirror.code_import_id:
            mirror.fence()
            return
        elsewhere = self._find(mirror.code_import_id)
        if elsewhere is not None:
            replace(mirror, path=elsewhere).fence()
            raise Lost(f"the mirror has moved to {elsewhere}")
        if owner is not None:
            raise Lost(f"{mirror.path} is another import's now")

    def _owner(self, mirror: Mirror) -> int | None:
        """Whose mirror is in that place: None is nobody's, 0 is unknown.

        A mirror that has lost its memory is ours if this is where we have put ours.
        """
        if not os.path.lexists(mirror.path):
            return None
        state = read_state(mirror.path)
        if state is not None:
            return state.code_import_id
        known = self._recall(mirror.code_import_id)
        return mirror.code_import_id if self._target(mirror.path) in known else 0

    def _find(self, code_import_id: int) -> Path | None:
        """Where the mirror of an import is, if it is not where it should be."""
        places = sorted((self._private / "aside").glob(f"{code_import_id}.*"))
        for known in self._recall(code_import_id):
            with contextlib.suppress(BadTarget):
                places.append(self.path(known))
        found = [(state.job_id, place) for place in places if (state := read_state(place))
                 and state.code_import_id == code_import_id]  # fmt: skip
        return max(found)[1] if found else None

    def _move(self, source: Path, mirror: Mirror, log: Callable[[str], None]) -> None:
        state = read_state(source)
        assert state is not None
        replace(mirror, path=source).fence()
        write_state(source, replace(state, job_id=mirror.job_id))
        # Both places, until it is moved: a run may be killed, or find the place taken, in between.
        self._remember(mirror, *self._recall(mirror.code_import_id))
        _rename(source, mirror.path, self.root)
        self._remember(mirror)
        log(f"The mirror has moved from {self._name(source)} to {self._name(mirror.path)}.")

    def _make_room(self, mirror: Mirror, tenant: int | None, log: Callable[[str], None]) -> None:
        if tenant is None:
            return
        place = _free(self._folder("aside"), str(tenant or "unknown"))
        _rename(mirror.path, place, self.root)
        whose = f"the mirror of import {tenant}" if tenant else "something unknown"
        log(f"{self._name(mirror.path)} was {whose}, which is now in {self._name(place)}.")

    def _remember(self, mirror: Mirror, *former: str) -> None:
        targets = list(dict.fromkeys([self._target(mirror.path), *former]))
        if self._recall(mirror.code_import_id) != targets:
            path = self._folder("by-id") / str(mirror.code_import_id)
            write_whole(path, "".join(f"{target}\n" for target in targets))

    def _recall(self, code_import_id: int) -> list[str]:
        """Where the mirror of an import was put; while it is moved, also where it was before."""
        try:
            return (self._private / "by-id" / str(code_import_id)).read_text().split()
        except FileNotFoundError:
            return []

    def _target(self, path: Path) -> str:
        return self._name(path).removesuffix(".git")

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _folder(self, name: str, mode: int = 0o755) -> Path:
        folder = self._private / name
        if not folder.is_dir():
            self._private.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=mode, exist_ok=True)
        return folder

    def _open_lock(self, code_import_id: int) -> int:
        path = self._folder("locks") / str(code_import_id)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @contextlib.contextmanager
    def _locks(self, code_import_ids: set[int], log: Callable[[str], None]) -> Iterator[None]:
        """Hold several locks: in one order, so that two runs cannot wait for each other."""
        with contextlib.ExitStack() as stack:
            for code_import_id in sorted(code_import_ids):
                stack.enter_context(self.lock(code_import_id, log))
            yield


def read_head(repository: Path) -> str:
    """What HEAD says: the full name of a branch, which need not exist, or an object id."""
    text = (repository / "HEAD").read_text("utf-8", "surrogateescape")
    return text.strip().removeprefix("ref: ")


def read_state(mirror: Path) -> State | None:
    """Return what a mirror remembers, or None when it does not, or is not there."""
    try:
        return State(**json.loads((mirror / STATE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(mirror: Path, state: State) -> None:
    """Write it so that it is there as a whole, also after a power cut."""
    write_whole(mirror / STATE, json.dumps(asdict(state)) + "\n")


def seal(mirror: Path) -> str:
    """Return a hash of what makes up a mirror: the refs byte by byte, the packs by name and size.

    It costs no process, and finds refs that somebody moved, a truncated or lost pack, and what a
    killed tool has left. It does not read objects.
    """
    digest = hashlib.sha256()
    for name in ("HEAD", "config", "packed-refs", "shallow"):
        _digest_file(digest, mirror / name, name)
    for entry in _scan(mirror / "objects"):
        digest.update(f"\0{entry.name}".encode())
    for entry in _scan(mirror / "objects/pack"):
        digest.update(f"\0{entry.name} {entry.stat().st_size}".encode())
    _digest_tree(digest, mirror / "refs", "refs")
    return digest.hexdigest()


def _digest_tree(digest: hashlib._Hash, folder: Path, name: str) -> None:
    for entry in _scan(folder):
        inner = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            _digest_tree(digest, Path(entry.path), inner)
        else:
            _digest_file(digest, Path(entry.path), inner)


def _digest_file(digest: hashlib._Hash, file: Path, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        data = file.read_bytes()
        digest.update(f"\0{name} {len(data)}\0".encode("utf-8", "surrogateescape") + data)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _flock(fd: int, what: str, log: Callable[[str], None], wait: float) -> None:
    start = time.monotonic()
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - start
            if waited >= wait:
                raise Busy(f"another run holds the lock of this import's {what}") from None
        else:
            return
        if waited > 1 and not told:
            told = True
            log(f"Another run is at this {what}: waiting for it to leave.")
        time.sleep(0.02)


def _remove_stage(folder: Path) -> None:
    """Remove a stage unless somebody is at it, be it an orphaned tool."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def _rename(source: Path, target: Path, root: Path) -> None:
    """Move a mirror within the store; nothing is ever overwritten. Raises Lost."""
    for _ in range(10):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # A file, or a folder that somebody tidied up meanwhile.
            if os.path.lexists(target.parent) and not target.parent.is_dir():
                raise Lost(f"{target.parent} is not a folder") from None
            continue
        if os.path.realpath(target) != str(target) or target.exists():
            raise Lost(f"{target} is not free")
        try:
            source.rename(target)
            break
        except FileNotFoundError:  # Its new parent was empty, and somebody tidied up.
            if not source.exists():
                raise Lost(f"{source} is gone") from None
        except OSError as err:
            if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise Lost(f"{target} is not free") from None
            raise
    else:
        raise Lost(f"{target.parent} comes and goes")
    _sync(target.parent)
    _remove_empty(source.parent, root)


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and PRIVATE not in folder.relative_to(root).parts:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _free(folder: Path, name: str) -> Path:
    number = 1
    while os.path.lexists(place := folder / f"{name}.{number}.git"):
        number += 1
    return place


def write_whole(file: Path, text: str) -> None:
    """Write a file so that the old or the new text is there, also after a power cut."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _silent(line: str) -> None:
    """A log for what is nobody's business."""
