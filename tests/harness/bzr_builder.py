"""Make a Bazaar branch as it is described: a program for a Python that has breezy.

It reads one JSON object: ``path``, ``format``, ``revisions`` (id, parents, actions of breezy's
BranchBuilder, and what else is said about them), ``tip``, ``tags``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import breezy
import breezy.bzr
from breezy import controldir, transport, ui
from breezy.branch import Branch
from breezy.branchbuilder import BranchBuilder


def build(told: dict[str, Any]) -> None:
    """Add the revisions to the branch at the path, which is made if it is not there."""
    path = Path(told["path"])
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if is_new:
        format = controldir.format_registry.make_controldir(told["format"])  # noqa: A001
        builder = BranchBuilder(transport.get_transport(str(path)), format=format)
    else:
        builder = BranchBuilder(branch=Branch.open(str(path)))
    builder.start_series()
    try:
        for number, revision in enumerate(told["revisions"], 1):
            _add(builder, revision, number)
    finally:
        builder.finish_series()
    branch = builder.get_branch()
    with branch.lock_write():
        if told["tip"] is not None:
            branch.generate_revision_history(told["tip"].encode())
        for name, revision in told["tags"].items():
            branch.tags.set_tag(name, revision.encode())


def _add(builder: BranchBuilder, revision: dict[str, Any], number: int) -> None:
    parents = revision["parents"]
    builder.build_snapshot(
        None if parents is None else [parent.encode() for parent in parents],
        [_action(*action) for action in revision["actions"]],
        message=revision.get("message", f"revision {number}"),
        timestamp=revision.get("timestamp", 1_000_000_000 + number),
        timezone=revision.get("timezone", 3600),
        committer=revision.get("committer", "A Tester <tester@example.org>"),
        revision_id=revision["id"].encode(),
        allow_leftmost_as_ghost=True,
    )


def _action(verb: str, details: Any) -> tuple[str, Any]:
    if verb == "add":
        path, file_id, kind, content = details
        return verb, (path, file_id.encode(), kind, content and content.encode())
    if verb == "modify":
        path, content = details
        return verb, (path, content.encode())
    return verb, tuple(details) if isinstance(details, list) else details


if __name__ == "__main__":
    with breezy.initialize(setup_ui=False):
        ui.ui_factory = ui.SilentUIFactory()
        build(json.loads(sys.stdin.read()))
