"""The store: whose mirror is where, who may change it, and what is found out about its files."""

from __future__ import annotations

import os
import signal
import subprocess
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from code_import.mirror import (
    STATE,
    BadTarget,
    Busy,
    Lost,
    Mirror,
    State,
    Store,
    Superseded,
    read_state,
    seal,
)
from harness.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

said: list[str] = []
log = said.append


def confirm() -> None:
    """The run is alive."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, target: str, code_import_id: int, job_id: int = 1) -> Mirror:
    """Put a mirror in its place, as a first run does."""
    mirror = store.mirror(target, code_import_id, job_id)
    store.settle(mirror, confirm, log)
    with store.lock(code_import_id, log) as lock, store.stage(lock, job_id) as stage:
        subprocess.run(["git", "init", "-q", "--bare", stage.repository], check=True)
        (stage.repository / "whose").write_text(str(code_import_id))
        store.check(mirror)
        store.install(stage, mirror, "fingerprint")
    return mirror


def whose(store: Store, target: str) -> int | None:
    """Whose files are in the place of a target."""
    path = store.path(target) / "whose"
    return int(path.read_text()) if path.exists() else None


def private(store: Store, pattern: str) -> list[str]:
    folder = store.root / ".code-import"
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


# --- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["a", "a/b", "A1/b_c.d+e-f", "_x", "a/b/c/d", "x" * 200])
def test_a_target_has_a_place_of_its_own(store: Store, target: str) -> None:
    assert store.path(target) == store.root / f"{target}.git"


@pytest.mark.parametrize(
    "target",
    ["", "/", "/etc", "a//b", "a/", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.b", "-x",
     "a/-b", "a.git", "a.git/b", "a.lock", "a b", "a\nb", "a\x00b", "ä", "x" * 201,
     ".code-import/locks/1", "a\\b", "a\n"],
)  # fmt: skip
def test_what_is_no_target_has_none(store: Store, target: str) -> None:
    with pytest.raises(BadTarget):
        store.path(target)


def test_no_symbolic_link_leads_out_of_a_store(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store.root.mkdir()
    (store.root / "group").symlink_to(outside)
    (store.root / "repo.git").symlink_to(outside)
    for target in ("group/repo", "repo"):
        with pytest.raises(BadTarget, match="leads elsewhere"):
            store.path(target)
    assert not list(outside.iterdir())


def test_a_store_may_itself_be_behind_a_link(store: Store, tmp_path: Path) -> None:
    store.root.mkdir()
    (tmp_path / "link").symlink_to(store.root)
    assert Store(tmp_path / "link").path("a") == store.path("a")


# --- locks -------------------------------------------------------------------------------------


def test_one_run_at_a_time_is_at_a_mirror(store: Store) -> None:
    with store.lock(1, log), store.lock(2, log):
        with pytest.raises(Busy), store.lock(1, log, wait=0):
            pass
    with store.lock(1, log, wait=0):
        pass


def _hold(store: Store, ready: int) -> None:
    with store.lock(1, log):
        os.write(ready, b"x")
        signal.pause()


def test_a_dead_holder_holds_no_lock(store: Store) -> None:
    reader, writer = os.pipe()
    holder = get_context("fork").Process(target=_hold, args=(store, writer))
    holder.start()
    assert os.read(reader, 1)
    with pytest.raises(Busy), store.lock(1, log, wait=0):
        pass
    holder.kill()
    holder.join()
    with store.lock(1, log, wait=0):
        pass
    os.close(reader)
    os.close(writer)


def test_an_orphaned_tool_holds_the_lock_that_it_inherited(store: Store) -> None:
    with store.lock(1, log) as lock:
        tool = subprocess.Popen(["sleep", "60"], pass_fds=(lock.fd,))
    try:
        with pytest.raises(Busy), store.lock(1, log, wait=0.05):
            pass
    finally:
        tool.kill()
        tool.wait()
    with store.lock(1, log, wait=0):
        pass


def test_a_long_wait_is_told_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = iter(range(100))
    monkeypatch.setattr("code_import.mirror.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("code_import.mirror.time.sleep", lambda _seconds: None)
    with store.lock(1, log), pytest.raises(Busy), store.lock(1, lines.append, wait=10):
        pass
    assert lines == ["Another run is at this mirror: waiting for it to leave."]


# --- stages ------------------------------------------------------------------------------------


def test_a_stage_is_gone_when_its_run_is_done(store: Store) -> None:
    with store.lock(1, log) as lock, store.stage(lock, 5) as stage:
        stage.repository.mkdir()
        assert private(store, "stage/*") == ["stage/1.5"]
    assert private(store, "stage/*") == []


def test_a_stage_goes_with_the_run_that_fails(store: Store) -> None:
    with pytest.raises(ValueError), store.lock(1, log) as lock, store.stage(lock, 5):
        raise ValueError
    assert private(store, "stage/*") == []


def test_stages_of_killed_runs_are_swept_whosever_they_are(store: Store) -> None:
    for name in ("1.4", "2.3", "77.1"):
        (store.root / ".code-import/stage" / name / "mirror.git/objects").mkdir(parents=True)
    (store.root / ".code-import/stage/2.3/lock").touch()
    with store.lock(1, log) as lock:
        store.sweep(lock)
    assert private(store, "stage/*") == []


def test_a_stage_that_somebody_is_at_is_left_alone(store: Store) -> None:
    with store.lock(1, log) as first, store.stage(first, 5):
        with store.lock(2, log) as lock:
            store.sweep(lock)
        store.sweep(first)
        assert private(store, "stage/*") == ["stage/1.5"]


def test_an_import_that_makes_its_stage_just_now_is_left_alone(store: Store) -> None:
    (store.root / ".code-import/stage/2.3").mkdir(parents=True)
    with store.lock(2, log), store.lock(1, log) as lock:
        store.sweep(lock)
        assert private(store, "stage/*") == ["stage/2.3"]


# --- the fence ---------------------------------------------------------------------------------


def test_a_mirror_remembers_its_import_and_its_latest_run(store: Store) -> None:
    mirror = put(store, "a", 1, job_id=5)
    state = mirror.state()
    assert state == State(1, 5, "fingerprint", seal(mirror.path))
    assert mirror.is_sealed()


@pytest.mark.parametrize(("job_id", "refused"), [(4, True), (5, False), (6, False)])
def test_an_older_run_is_refused(store: Store, job_id: int, refused: bool) -> None:
    put(store, "a", 1, job_id=5)
    mirror = store.mirror("a", 1, job_id)
    for step in (mirror.fence, lambda: store.check(mirror)):
        if refused:
            with pytest.raises(Superseded, match="run 5 has changed"):
                step()
        else:
            step()


def test_an_older_run_is_refused_wherever_the_mirror_has_gone(store: Store) -> None:
    put(store, "a", 1, job_id=5)
    store.settle(store.mirror("b", 1, 7), confirm, log)
    with pytest.raises(Superseded):
        store.check(store.mirror("a", 1, 6))
    with pytest.raises(Lost):
        store.check(store.mirror("a", 1, 8))


def test_an_older_run_moves_nothing(store: Store) -> None:
    put(store, "a", 1, job_id=5)
    with pytest.raises(Superseded):
        store.settle(store.mirror("b", 1, 4), confirm, log)
    assert whose(store, "a") == 1


def test_a_second_first_mirror_is_not_put_over_the_first(store: Store) -> None:
    mirror = store.mirror("a", 1, 6)
    with store.lock(1, log) as lock, store.stage(lock, 6) as stage:
        subprocess.run(["git", "init", "-q", "--bare", stage.repository], check=True)
        put_by_other = put_unlocked(store, "a", 1, 5)
        with pytest.raises(Lost):
            store.install(stage, mirror, "another")
    assert put_by_other.is_sealed()


def put_unlocked(store: Store, target: str, code_import_id: int, job_id: int) -> Mirror:
    mirror = store.mirror(target, code_import_id, job_id)
    subprocess.run(["git", "init", "-q", "--bare", mirror.path], check=True)
    mirror.finish("fingerprint")
    return mirror


# --- moving ------------------------------------------------------------------------------------


def test_a_new_target_moves_the_mirror_and_its_empty_folders_go(store: Store) -> None:
    put(store, "old/deep/a", 1)
    put(store, "old/b", 2)
    store.settle(store.mirror("new/deep/c", 1, 2), confirm, log)
    assert whose(store, "new/deep/c") == 1
    assert not (store.root / "old/deep").exists()
    assert whose(store, "old/b") == 2
    state = read_state(store.path("new/deep/c"))
    assert state is not None
    assert (state.job_id, state.fingerprint) == (2, "fingerprint")
    assert store.mirror("new/deep/c", 1, 2).is_sealed()


def test_nothing_moves_without_a_confirmation(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 2)

    def lost() -> None:
        raise KeyboardInterrupt

    for target, code_import_id in (("c", 1), ("b", 1), ("b", 3)):
        with pytest.raises(KeyboardInterrupt):
            store.settle(store.mirror(target, code_import_id, 2), lost, log)
    assert (whose(store, "a"), whose(store, "b"), whose(store, "c")) == (1, 2, None)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_imports_that_swap_targets_find_their_mirrors(
    store: Store, order: tuple[int, int]
) -> None:
    put(store, "a", 1)
    put(store, "b", 2)
    wanted = {1: "b", 2: "a"}
    for code_import_id in order:
        store.settle(store.mirror(wanted[code_import_id], code_import_id, 2), confirm, log)
    assert (whose(store, "a"), whose(store, "b")) == (2, 1)
    assert private(store, "aside/*") == []


def test_three_imports_in_a_ring_find_their_mirrors(store: Store) -> None:
    for code_import_id, target in ((1, "a"), (2, "b"), (3, "c")):
        put(store, target, code_import_id)
    for code_import_id, target in ((1, "b"), (2, "c"), (3, "a")):
        store.settle(store.mirror(target, code_import_id, 2), confirm, log)
    assert [whose(store, target) for target in "abc"] == [3, 1, 2]


def test_the_mirror_of_a_deleted_import_makes_room_and_is_not_lost(store: Store) -> None:
    put(store, "a", 1)
    put(store, "a", 2)
    assert whose(store, "a") == 2
    assert private(store, "aside/*") == ["aside/1.1.git"]
    put(store, "a", 3)
    store.settle(store.mirror("b", 1, 2), confirm, log)
    assert whose(store, "b") == 1


def test_what_nobody_knows_makes_room_and_is_not_lost(store: Store) -> None:
    for number in (1, 2):
        place = store.path("a")
        place.mkdir(parents=True)
        (place / "precious").write_text("data")
        put(store, "a", number)
        if number == 1:
            (store.path("a") / STATE).unlink()
            store.path("a").rename(store.root / "elsewhere")
    assert private(store, "aside/*/precious") == [
        "aside/unknown.1.git/precious",
        "aside/unknown.2.git/precious",
    ]


def test_a_mirror_that_lost_its_memory_is_ours_where_we_put_it(store: Store) -> None:
    mirror = put(store, "a", 1)
    (mirror.path / STATE).unlink()
    store.settle(store.mirror("a", 1, 2), confirm, log)
    assert whose(store, "a") == 1
    assert private(store, "aside/*") == []
    assert not mirror.is_sealed()


def test_a_mirror_is_found_again_when_its_move_was_cut_short(store: Store) -> None:
    put(store, "a", 1)
    store.path("a").rename(store.path("b"))  # As a run does that is killed before it says so.
    store.settle(store.mirror("b", 1, 2), confirm, log)
    store.settle(store.mirror("c", 1, 3), confirm, log)
    assert whose(store, "c") == 1


def test_a_mirror_is_found_again_when_its_place_was_taken_before_it_came(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", 1)

    def taken(source: Path, target: Path, root: Path) -> None:
        raise Lost(f"{target} is not free")

    with monkeypatch.context() as patch:
        patch.setattr("code_import.mirror._rename", taken)
        with pytest.raises(Lost):
            store.settle(store.mirror("b", 1, 2), confirm, log)
    store.settle(store.mirror("c", 1, 3), confirm, log)
    assert whose(store, "c") == 1
    assert [place.read_text() for place in store.root.glob(".*/by-id/1")] == ["c\n"]


def _settle(store: Store, target: str, code_import_id: int) -> None:
    for job_id in range(2, 12):
        where = target if job_id % 2 else f"{target}/{code_import_id}"
        try:
            store.settle(store.mirror(where, code_import_id, job_id), confirm, log)
        except Lost:
            continue


def test_many_runs_that_want_the_same_place_lose_nothing(store: Store) -> None:
    ids = range(1, 5)
    for code_import_id in ids:
        put(store, f"home/{code_import_id}", code_import_id)
    context = get_context("fork")
    runs = [context.Process(target=_settle, args=(store, "x", number)) for number in ids]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
        assert run.exitcode == 0
    for code_import_id in ids:
        store.settle(store.mirror(f"end/{code_import_id}", code_import_id, 20), confirm, log)
        assert whose(store, f"end/{code_import_id}") == code_import_id


# --- seals and litter --------------------------------------------------------------------------


@pytest.fixture
def sealed(store: Store, tmp_path: Path) -> Mirror:
    """A mirror with a pack, a loose and a packed ref."""
    mirror = put(store, "a", 1)
    run = ["git", "-C", str(mirror.path)]
    tree = subprocess.run([*run, "mktree"], input=b"", capture_output=True, check=True).stdout
    commit = [*run, "commit-tree", "-m", "1", tree.decode().strip()]
    made = subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()
    for name in ("refs/heads/packed", "refs/heads/loose"):
        subprocess.run([*run, "update-ref", name, made], check=True)
        if name.endswith("packed"):
            subprocess.run([*run, "pack-refs", "--all"], check=True)
    subprocess.run([*run, "repack", "-adq"], check=True)
    mirror.finish("fingerprint")
    return mirror


@pytest.mark.parametrize(
    "pattern",
    ["refs/heads/loose", "packed-refs", "HEAD", "objects/pack/*.pack", "objects/pack/*.idx",
     "config"],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["gone", "empty"])
def test_a_seal_breaks_with_every_file_that_matters(
    sealed: Mirror, pattern: str, harm: str
) -> None:
    assert sealed.is_sealed()
    [file] = sealed.path.glob(pattern)
    file.chmod(0o644)
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(b"")
    assert not sealed.is_sealed()


def test_a_seal_breaks_with_a_ref_that_somebody_moved(sealed: Mirror) -> None:
    file = sealed.path / "packed-refs"
    data = file.read_bytes()
    when = file.stat()
    file.write_bytes(data.replace(b"heads/packed", b"heads/pakced"))
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert not sealed.is_sealed()


def test_a_seal_breaks_while_a_run_publishes(sealed: Mirror) -> None:
    sealed.begin()
    assert not sealed.is_sealed()
    sealed.finish("fingerprint")
    assert sealed.is_sealed()


def test_a_seal_outlives_a_move(sealed: Mirror, store: Store) -> None:
    moved = store.mirror("b/c", 1, 2)
    store.settle(moved, confirm, log)
    assert moved.is_sealed()


@pytest.mark.parametrize(
    "name",
    ["packed-refs.lock", "packed-refs.new", "HEAD.lock", "config.lock", "refs/heads/x.lock",
     "objects/pack/tmp_pack_AbCdEf", "objects/pack/tmp_idx_AbCdEf", "objects/pack/.tmp-1-pack-2",
     "objects/ab/tmp_obj_AbCdEf", "objects/tmp_objdir-incoming-x/ab/y", f"{STATE}.new"],
)  # fmt: skip
def test_what_killed_tools_leave_is_found_and_removed(sealed: Mirror, name: str) -> None:
    before = seal(sealed.path)
    place = sealed.path / name
    place.parent.mkdir(exist_ok=True, parents=True)
    place.write_text("half of it")
    sealed.clear_litter()
    assert not place.exists()
    if "/ab" not in name:
        assert seal(sealed.path) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"code_import_id": 1}', '{"unknown": 1}', "null"])
def test_a_memory_that_makes_no_sense_is_none(sealed: Mirror, text: str) -> None:
    (sealed.path / STATE).write_text(text)
    assert sealed.state() is None


def test_the_memory_is_there_as_a_whole_at_any_moment(sealed: Mirror) -> None:
    reader, writer = os.pipe()

    def write() -> None:
        os.write(writer, b"x")
        for number in range(100):
            sealed.finish(str(number))

    process = get_context("fork").Process(target=write)
    process.start()
    os.read(reader, 1)
    while process.is_alive():
        assert sealed.state() is not None
    eventually(lambda: process.exitcode == 0)
    os.close(reader)
    os.close(writer)
