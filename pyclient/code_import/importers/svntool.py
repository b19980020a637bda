"""Subversion's client and git svn, run in a workspace, through the gate and without prompts.

Their configuration is a folder of the workspace. What they need of a login comes to them by an
input or an inherited descriptor, and only the host of the source is ever spoken to.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

from code_import.mirror import Store
from code_import.policy import DEFAULT_PORTS

from .converted import own_repository
from .gittool import Git
from .process import Finished, ToolFailed, ToolTooSlow, closed_environment, converse, run
from .secret import secret_file
from .update import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from code_import.importers import Login, Run
    from code_import.mirror import Workspace

    from .gate import Gate
    from .update import Log

PROBE_TIMEOUT = 300.0
"""Seconds in which a server must answer one question."""
SILENCE = 600.0
"""Seconds without a sign of progress after which the server counts as stalled."""
HTTP_TIMEOUT = 120

_NOBODY = 1
"""A port that leads nowhere: the proxy for all hosts but the source's."""
_CHATTER = re.compile(
    r"branch_from: |Found possible branch point|Found branch parent|Following parent"
    r"|Successfully followed parent"
    r"|Initializing parent|Authentication realm|W: [+-]empty_dir|(?:Using existing|Checked) "
)
_ALL = 1 << 30
"""More revisions than there are."""
_UUID = re.compile(r"[0-9A-Fa-f-]{1,64}")
_MOVED = re.compile(r"E170011: Repository moved \w+ to '([^']+)'")
_PERL_PLACE = re.compile(r" at /\S+ line \d+\.(?=\s|$)")
_ASKPASS = """#!/bin/sh
exec < {path} || exit 1
IFS= read -r username
IFS= read -r password
case "$1" in
Username*) printf '%s\\n' "$username" ;;
Password*) printf '%s\\n' "$password" ;;
*) exit 1 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a repository, as its server describes it."""

    uuid: str
    revision: int
    """The newest one of the repository."""
    root: str
    url: str
    """Of the folder, in the one way of writing it that git svn compares."""
    path: str
    """From the root to the folder, without slashes around it."""


