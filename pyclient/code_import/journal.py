"""What runs make of a mirror, on its way to the database.

A run writes down what it is about to change before it does so. Its worker tells the database when
the run is over; if it dies before that, the import's next run sees what became of the mirror, and
its worker tells both. So no change is lost, and none is told that was not made.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from code_import.mirror import write_whole
from code_import.refs import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(slots=True)
class Journal:
    """The journal of one import's mirror, as far as it may not have been told."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    """What was made, by which runs: ``job_id``, ``ref``, ``kind``, ``old`` and ``new``."""
    pending: list[dict[str, Any]] = field(default_factory=list)
    """What was about to be made."""
    held: list[dict[str, Any]] | None = None
    """What the newest run that has compared has held back; None when there was none."""
    held_by: int = 0
    verified_by: int = 0
    """The newest run that has read the whole mirror."""
    damage: str | None = None

    @classmethod
    def read(cls, file: Path) -> Journal:
        """Read it; an empty one when there is none, or none that can be read."""
        try:
            return cls(**json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, file: Path) -> None:
        """Write it so that it is there as a whole, also after a power cut."""
        write_whole(file, json.dumps(asdict(self)) + "\n")

    def settle(self, told: int, present: Mapping[str, str]) -> None:
        """Forget what was told, by the runs up to ``told``, and see what pending changes became.

        ``present`` are the refs that the mirror has now, HEAD among them.
        """
        names = {ref_text(name): value for name, value in present.items()}
        made = [each for each in self.pending if names.get(each["ref"]) == each["new"]]
        self.changes = [each for each in [*self.changes, *made] if each["job_id"] > told]
        self.pending = []

    def intend(self, job_id: int, changes: Iterable[Change]) -> None:
        """Note what a run is about to make."""
        self.pending = [_line(change, job_id) for change in changes]

    def done(self) -> None:
        """Note that it has made it."""
        self.changes += self.pending
        self.pending = []

    def hold(self, job_id: int, held: Iterable[Change]) -> None:
        """Note what a run holds back: all of it."""
        self.held = [_line(change) for change in held]
        self.held_by = job_id

    def verify(self, job_id: int, damage: str | None) -> None:
        """Note what a run has found when it read the whole mirror."""
        self.verified_by, self.damage = job_id, damage


def ref_text(name: str) -> str:
    r"""A ref's name as text: a byte that is not UTF-8 becomes ``\xff``. No name has backslashes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def ref_name(text: str) -> str:
    """The ref's name that :func:`ref_text` has made a text of."""
    data = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())
    return data.decode("utf-8", "surrogateescape")


def as_changes(lines: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The changes that lines of a journal, or rows of the database, speak of."""
    return [Change(ref_name(line["ref"]), line["old"], line["new"], line["kind"]) for line in lines]


def _line(change: Change, job_id: int | None = None) -> dict[str, Any]:
    line = {
        "ref": ref_text(change.name),
        "kind": change.kind,
        "old": change.old,
        "new": change.new,
    }
    return line if job_id is None else {"job_id": job_id, **line}
