"""Files that come from Debian packages and are not ours to copy: pgTAP, plpgsql_check, pgbouncer.

A package is downloaded and unpacked into the user's cache; nothing is installed, so no root is
needed; but the tools of other version control systems are (:func:`need`). Standard library only:
``python3 tests`` uses it before there is a virtual environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PGTAP_VARIABLE = "CODE_IMPORT_PGTAP"
INSTALLED = Path("/usr/share/postgresql")


class NotToBeHad(Exception):
    """A file that tests need is neither here nor can be fetched; says what to do."""


def pgtap() -> Path:
    """The SQL file that makes pgTAP's functions: named by the user, installed, or fetched."""
    if named := os.environ.get(PGTAP_VARIABLE):
        if not Path(named).is_file():
            raise NotToBeHad(f"{PGTAP_VARIABLE} names {named}, which is not a file")
        return Path(named)
    places = [*INSTALLED.glob("*/extension"), cache() / "pgtap"]
    for place in places:
        if found := _newest(place, "pgtap--*.sql"):
            return found
    try:
        package = _first_package(r"postgresql-\d+-pgtap", depends_of="pgtap")
        with tempfile.TemporaryDirectory(prefix="code_import-deb-") as scratch:
            unpacked = _unpack(package, Path(scratch))
            found = _newest(next(unpacked.glob("usr/share/postgresql/*/extension")), "pgtap--*.sql")
            assert found is not None, f"no pgtap--*.sql in package {package}"
            return _keep(found, "pgtap")
    except (OSError, subprocess.SubprocessError, StopIteration, LookupError) as error:
        raise NotToBeHad(
            f"pgTAP is missing and could not be fetched ({_reason(error)}). Install the Debian "
            f"package pgtap, or let {PGTAP_VARIABLE} name a file pgtap--VERSION.sql"
        ) from error


def plpgsql_check(major: int) -> tuple[Path, Path]:
    """The library and the SQL file of plpgsql_check, as built for Debian's server ``major``."""
    kept = cache() / f"plpgsql_check-{major}"
    library, script = kept / "plpgsql_check.so", _newest(kept, "plpgsql_check--*.sql")
    if library.is_file() and script is not None:
        return library, script
    package = f"postgresql-{major}-plpgsql-check"
    try:
        with tempfile.TemporaryDirectory(prefix="code_import-deb-") as scratch:
            unpacked = _unpack(_first_package(re.escape(package)), Path(scratch))
            (built,) = unpacked.glob("usr/lib/postgresql/*/lib/plpgsql_check.so")
            (made,) = unpacked.glob("usr/share/postgresql/*/extension/plpgsql_check--*.sql")
            return _keep(built, kept.name), _keep(made, kept.name)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        raise NotToBeHad(f"Debian's {package} cannot be fetched: {_reason(error)}") from error


def pgbouncer() -> Path:
    """A folder with the program pgbouncer and the libraries that come from packages with it."""
    kept = cache() / "pgbouncer"
    if (kept / "pgbouncer").is_file():
        return kept
    try:
        for wanted in (r"libc-ares2\w*", r"libevent-2\.1-7\w*", "pgbouncer"):
            with tempfile.TemporaryDirectory(prefix="code_import-deb-") as scratch:
                unpacked = _unpack(_first_package(wanted), Path(scratch))
                for place in ("usr/sbin/pgbouncer", "usr/lib/*/*.so.*"):
                    for file in unpacked.glob(place):
                        _keep(file, kept.name)
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        raise NotToBeHad(f"Debian's pgbouncer cannot be fetched: {_reason(error)}") from error
    return kept


def need(programs: Iterable[str], *packages: str) -> None:
    """Make sure that programs are there; root has them installed. Raises NotToBeHad."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    advice = f"{', '.join(missing)} not found: install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotToBeHad(advice)
    command = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq",
               "--no-install-recommends", *packages)  # fmt: skip
    try:
        try:
            _apt(*command)
        except subprocess.CalledProcessError:
            _apt("apt-get", "update", "-qq")
            _apt(*command)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotToBeHad(f"{advice} ({_reason(error)})") from error


def cache() -> Path:
    """Where fetched files are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "code-import" / "tests"


def _newest(directory: Path, pattern: str) -> Path | None:
    """The file of the highest version; upgrade scripts (``pgtap--1.0--1.1.sql``) are none."""
    plain = [path for path in directory.glob(pattern) if path.name.count("--") == 1]
    versioned = [path for path in plain if re.search(r"--\d", path.name)]
    return max(
        versioned, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)], default=None
    )


def _first_package(pattern: str, depends_of: str | None = None) -> str:
    """The name of a package that apt knows; its lists are brought up to date first if need be."""
    for attempt in ("as it is", "updated"):
        if attempt == "updated":
            if os.geteuid() != 0:
                break
            _apt("apt-get", "update", "-qq")
        begins = re.split(r"[^a-z]", pattern)[0]
        query = ("depends", depends_of) if depends_of else ("pkgnames", begins)
        known = subprocess.run(
            ["apt-cache", *query], capture_output=True, text=True, check=False, timeout=60
        ).stdout
        if found := re.search(rf"^\W*(?:\w+: )?({pattern})$", known, re.MULTILINE):
            return found.group(1)
    raise LookupError(f"apt knows no package {depends_of or pattern}; run apt-get update as root")


def _unpack(package: str, scratch: Path) -> Path:
    try:
        _apt("apt-get", "download", "-qq", package, cwd=scratch)
    except subprocess.CalledProcessError:
        if os.geteuid() != 0:
            raise
        _apt("apt-get", "update", "-qq")  # the lists may name a version that is gone
        _apt("apt-get", "download", "-qq", package, cwd=scratch)
    (archive,) = scratch.glob("*.deb")
    subprocess.run(["dpkg", "-x", archive, scratch / "unpacked"], check=True, timeout=60)
    return scratch / "unpacked"


def _apt(*command: str, cwd: Path | None = None) -> None:
    options = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
    subprocess.run(
        [*command, *options],
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def _keep(file: Path, name: str) -> Path:
    """Copy a file into the cache; two runs at once leave one whole file."""
    directory = cache() / name
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as half:
        half.write(file.read_bytes())
    shutil.copymode(file, half.name)
    return Path(half.name).replace(directory / file.name)


def _reason(error: BaseException) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"{error.cmd[0]} failed"
    return str(error) or type(error).__name__
