"""What may be fetched, and how a person allows more."""

from __future__ import annotations

import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from code_import.importers import Source
from code_import.policy import Forbidden, Policy, allow_path

if TYPE_CHECKING:
    from pathlib import Path

STRICT = Policy()


def check(url: str, policy: Policy = STRICT) -> str:
    return policy.check(Source("git", url))


def refusal(url: str, policy: Policy = STRICT) -> str:
    with pytest.raises(Forbidden) as refused:
        check(url, policy)
    return str(refused.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def policy(config: Path) -> Policy:
    return Policy.load(config_dir=config)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    path = tmp_path / "sources" / "checkout"
    subprocess.run(["git", "init", "-q", path], check=True)
    return path


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name resolves."""

    def fail(*_args: object, **_more: object) -> None:
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", fail)


@pytest.mark.parametrize(
    ("url", "fetched"),
    [
        ("https://192.0.2.1/p/r.git", "https://192.0.2.1/p/r.git"),
        ("HTTPS://192.0.2.1/p", "https://192.0.2.1/p"),
        ("http://192.0.2.1:8080/p", "http://192.0.2.1:8080/p"),
        ("git://192.0.2.1/p", "git://192.0.2.1/p"),
        ("https://[2001:db8::1]:443/p", "https://[2001:db8::1]:443/p"),
        ("https://192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_ordinary_addresses_may_be_fetched(url: str, fetched: str) -> None:
    assert check(url) == fetched


def test_a_user_does_not_reach_the_command_line() -> None:
    assert check("https://ghp_token@192.0.2.1/p/r@v1") == "https://192.0.2.1/p/r@v1"


def test_a_host_that_does_not_resolve_is_left_to_the_fetch(no_names: None) -> None:
    assert check("https://nowhere.invalid/p") == "https://nowhere.invalid/p"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ssh://git@192.0.2.1/p", "ssh is not allowed"),
        ("git@192.0.2.1:p/r", "ssh is not allowed"),
        ("git+ssh://192.0.2.1/p", "ssh is not allowed"),
        ("ftp://192.0.2.1/p", "scheme ftp"),
        ("ext::sh -c touch% x", "characters"),
        ("ext::sh", "programs named in a url"),
        ("fd::17", "programs named in a url"),
        ("--upload-pack=touch", "characters"),
        ("https://192.0.2.1/a\nb", "characters"),
        ("https://192.0.2.1/a b", "characters"),
        ("https://192.0.2.1\\@127.0.0.1/", "characters"),
        ("https://user:secret@192.0.2.1/p", "password"),
        ("https://a@b@192.0.2.1/p", "names no host"),
        ("https:///p", "names no host"),
        ("https://-oProxyCommand=x/p", "names no host"),
        ("https://192.0.2.1:x/p", "names no host"),
        ("https://192.0.2.1%2f@127.0.0.1/p", "is this machine"),
        ("https://127%2e0.0.1/p", "names no host"),
        ("relative/path", "absolute"),
        ("file://host/path", "names no host"),
        ("file://localhost/path", "names no host"),
    ],
)
def test_what_is_refused_and_why(url: str, word: str) -> None:
    assert word in refusal(url)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "0",
     "[::1]", "[::]", "[::ffff:127.0.0.1]", "169.254.169.254", "[fe80::1]"],
)  # fmt: skip
def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    assert "this machine" in refusal(f"https://{host}/p")


def test_a_name_that_resolves_to_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_a, **_k: [(2, 1, 6, "", ("127.0.0.1", 0))])
    assert "this machine" in refusal("https://innocent.example/p")


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.1:9418"])
def test_a_host_may_be_allowed_with_or_without_its_port(allowed: str) -> None:
    policy = Policy.load(excluded_hosts=["127.0.0.1"], allow_hosts=[allowed])
    assert check("git://127.0.0.1:9418/p", policy) == "git://127.0.0.1:9418/p"


def test_a_host_allowed_at_one_port_is_not_allowed_at_another() -> None:
    assert refusal("git://127.0.0.1:22/p", Policy.load(allow_hosts=["127.0.0.1:9418"]))


def test_an_excluded_host_is_refused_with_its_subdomains_and_no_others() -> None:
    policy = Policy.load(excluded_hosts=["Example.ORG"])
    assert "excluded" in refusal("https://example.org/p", policy)
    assert "excluded" in refusal("https://git.EXAMPLE.org./p", policy)
    assert check("https://192.0.2.1/example.org", policy)


def test_the_end_of_a_name_is_not_yet_a_subdomain(no_names: None) -> None:
    assert check("https://notexample.org/p", Policy.load(excluded_hosts=["example.org"]))


@pytest.mark.parametrize("rcs_type", ["git", "svn", "hg", "bzr", "cvs"])
def test_a_source_without_a_place_is_refused(rcs_type: str) -> None:
    with pytest.raises(Forbidden):
        STRICT.check(Source(rcs_type))


def test_local_paths_are_refused_until_their_user_allows_them(
    policy: Policy, config: Path, checkout: Path
) -> None:
    for url in (f"file://{checkout}", str(checkout)):
        assert "not on the list" in refusal(url, policy)
    assert allow_path(checkout, config_dir=config)
    for url in (f"file://{checkout}", str(checkout), f"file://{checkout}/.git", f"{checkout}/"):
        assert check(url, policy) == f"file://{checkout}/.git"
    assert "not on the list" in refusal(f"file://{checkout}-other", policy)
    assert "not on the list" in refusal(f"file://{checkout.parent}", policy)
    assert "not on the list" in refusal(f"file://{checkout}", STRICT)


def test_a_folder_allows_all_below_it(policy: Policy, config: Path, checkout: Path) -> None:
    allow_path(checkout.parent, config_dir=config)
    assert check(f"file://{checkout}", policy)
    assert not allow_path(checkout, config_dir=config)


@pytest.mark.parametrize("way", ["{}/../secret", "{}/%2e%2e/secret", "{}/x/..//../secret"])
def test_no_way_of_writing_leads_out_of_an_allowed_folder(
    policy: Policy, config: Path, checkout: Path, way: str
) -> None:
    subprocess.run(["git", "init", "-q", "--bare", checkout.parent / "secret"], check=True)
    allow_path(checkout, config_dir=config)
    assert "not on the list" in refusal("file://" + way.format(checkout), policy)


def test_no_symbolic_link_leads_out_of_an_allowed_folder(
    policy: Policy, config: Path, checkout: Path
) -> None:
    secret = checkout.parent / "secret.git"
    subprocess.run(["git", "init", "-q", "--bare", secret], check=True)
    allow_path(checkout, config_dir=config)
    (checkout / "link").symlink_to(secret)
    (checkout / "there").mkdir()
    (checkout / "there" / ".git").symlink_to(secret)
    (checkout / "x.git").symlink_to(secret)
    for inside in ("link", "there", "x", "x.git"):
        assert "not on the list" in refusal(f"file://{checkout}/{inside}", policy)


def test_an_allowed_name_does_not_stand_for_its_neighbour_that_git_would_try(
    policy: Policy, config: Path, checkout: Path
) -> None:
    (checkout.parent / "thing").mkdir()
    subprocess.run(["git", "init", "-q", "--bare", checkout.parent / "thing.git"], check=True)
    allow_path(checkout.parent / "thing", config_dir=config)
    assert "thing.git is not on the list" in refusal(f"file://{checkout.parent}/thing", policy)


def test_a_link_is_allowed_as_what_it_leads_to(
    policy: Policy, config: Path, checkout: Path
) -> None:
    link = checkout.parent / "link"
    link.symlink_to(checkout)
    allow_path(link, config_dir=config)
    assert check(f"file://{link}", policy) == f"file://{checkout}/.git"
    link.unlink()
    link.symlink_to("/")
    assert check(f"file://{checkout}", policy)
    assert "not on the list" in refusal(f"file://{link}/root", policy)


def test_odd_characters_in_a_path_survive(policy: Policy, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd ü%41:#?"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    allow_path(path, config_dir=config)
    url = "file://" + str(tmp_path) + "/odd%20%C3%BC%2541%3A%23%3F"
    fetched = check(url, policy)
    assert fetched == url
    subprocess.run(["git", "ls-remote", "--", fetched], check=True)
    assert "control characters" in refusal(f"file://{tmp_path}/a%00b", policy)


def test_a_worktree_is_found_by_its_marker(
    policy: Policy, config: Path, checkout: Path, tmp_path: Path
) -> None:
    run = ["git", "-C", str(checkout)]
    subprocess.run([*run, "commit", "-q", "--allow-empty", "-m", "1"], check=True)
    subprocess.run([*run, "worktree", "add", "-q", "-b", "w", tmp_path / "tree"], check=True)
    allow_path(tmp_path / "tree", config_dir=config)
    assert check(f"file://{tmp_path}/tree", policy) == f"file://{tmp_path}/tree/.git"


def test_a_running_worker_honours_what_its_user_allows_later(
    policy: Policy, config: Path, checkout: Path
) -> None:
    assert refusal(f"file://{checkout}", policy)
    allow_path(checkout, config_dir=config)
    assert check(f"file://{checkout}", policy)


def test_the_list_is_its_users_own(config: Path, checkout: Path) -> None:
    allow_path(checkout, config_dir=config)
    assert stat.S_IMODE((config / "allowed-paths").stat().st_mode) == 0o600


def test_a_path_is_added_once_and_comments_stay_out_of_the_way(
    policy: Policy, config: Path, checkout: Path
) -> None:
    config.mkdir()
    (config / "allowed-paths").write_text("# mine\n\nrelative\n")
    assert allow_path(checkout, config_dir=config)
    assert not allow_path(checkout, config_dir=config)
    lines = (config / "allowed-paths").read_text().splitlines()
    assert lines.count(str(checkout)) == 1
    assert refusal("file:///relative", policy)


def test_a_line_break_in_a_path_cannot_smuggle_a_second_one(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        allow_path(tmp_path / "x\n/", config_dir=config)


def _allow_some(config: Path, folder: Path) -> None:
    for number in range(10):
        allow_path(folder / str(number), config_dir=config)


def test_concurrent_writers_lose_nothing(config: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    context = get_context("fork")
    writers = [context.Process(target=_allow_some, args=(config, folder)) for folder in folders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    listed = set((config / "allowed-paths").read_text().splitlines())
    assert {str(folder / str(number)) for folder in folders for number in range(10)} <= listed


def test_a_reader_sees_a_whole_list(policy: Policy, config: Path, checkout: Path) -> None:
    allow_path(checkout, config_dir=config)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(_allow_some, config, checkout.parent.parent)
        while not writing.done():
            assert check(f"file://{checkout}", policy)
        writing.result()
