"""What an importer is: one function from a run to an outcome, one module a version control system.

An importer knows nothing of the database. It gets a :class:`Run`, brings the mirror on disk up to
date, says how it went, and calls ``run.confirm()`` right before it changes what others can see:
only a run that is still alive may publish.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from code_import.limits import Limits
from code_import.policy import Policy
from code_import.refs import Terms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RunStatus = Literal[
    "success",
    "success_nochange",
    "success_partial",
    "failure",
    "failure_invalid",
    "failure_unsupported_feature",
    "failure_forbidden",
    "failure_remote_broken",
    "internal_failure",
]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the code comes from: a url, or for cvs a root and a module."""

    rcs_type: str
    url: str | None = None
    cvs_root: str | None = None
    cvs_module: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Who a run is to its source. It may be shown to ``host`` alone, and to nobody else."""

    host: str
    """As a credential names it: with a port, if it is not the scheme's own."""
    username: str
    password: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show, in any form."""
        return self.password, f"{self.username}:{self.password}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its status, and one sentence a person can read.

    ``refs`` and ``commits`` say what was published by this run: changed refs, new commits.
    ``commits`` is None where counting them would have cost too much, as in a first mirror.
    """

    status: RunStatus
    summary: str
    refs: int = 0
    commits: int | None = 0


class RunLost(Exception):
    """The run has ended without us (reclaimed, deleted, killed): stop, publish nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one import, as an importer sees it."""

    job_id: int
    code_import_id: int
    target: str
    source: Source
    store: Path
    log: Callable[[str], None]
    """Takes one line of text without its newline. Lines are redacted before they leave the run."""
    confirm: Callable[[], None]
    """Ask whether the run is still alive; raises :class:`RunLost` when it is not.

    It may wait while the database is away, but never longer than the run's lease lives.
    """
    policy: Policy = field(default_factory=Policy)
    """What may be fetched. The default allows no local paths and no loopback addresses."""
    login: Login | None = None
    limits: Limits = field(default_factory=Limits)
    terms: Terms = field(default_factory=Terms)
    told: int = 0
    """The newest run whose changes the database has been told of."""
    ref_retention: float = 90 * 86_400
    """Seconds for which a mirror keeps what its refs were."""
    verify: bool = False
    """Whether all of the mirror is to be read and checked first."""


class Importer(Protocol):
    """A module of this package that has the name of its type."""

    def run_import(self, run: Run) -> Outcome:
        """Bring the mirror up to date. Raises RunLost; anything else raised is our own fault."""

    def missing_tools(self) -> str | None:
        """None when the tools this importer needs are here; else one line that says what is not."""