@dataclass(slots=True)
class Tools:
    """What asks the server and what converts, for one run."""

    run: Run
    log: Log
    work: Workspace
    gate: Gate
    source: str
    """Its url, as the policy has it."""
    url: str
    """Where it is reached: the same, or a port of the gate."""

    @classmethod
    def prepare(cls, run: Run, log: Log, work: Workspace, gate: Gate, url: str) -> Tools:
        """Find the way to a url that was checked, and write the configuration for it."""
        tools = cls(run, log, work, gate, url.rstrip("/"), _route(url, gate))
        tools._configure()
        return tools

    @property
    def repository(self) -> Path:
        """Where git svn converts to; made anew where there is none."""
        return own_repository(self.work, self.git)

    @property
    def git(self) -> Git:
        return Git(Store(self.run.store), "file")

    def moved(self) -> str | None:
        """The url to which an http server redirects: svn does not follow for this question."""
        if urlsplit(self.url).scheme not in ("http", "https"):
            return None
        try:
            self.stamp(0)
        except ToolFailed as failed:
            if found := _MOVED.search(failed.finished.err):
                return urljoin(f"{self.url}/", str(found[1]))
        return None

    def info(self, url: str) -> Place:
        """What is at a url now. Raises ToolFailed."""
        entry = self._ask("info", f"{url}@HEAD").find("entry")
        if entry is None or entry.get("kind") != "dir":
            raise Ended("failure_invalid", "The address is that of a file, not of a folder.")
        root, uuid = (
            entry.findtext("repository/root") or "",
            entry.findtext("repository/uuid") or "",
        )
        whole = entry.findtext("url") or ""
        # Both come to stand in git's configuration, which can name programs.
        if not _UUID.fullmatch(uuid) or not f"{whole}/".startswith(f"{root}/"):
            raise Ended("failure_remote_broken", "The server does not say which repository it has.")
        path = unquote(whole.removeprefix(root)).strip("/")
        return Place(uuid, int(entry.get("revision") or 0), root, whole, path)

    def folders(self, url: str, revision: int) -> list[str]:
        """The names of the folders in a folder of a revision; none where there is no such one."""
        try:
            found = self._ask("ls", "-r", str(revision), f"{url}@{revision}")
        except ToolFailed as failed:
            if _is_absent(failed):
                return []
            raise
        folders = found.iterfind("list/entry[@kind='dir']")
        return [entry.findtext("name") or "" for entry in folders]

    def is_folder(self, url: str, revision: int) -> bool:
        """Whether there is such a folder in a revision."""
        try:
            self._ask("info", "-r", str(revision), f"{url}@{revision}")
        except ToolFailed as failed:
            if _is_absent(failed):
                return False
            raise
        return True

    def stamp(self, revision: int) -> dict[str, str]:
        """What tells a revision from another one of that number: date, author and message."""
        found = self._ask("proplist", "--revprop", "-v", "-r", str(revision), self.url)
        properties = {each.get("name"): each.text or "" for each in found.iter("property")}
        return {name: properties.get(f"svn:{name}", "") for name in ("date", "author", "log")}

    def since(self, revision: int) -> int:
        """Since when the folder has been where it is, as it is there in a revision."""
        asked = ("--quiet", "--stop-on-copy", "--limit=1", "-r", f"1:{revision}")
        entry = self._ask("log", *asked, f"{self.url}@{revision}").find("logentry")
        return 0 if entry is None else int(entry.get("revision") or 0)

    def convert(self, last: int, heard: Callable[[bytes], None]) -> None:
        """Go on in the workspace's repository, up to a revision. Raises ToolFailed.

        git svn asks for logs of its own choice, and in each finds one life of a folder only: so it
        has to ask for all of what it wants at once.
        """
        bounded = {"PERL5LIB": str(Path(__file__).parent), "PERL5OPT": f"-Msvn_window={last}"}
        with self._login_offered() as (fds, env):
            try:
                finished = converse(
                    [
                        str(git_svn()), "fetch", f"--config-dir={self._config}",
                        "--no-auth-cache", f"--log-window-size={_ALL}", "svn",
                    ],
                    env={**self.git.environment, **env, **bounded, "LC_ALL": "C.UTF-8",
                         "PERL_HASH_SEED": "0",  # Branches of one revision in one order.
                         "GIT_DIR": str(self.repository), "HOME": str(self.work.home)},
                    cwd=self.work.home,
                    question=b"",
                    answer=heard,
                    log=self._tell,
                    keep_open=(self.work.fd, *fds),
                    silence=SILENCE,
                )  # fmt: skip
            except ToolTooSlow:
                raise _stalled(SILENCE) from None
        self._check("git svn fetch", finished)

    def clear(self) -> None:
        """Throw away all that was converted."""
        self.work.clear()
        self._configure()

    def tidy(self) -> None:
        """Pack what has come, when it has become much."""
        self.git("-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet",
                 repository=self.repository, keep_open=(self.work.fd,))  # fmt: skip

    def _ask(self, command: str, *args: str) -> ElementTree.Element:
        login = self._login
        password = () if login is None else ("--password-from-stdin",)
        argv = ["svn", command, "--xml", "--non-interactive", "--no-auth-cache",
                f"--config-dir={self._config}", *password, *args]  # fmt: skip
        try:
            finished = run(
                argv,
                env=closed_environment(self.work.home, LC_ALL="C.UTF-8", SVN_SSH="false"),
                cwd=self.work.home,
                text=None if login is None else login.password.encode(),
                keep_open=(self.work.fd,),
                timeout=PROBE_TIMEOUT,
            )
        except ToolTooSlow:
            raise _stalled(PROBE_TIMEOUT) from None
        self._check(f"svn {command}", finished)
        try:
            return ElementTree.fromstring(finished.out)
        except ElementTree.ParseError as err:
            raise ToolFailed(
                f"svn {command}", replace(finished, err=f"Malformed XML: {err}")
            ) from None

    def _check(self, what: str, finished: Finished) -> None:
        if finished.code != 0:
            err = _PERL_PLACE.sub("", self._by_its_name(finished.err))
            raise ToolFailed(what, replace(finished, err=err))

    def _tell(self, line: str) -> None:
        if not _CHATTER.match(line):
            self.log(_PERL_PLACE.sub("", self._by_its_name(line)))

    def _by_its_name(self, text: str) -> str:
        """What a tool says about the gate's port is about the source."""
        return text.replace(self._authority(self.url), self._authority(self.source))

    @staticmethod
    def _authority(url: str) -> str:
        return "{0.scheme}://{0.netloc}/".format(urlsplit(url))

    @property
    def _config(self) -> Path:
        return self.work.home / "subversion"

    def _configure(self) -> None:
        """Say where the proxy is for the source's host, that there is none for others, and who
        is to log in: a command line is no place for a name that may be a token."""
        login = self._login
        host = urlsplit(self.url).hostname or ""
        servers = "[global]\n"
        if urlsplit(self.url).scheme in ("http", "https"):
            address, port = self.gate.proxy
            # A colon would end the name of an option, and brackets stand for characters.
            pattern = f"*{host.replace(':', '?')}*" if ":" in host else host
            servers = (
                f"[groups]\nsource = {pattern}\n"
                f"[global]\nhttp-proxy-host = 127.0.0.1\nhttp-proxy-port = {_NOBODY}\n"
                f"[source]\nhttp-proxy-host = {address}\nhttp-proxy-port = {port}\n"
                f"http-timeout = {HTTP_TIMEOUT}\n"
            )
        if login is not None:
            servers += f"username = {login.username}\n"
        _ = self.repository  # What a new one begins with is an empty workspace.
        self._config.mkdir(mode=0o700, exist_ok=True)
        nothing_kept = "[auth]\npassword-stores =\nstore-passwords = no\nstore-auth-creds = no\n"
        (self._config / "config").write_text(nothing_kept)
        (self._config / "servers").write_text(servers)

    @contextmanager
    def _login_offered(self) -> Iterator[tuple[tuple[int, ...], dict[str, str]]]:
        """What git svn inherits of the login, and how it is told."""
        login = self._login
        if login is None:
            yield (), {}
            return
        with secret_file(f"{login.username}\n{login.password}\n") as secret:
            helper = self._config / "askpass"
            helper.write_text(_ASKPASS.format(path=shlex.quote(str(secret.path))))
            helper.chmod(0o700)
            yield secret.keep_open, {"GIT_ASKPASS": str(helper)}

    @property
    def _login(self) -> Login | None:
        """The login, if it is for the host of the source."""
        login, parts = self.run.login, urlsplit(self.source)
        if login is None or login.host not in (parts.hostname, parts.netloc):
            return None
        return login


def _route(url: str, gate: Gate) -> str:
    """Where a url is reached: svn:// knows no proxy, and is led to a port of the gate."""
    parts = urlsplit(url)
    if parts.scheme != "svn":
        return url.rstrip("/")
    address, port = gate.forward(parts.hostname or "", parts.port or DEFAULT_PORTS["svn"])
    return f"svn://{address}:{port}{parts.path}".rstrip("/")


def _is_absent(failed: ToolFailed) -> bool:
    return "E160013" in failed.finished.err or "E200009" in failed.finished.err


def _stalled(seconds: float) -> Ended:
    return Ended("failure", f"The server has stalled: no news in {seconds:.0f} s.")


@cache
def git_svn() -> Path | None:
    """The program behind ``git svn``; None when it is not installed.

    It is started without git before it, which would outlive it, or be outlived.
    """
    try:
        found = subprocess.run(["git", "--exec-path"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    program = Path(os.fsdecode(found.stdout.strip()), "git-svn")
    return program if os.access(program, os.X_OK) else None
