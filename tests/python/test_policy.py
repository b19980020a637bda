"""What may be fetched, and how a person allows more."""

from __future__ import annotations

import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from code_import.importers import Source
from code_import.policy import Forbidden, Policy, allow_path, check_allowed, hosts_listed

if TYPE_CHECKING:
    from pathlib import Path

STRICT = Policy()


def means(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Make every name mean these addresses."""
    found = [(0, 1, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_a, **_k: found)


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
        ("https://192.0.2.1:70000/p", "no host"),
        ("https://192.0.2.1:0/p", "no host"),
        ("https://127%2e0.0.1/p", "names no host"),
        ("relative/path", "absolute"),
        ("file://host/path", "names no host"),
        ("file://localhost/path", "names no host"),
    ],
)
def test_what_is_refused_and_why(url: str, word: str) -> None:
    assert word in refusal(url)


THIS_MACHINE = [
    "localhost", "LOCALHOST.", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
    "0x7f.1", "127.255.255.254", "0.0.0.0", "0", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "169.254.169.254", "[fe80::1]", "[febf::1]",
    "[::ffff:169.254.169.254]",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "0xa.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "3232235777", "100.64.0.1", "100.127.255.255", "198.18.0.1", "198.19.255.255", "[fc00::1]",
    "[fdff::1]", "[fec0::1]", "[64:ff9b:1::1]", "[64:ff9b::10.0.0.1]", "[2002:a00:1::1]",
    "[::ffff:192.168.0.1]",
]  # fmt: skip
NOT_PUBLIC = [
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.88.99.1",
    "[2001::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2001:20::1]", "[ff02::1]", "[100::1]",
    "[4000::1]", "[5f00::1]", "[::ffff:224.0.0.1]", "[64:ff9b:2::1]",
]  # fmt: skip
PUBLIC = [
    "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.1.1", "192.169.1.1",
    "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255",
    "[64:ff9b::8.8.8.8]", "[2002:808:808::1]", "[::ffff:8.8.8.8]", "[2606:4700::1111]",
    "[2a00::1]", "[3fff:ffff::1]",
]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        *((host, "this machine or its link") for host in THIS_MACHINE),
        *((host, "in a private network") for host in PRIVATE),
        *((host, "no public address") for host in NOT_PUBLIC),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "git"])
def test_only_public_addresses_are_fetched_from_however_they_are_written(
    host: str, kind: str, scheme: str
) -> None:
    assert kind in refusal(f"{scheme}://{host}/p")
    assert kind in refusal(f"{scheme}://user@{host}:8080/p")


def test_a_public_address_of_this_machine_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks count as public here, so that the loopback stands for such an address."""
    monkeypatch.setattr("code_import.addresses._tables", dict)
    for own in ("127.0.0.1", "[::ffff:127.0.0.1]"):
        assert "this machine" in refusal(f"https://{own}/p")
    assert check("https://192.0.2.1/p")


@pytest.mark.parametrize("host", PUBLIC)
def test_the_neighbours_of_what_is_not_public_are(host: str) -> None:
    assert "://" in check(f"https://{host}/p")
    assert len(STRICT.resolve(host, 443)) == 1


@pytest.mark.parametrize("host", ["134744072", "0x8.8.8.8", "010.8.8.8", "8.8.2056", "8.8.8.010"])
def test_a_public_address_in_disguise_is_refused(host: str) -> None:
    """Programs do not agree on what such numbers mean."""
    assert "an address that is written as 8." in refusal(f"https://{host}/p")


@pytest.mark.parametrize(
    ("addresses", "word"),
    [
        (["127.0.0.1"], "this machine"),
        (["192.0.2.1", "10.0.0.1"], r"private network (10.0.0.1)"),
        (["2606:4700::1", "fe80::1%eth0"], "its link"),
        (["192.0.2.1", "::ffff:10.0.0.1"], "private network"),
    ],
)
def test_every_address_of_a_name_counts(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], word: str
) -> None:
    means(monkeypatch, *addresses)
    assert word in refusal("https://innocent.example/p")
    with pytest.raises(Forbidden):
        STRICT.resolve("innocent.example", 443)


