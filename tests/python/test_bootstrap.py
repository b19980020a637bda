"""``python3 pyclient``: what it makes of a checkout that has nothing but Python.

The checkouts here hold a package of a few lines in place of ours, which takes no time to install.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import eventually

BOOTSTRAP = Path(__file__).parents[2] / "pyclient" / "__main__.py"
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import pathlib, zipfile

NAME = "code_import-1-py3-none-any.whl"
FILES = {
    "code_import.pth": str(pathlib.Path(__file__).parent / "pyclient"),
    "code_import-1.dist-info/METADATA":
        "Metadata-Version: 2.1\\nName: code-import\\nVersion: 1\\nProvides-Extra: more\\n",
    "code_import-1.dist-info/WHEEL":
        "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "code_import-1.dist-info/entry_points.txt":
        "[console_scripts]\\ncode-import = code_import:main\\n",
}

def build_editable(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(directory, NAME), "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
        wheel.writestr("code_import-1.dist-info/RECORD", "")
    return NAME
"""
PACKAGE = """
import sys

def main():
    print(sys.prefix, *sys.argv[1:])
    sys.exit(7)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the bootstrap and a small package."""
    root = tmp_path / "a checkout"
    package = root / "pyclient" / "code_import"
    package.mkdir(parents=True)
    shutil.copy(BOOTSTRAP, root / "pyclient")
    (package / "__init__.py").write_text(PACKAGE)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "constraints.txt").write_text("")
    return root


def command(checkout: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(checkout / "pyclient"), *arguments]


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(checkout, *arguments), capture_output=True, text=True, check=False, cwd="/"
    )


def test_it_becomes_the_command_and_stays_ready(checkout: Path) -> None:
    first = run(checkout, "mirror", "a b")
    assert (first.returncode, first.stdout) == (7, f"{checkout / '.venv'} mirror a b\n")
    assert first.stderr.startswith("code-import: making .venv")
    assert len(first.stderr.splitlines()) == 1

    again = run(checkout)
    assert (again.returncode, again.stderr) == (7, "")

    with (checkout / "pyproject.toml").open("a") as changed:
        changed.write("# changed\n")
    before = (checkout / ".venv" / "pyvenv.cfg").stat().st_ino
    changed_since = run(checkout)
    assert (changed_since.returncode, changed_since.stdout) == (7, f"{checkout / '.venv'}\n")
    assert changed_since.stderr == "code-import: bringing .venv up to date …\n"
    assert (checkout / ".venv" / "pyvenv.cfg").stat().st_ino == before, "not made anew"
    assert run(checkout).stderr == ""

    moved = checkout.rename(checkout.with_name("moved"))
    elsewhere = run(moved)
    assert (elsewhere.returncode, elsewhere.stdout) == (7, f"{moved / '.venv'}\n")


def test_several_at_once_and_one_killed_half_way(checkout: Path) -> None:
    killed = subprocess.Popen(command(checkout), stderr=subprocess.DEVNULL)
    eventually((checkout / ".venv" / "bin" / "python").exists, what="it is under way")
    killed.kill()
    killed.wait()
    processes = [
        subprocess.Popen(
            command(checkout), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [7] * 3, told
    assert sorted(len(err.splitlines()) for _, err in told) == [0, 0, 1], "one did the work"


def test_extras_are_added_and_kept(checkout: Path) -> None:
    ensure = (
        "import runpy, sys; made = runpy.run_path(sys.argv[1]);"
        "print(made['ensure_venv'](sys.argv[2:]))"
    )
    for extras in ([], ["more"], []):
        done = subprocess.run(
            [sys.executable, "-c", ensure, str(checkout / "pyclient" / "__main__.py"), *extras],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(checkout / ".venv" / "bin" / "python")
    stamp = json.loads((checkout / ".venv" / ".complete").read_text())
    assert stamp["extras"] == ["more"]
    assert done.stderr == "", "what has more will do"


def test_what_cannot_be_installed_is_shown(checkout: Path) -> None:
    with (checkout / "pyproject.toml").open("a") as broken:
        broken.write("this is not TOML\n")
    done = run(checkout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the packages that code-import needs")
    assert not (checkout / ".venv" / ".complete").exists()


def pretending(checkout: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Run it in an interpreter that differs from this one in one thing."""
    program = f"import runpy, sys; {what}; runpy.run_path(sys.argv[1], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, str(checkout / "pyclient" / "__main__.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": "/usr/bin:/bin"},
    )


def test_a_python_that_is_too_old_is_told_so_in_one_line(checkout: Path) -> None:
    source = BOOTSTRAP.read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))  # older ones can read it, and so get to the check
    done = pretending(checkout, "sys.version_info = (3, 9, 2)")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: code-import needs Python 3.11 or newer, and this is 3.9 ("
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_python_without_venv_names_the_package_to_install(checkout: Path) -> None:
    done = pretending(checkout, "sys.modules['ensurepip'] = None")
    assert done.returncode == 1
    major, minor = sys.version_info[:2]
    assert done.stderr.splitlines()[-1].endswith(f"apt-get install python{major}.{minor}-venv")
