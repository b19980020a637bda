"""Bring refs of a mirror back to what they were."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from code_import.journal import ref_name
from code_import.mirror import read_head, read_state
from code_import.refs import KEEP, Change, Kind, Plan, Refs

from .gittool import Git
from .process import ToolFailed
from .publish import Kept, deletions, list_refs, updates, write_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from code_import.mirror import Mirror, Store
    from code_import.models import RefAsOf

_SYMBOLIC = "ref: "


class CannotRestore(Exception):
    """The mirror on disk does not let it; nothing was changed."""


def restore_refs(
    store: Store,
    code_import_id: int,
    target: str,
    wanted: Sequence[RefAsOf],
    retention: float,
    log: Callable[[str], None],
) -> list[Change]:
    """Give refs of a mirror their former values; what they are now is kept, as after a run.

    Returns the changes. Raises CannotRestore when there is no such mirror in this store, when a ref
    is not what the journal says that it is, or when an object that is needed has gone; and Busy
    when a run holds the mirror.
    """
    git = Git(store, "file")
    with store.lock(code_import_id, log) as lock:
        path = store.path(target)
        state = read_state(path)
        if state is None or state.code_import_id != code_import_id:
            raise CannotRestore(f"{path} is not the mirror of import {code_import_id}")
        mirror = store.mirror(target, code_import_id, state.job_id)
        changes = [_change(each) for each in wanted]
        _check(git, mirror, changes)
        kept = Kept.of(git, mirror, retention)
        name = f"restored-{time.time():.0f}"
        mirror.begin()
        plan = Plan(_of_refs(changes))
        for lines in (deletions(plan, f"{KEEP}{name}/"), updates(plan)):
            write_refs(git, mirror, lock, lines)
        _point_head(git, mirror, lock.fd, changes)
        refs = Refs(list_refs(git, mirror.path), read_head(mirror.path))
        mirror.finish(refs.fingerprint(), {**kept.since, name: time.time()})
    return changes


def _change(wanted: RefAsOf) -> Change:
    kind: Kind = "rewritten"
    if wanted.value_then is None:
        kind = "deleted"
    elif wanted.value_now is None:
        kind = "new"
    return Change(ref_name(wanted.ref), wanted.value_now, wanted.value_then, kind)


def _of_refs(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if change.name != "HEAD"]


def _check(git: Git, mirror: Mirror, changes: Sequence[Change]) -> None:
    """Make sure that everything is as it should be, before anything is changed."""
    present = list_refs(git, mirror.path)
    for change in _of_refs(changes):
        if present.get(change.name) != change.old:
            raise CannotRestore(
                f"{change.name} is at {present.get(change.name)}, and by the journal at"
                f" {change.old}: this store has seen other runs than the database"
            )
    needed = [change.new for change in changes if change.new and _SYMBOLIC not in change.new]
    try:
        git(
            "rev-list", "--objects", "--quiet", "--stdin",
            repository=mirror.path, text="".join(f"{value}\n" for value in needed).encode(),
        )  # fmt: skip
    except ToolFailed as failed:
        raise CannotRestore(f"the mirror does not have it any more: {failed}") from None


def _point_head(git: Git, mirror: Mirror, fd: int, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.name != "HEAD" or change.new is None:
            continue
        if change.new.startswith(_SYMBOLIC):
            name = ref_name(change.new.removeprefix(_SYMBOLIC))
            command = ["symbolic-ref", "HEAD", name]
        else:
            command = ["update-ref", "--no-deref", "HEAD", change.new]
        git(*command, repository=mirror.path, keep_open=(fd,))