def test_the_addresses_of_a_host_are_told_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    means(monkeypatch, "192.0.2.1", "2606:4700::1", "192.0.2.1")
    assert STRICT.resolve("two.example", 443) == ["192.0.2.1", "2606:4700::1"]
    assert STRICT.resolve("TWO.example.", 443) == ["192.0.2.1", "2606:4700::1"]


def test_a_host_without_an_address_is_no_matter_of_policy(no_names: None) -> None:
    with pytest.raises(OSError, match="no such name"):
        STRICT.resolve("nowhere.example", 443)


def test_a_name_that_no_host_can_have_has_no_address() -> None:
    with pytest.raises(OSError, match="no name that a host can have"):
        STRICT.resolve("a" * 70 + ".example", 443)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (Source("git", "https://127.1/p"), "this machine"),
        (Source("git", "git://0xa000001/p"), "private network"),
        (Source("svn", "svn://[fd00::1]/p"), "private network"),
        (Source("hg", "https://hg.bad.example./p"), "excluded"),
        (Source("git", "git@example.org:p"), "ssh is not allowed"),
        (Source("hg", "svn://192.0.2.1/p"), "scheme svn"),
        (Source("cvs", cvs_root=":ext:u@192.0.2.1:/c", cvs_module="m"), "nothing else"),
        (Source("cvs", cvs_root=":pserver:u@10.1:/c", cvs_module="m"), "private network"),
        (Source("git", "https://192.0.2.1/p"), None),
        (Source("git", "https://name.example/p"), None),
        (Source("git", "file:///p"), None),
        (Source("git", "https://localhost/p"), None),
    ],
)
def test_a_refusal_is_foreseen_without_a_look_at_names_and_paths(
    monkeypatch: pytest.MonkeyPatch, source: Source, word: str | None
) -> None:
    look_up = socket.getaddrinfo

    def only_numbers(*args: Any, flags: int = 0, **more: Any) -> Any:
        assert flags & socket.AI_NUMERICHOST
        return look_up(*args, flags=flags, **more)

    monkeypatch.setattr("socket.getaddrinfo", only_numbers)
    why = Policy.load(excluded_hosts=hosts_listed(" bad.example, x ")).foresee(source)
    assert (why is None) if word is None else (word in str(why))


@pytest.mark.parametrize(
    ("host", "port"),
    [("a b", 80), ("", 80), ("a\0b", 80), ("-x", 80), ("a/b", 80), ("example.org", 0),
     ("example.org", 65536), ("fe80::1%eth0", 80), ("user@example.org", 80), ("ü.example", 80)],
)  # fmt: skip
def test_what_names_no_host_is_not_looked_up(host: str, port: int) -> None:
    with pytest.raises(Forbidden, match="no host with a port like this"):
        STRICT.resolve(host, port)


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.1:9418"])
def test_a_host_may_be_allowed_with_or_without_its_port(allowed: str) -> None:
    policy = Policy.load(excluded_hosts=["127.0.0.1"], allow_hosts=[allowed])
    assert check("git://127.0.0.1:9418/p", policy) == "git://127.0.0.1:9418/p"


def test_a_host_allowed_at_one_port_is_not_allowed_at_another() -> None:
    assert refusal("git://127.0.0.1:22/p", Policy.load(allow_hosts=["127.0.0.1:9418"]))


