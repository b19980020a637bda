"""``python3 pyclient …``: makes .venv with the package in it, then becomes ``code-import …``.

Runs on a fresh machine with nothing but Python and its venv. The version is checked before
anything that older Pythons lack is evaluated, so this file keeps to what they can read.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(
        "error: code-import needs Python 3.11 or newer, and this is"
        f" {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
    )

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".complete"


def ensure_venv(extras: list[str] | tuple[str, ...] = ()) -> Path:
    """Return the interpreter of .venv, which has the package and at least these extras.

    Makes .venv when it is missing, half-made, broken, or older than pyproject.toml or
    constraints.txt. Any number of processes may ask at once: one works, the others wait.
    Exits with one line when it cannot be done.
    """
    if _missing(extras) is None:
        return PYTHON
    with _alone():
        wanted = _missing(extras)
        if wanted is not None:
            _make(wanted)
    return PYTHON


def _missing(extras: list[str] | tuple[str, ...]) -> list[str] | None:
    """None when .venv will do, else all the extras that it should get."""
    stamp = _read_stamp()
    wanted = sorted({*stamp.get("extras", []), *extras})
    complete = stamp == _stamp(wanted) and os.access(PYTHON, os.X_OK)
    return None if complete else wanted


def _read_stamp() -> dict[str, list[str]]:
    try:
        stamp: dict[str, list[str]] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _stamp(extras: list[str]) -> dict[str, list[str]]:
    """What a complete .venv says of itself: where it is, of what Python, from which files."""
    described = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        described.update((ROOT / name).read_bytes())
    made_with = [str(ROOT), os.path.realpath(PYTHON), described.hexdigest()]
    return {"made_with": made_with, "extras": extras}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the checkout's own directory as a lock: it needs no file that somebody must clean up."""
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _make(extras: list[str]) -> None:
    """Make .venv, or bring it up to date; its stamp is taken first and given back last."""
    half_made = not STAMP.exists()
    moved = _read_stamp().get("made_with", [])[:2] != _stamp([])["made_with"][:2]
    uv = shutil.which("uv")
    if half_made or moved:
        _say("making .venv (once; about 20 s)" if not uv else "making .venv (once)")
        _remove_venv()
        _create(uv)
    else:
        _say("bringing .venv up to date")
        STAMP.unlink()
    _install(uv, extras)
    written = STAMP.with_name(STAMP.name + ".new")
    written.write_text(json.dumps(_stamp(extras)))
    written.replace(STAMP)


def _install(uv: str | None, extras: list[str]) -> None:
    """Install the package, editable, in the pinned versions if this machine can have those."""
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    else:
        install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--editable", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)]
    pinned = [*install, "--constraint", str(ROOT / "constraints.txt")]
    if subprocess.run(pinned, capture_output=True, check=False).returncode != 0:
        _say("the versions of constraints.txt are not to be had; taking others")
        _run(install, "the packages that code-import needs could not be installed")


def _create(uv: str | None) -> None:
    base = getattr(sys, "_base_executable", None) or sys.executable
    if uv:
        command = [uv, "venv", "--quiet", "--python", base, str(VENV)]
    elif importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            "error: this Python cannot make virtual environments; on Debian and Ubuntu:"
            f" apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    else:
        command = [base, "-m", "venv", str(VENV)]
    _run(command, f"no virtual environment could be made in {VENV}")


def _remove_venv() -> None:
    try:
        if VENV.is_symlink():
            VENV.unlink()
        elif VENV.exists():
            shutil.rmtree(VENV)
    except OSError as error:
        sys.exit(f"error: .venv cannot be replaced: {error}")


def _run(command: list[str], failure: str) -> None:
    """Run quietly; on failure show what the program said, and exit."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit(f"error: {failure}")


def _say(what: str) -> None:
    sys.stderr.write(f"code-import: {what} …\n")
    sys.stderr.flush()


def main() -> None:
    """Become ``code-import`` with the same arguments."""
    python = ensure_venv()
    os.execv(python, [str(python), str(VENV / "bin" / "code-import"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