def test_a_network_may_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy.load(
        excluded_hosts=["bad.example"], allow_hosts=["10.1.0.0/16", "fd00:1::/32", "::1/128"]
    )
    for host in ("10.1.2.3", "[fd00:1::5]", "[::1]"):
        assert check(f"https://{host}/p", policy)
    for host in ("10.2.0.1", "[fd00:2::5]", "[::]", "127.0.0.1"):
        assert refusal(f"https://{host}/p", policy)
    means(monkeypatch, "10.1.0.9", "8.8.8.8")
    assert check("https://inside.example/p", policy)
    assert "excluded" in refusal("https://git.bad.example/p", policy)
    means(monkeypatch, "10.1.0.9", "10.2.0.9")
    assert "10.2.0.9" in refusal("https://half.example/p", policy)


def test_an_allowed_host_may_mean_whatever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    means(monkeypatch, "10.0.0.1")
    policy = Policy.load(allow_hosts=["Git.Intranet.Example.:443", "[FD00:0::1]"])
    assert policy.resolve("git.intranet.example", 443) == ["10.0.0.1"]
    assert policy.resolve("[fd00::1]", 80) == ["10.0.0.1"]
    assert check("https://git.intranet.example/p", policy)
    for host, port in (("git.intranet.example", 80), ("x.git.intranet.example", 443)):
        with pytest.raises(Forbidden, match="--allow-host"):
            policy.resolve(host, port)


@pytest.mark.parametrize("entry", ["example.org", "h:80", "[::1]:80", "10.0.0.0/8", "fd00::/8"])
def test_what_may_be_allowed(entry: str) -> None:
    assert check_allowed(entry) == entry


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.1/8", "10.0.0.0/33", "https://example.org", "a b", "u@example.org", "::1"]
)
def test_what_cannot_be_allowed_is_said(entry: str) -> None:
    with pytest.raises(ValueError):
        check_allowed(entry)


def test_an_excluded_name_in_other_letters_is_excluded(no_names: None) -> None:
    policy = Policy.load(excluded_hosts=["bücher.example", "2001:DB8:0::1", "[fe80::9]"])
    assert "excluded" in refusal("https://xn--bcher-kva.example/p", policy)
    assert "excluded" in refusal("https://git.XN--bcher-kva.example./p", policy)
    for host in ("[2001:db8::1]", "[fe80:0::9]"):
        assert "excluded" in refusal(f"https://{host}/p", policy)


@pytest.mark.parametrize("host", ["bücher.example", "ｅxample.org", "127。0。0。1", "①.example"])
def test_a_name_that_programs_read_in_different_ways_is_refused(host: str) -> None:
    assert "xn--" in refusal(f"https://{host}/p")


def test_a_host_is_fetched_as_it_was_checked(no_names: None) -> None:
    assert check("https://u@EXAMPLE.org.:443/P/r.git") == "https://example.org:443/P/r.git"


def test_an_excluded_host_is_refused_with_its_subdomains_and_no_others() -> None:
    policy = Policy.load(excluded_hosts=["Example.ORG"])
    assert "excluded" in refusal("https://example.org/p", policy)
    assert "excluded" in refusal("https://git.EXAMPLE.org./p", policy)
    assert check("https://192.0.2.1/example.org", policy)


def test_the_end_of_a_name_is_not_yet_a_subdomain(no_names: None) -> None:
    assert check("https://notexample.org/p", Policy.load(excluded_hosts=["example.org"]))


@pytest.mark.parametrize(
    ("rcs_type", "schemes"),
    [
        ("git", {"https", "http", "git"}),
        ("svn", {"https", "http", "svn"}),
        ("hg", {"https", "http"}),
        ("bzr", {"https", "http", "bzr"}),
    ],
)
def test_each_type_has_its_schemes(rcs_type: str, schemes: set[str]) -> None:
    every = ("https", "http", "git", "svn", "bzr", "ssh", "svn+ssh", "bzr+ssh", "ftp", "rsync")
    for scheme in every:
        source = Source(rcs_type, f"{scheme}://192.0.2.1/p")
        if scheme in schemes:
            assert STRICT.check(source) == source.url
        else:
            with pytest.raises(Forbidden, match=r"ssh is not allowed|scheme"):
                STRICT.check(source)


@pytest.mark.parametrize(
    ("root", "checked"),
    [
        (":pserver:anonymous@192.0.2.1:/cvsroot/p", ":pserver:anonymous@192.0.2.1:/cvsroot/p"),
        (":pserver:192.0.2.1/cvs", ":pserver:192.0.2.1:/cvs"),
        (":pserver:a.b-c@192.0.2.1:2402/cvs", ":pserver:a.b-c@192.0.2.1:2402/cvs"),
    ],
)
def test_a_cvs_server_may_be_asked(root: str, checked: str) -> None:
    assert STRICT.check(Source("cvs", cvs_root=root, cvs_module="module/part")) == checked


@pytest.mark.parametrize(
    ("root", "word"),
    [
        (":ext:u@192.0.2.1:/cvs", "and nothing else"),
        ("u@192.0.2.1:/cvs", "and nothing else"),
        (":ext;CVS_RSH=touch:u@192.0.2.1:/cvs", "and nothing else"),
        (":pserver;proxy=169.254.169.254;proxyport=80:u@192.0.2.1:/cvs", "and nothing else"),
        (":pserver:u@192.0.2.1:/cvs;x", "and nothing else"),
        (":pserver:u:secret@192.0.2.1:/cvs", "and nothing else"),
        (":pserver:u@192.0.2.1:", "and nothing else"),
        (":pserver:u@192.0.2.1:x/cvs", "and nothing else"),
        (":pserver:-u@192.0.2.1:/cvs", "and nothing else"),
        (":PSERVER:u@192.0.2.1:/cvs", "and nothing else"),
        (":gserver:u@192.0.2.1:/cvs", "and nothing else"),
        (":fork:/cvs", "and nothing else"),
        (":local:/cvs", "and nothing else"),
        (":server:u@192.0.2.1:/cvs", "and nothing else"),
        ("rsync://192.0.2.1/cvs", "and nothing else"),
        ("-d/cvs", "and nothing else"),
        ("cvs", "and nothing else"),
        (":pserver:u@192.0.2.1:/c\nvs", "characters"),
        (":pserver:u@127.1:/cvs", "this machine"),
        (":pserver:u@[::1]:2401/cvs", "this machine"),
        (":pserver:u@10.0.0.1:/cvs", "private network"),
        ("/cvs", "not on the list"),
    ],
)
def test_other_cvs_roots_are_refused(root: str, word: str) -> None:
    with pytest.raises(Forbidden, match=word):
        STRICT.check(Source("cvs", cvs_root=root, cvs_module="m"))


@pytest.mark.parametrize("module", ["", "-x", "/etc", "a/../b", "..", "a//b", "a;b", "a:b", "a b"])
def test_a_cvs_module_is_a_path_below_its_root(module: str) -> None:
    with pytest.raises(Forbidden):
        STRICT.check(Source("cvs", cvs_root=":pserver:u@192.0.2.1:/cvs", cvs_module=module))


@pytest.mark.parametrize("rcs_type", ["svn", "hg", "bzr", "cvs"])
def test_local_paths_of_other_types_are_taken_as_they_are(
    policy: Policy, config: Path, tmp_path: Path, rcs_type: str
) -> None:
    folder = tmp_path / "sources" / "repository"
    (folder / ".git").mkdir(parents=True)
    (folder / "out").symlink_to("/etc")

    def source(path: object) -> Source:
        if rcs_type == "cvs":
            return Source("cvs", cvs_root=str(path), cvs_module="m")
        return Source(rcs_type, f"file://{path}")

    with pytest.raises(Forbidden, match="not on the list"):
        policy.check(source(folder))
    allow_path(folder, config_dir=config)
    assert policy.check(source(folder)) == f"file://{folder}"
    assert policy.check(source(folder / "trunk")) == f"file://{folder}/trunk"
    for outside in (folder.parent, folder / "out", folder / ".." / "x"):
        with pytest.raises(Forbidden, match="not on the list"):
            policy.check(source(outside))


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
