"""Import lists: many imports from a file of any form, and back into one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from code_import.cli import import_lists
from code_import.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

COMMAND = (sys.executable, "-P", "-m", "code_import")


def read(text: str) -> list[dict[str, Any]]:
    """What a list of this text asks for."""
    return [dict(entry.wanted) for entry in import_lists.read(io.StringIO(text))]


def add(
    dsn: str, text: str | bytes, *more: str, code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Give a list to the command, on its stdin."""
    done = subprocess.run(
        [*COMMAND, "--dsn", dsn, "import", "add", "--from", "-", *more],
        input=text.encode() if isinstance(text, str) else text, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "text",
    [
        "target,rcs_type,url\na/b,git,https://example.org/x.git\nc/d,svn,svn://example.org/y\n",
        (
            "\ufefftarget , url,owner\r\na/b,https://example.org/x.git,\r\n\r\n"
            '"c/d",svn://example.org/y,\r\n'
        ),
        (
            '{"target": "a/b", "url": "https://example.org/x.git", "owner": null}\n\n'
            '{"target": "c/d", "url": "svn://example.org/y"}'
        ),
        (
            '\n[{"target": "a/b", "url": "https://example.org/x.git"},\n'
            '{"target": "c/d", "url": "svn://example.org/y"}]'
        ),
    ],
)
def test_all_forms_say_the_same(text: str) -> None:
    assert read(text) == [
        {"target": "a/b", "rcs_type": "git", "url": "https://example.org/x.git"},
        {"target": "c/d", "rcs_type": "svn", "url": "svn://example.org/y"},
    ]


def test_urls_name_their_mirrors() -> None:
    entries = read(
        "# ours\nhttps://Example.org:8443/~me/project/repo.git\n\nssh://me@example.org/a//b\n"
        "me@example.org:c/d.git\nsvn+ssh://example.org/e\nbzr://example.org/f\n"
    )
    assert [(entry["target"], entry["rcs_type"]) for entry in entries] == [
        ("example.org/me/project/repo", "git"), ("example.org/a/b", "git"),
        ("example.org/c/d", "git"), ("example.org/e", "svn"), ("example.org/f", "bzr"),
    ]  # fmt: skip


def test_cvs_has_a_root_and_a_module() -> None:
    [entry] = read("target,cvs_root,cvs_module\nold/ed,:pserver:me@example.org:/cvs,ed\n")
    assert entry["rcs_type"] == "cvs"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("target,colour\na,b\n", "its head names 'colour'"),
        ("target,url\na\n", "line 2 has 1 fields, and the head has 2"),
        ('target,url\na/b,https://e.org/x\n"a,b\n', "line 3 is no CSV"),
        ('{"target": "a"}\n{"target"\n', "line 2 is no JSON"),
        ('{"target": "a"}\n3\n', "line 2 is no object"),
        ('[{"target": "a"}, 3]', "entry 2 is no object"),
        ('[{"target": "a"}', "begins as a JSON array and is none"),
        ("https://example.org/a\nnonsense\n", "line 2: 'nonsense' is no source"),
    ],
)
def test_what_is_no_list_says_where(text: str, why: str) -> None:
    with pytest.raises(import_lists.NotAList, match=why.replace("(", r"\(")):
        read(text)


def test_nothing_is_an_empty_list() -> None:
    assert read("") == read("\n \n") == read("[]") == read("target,url\n") == []


def test_a_list_is_registered(dsn: str, conn: psycopg.Connection[Any]) -> None:
    text = "".join(f"https://example.org/p/{number}.git\n" for number in range(2_500))
    done = add(dsn, text)
    assert done.stdout == b"2500 registered, 0 there already, 0 refused\n"
    assert conn.execute("select count(*) from vcs.code_import_job").fetchone() == (2_500,)
    done = add(dsn, text + "https://example.org/new\nHTTPS://example.org:443/p/1.git/\n")
    assert done.stdout == b"1 registered, 2501 there already, 0 refused\n"


def test_what_is_refused_is_said_and_the_rest_is_registered(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    Client(conn).new("ada", "taken", "git", "https://example.org/first")
    done = add(
        dsn,
        "target,url,update_interval\n"
        "a,https://example.org/a,PT6H\n"
        "taken,https://example.org/b,\n"
        "../c,https://example.org/c,\n"
        "d,https://user:secret@example.org/d,\n"
        "e,https://example.org/a,\n",
        code=1,
    )
    assert done.stdout == b"1 registered, 0 there already, 4 refused\n"
    lines = done.stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "line 3, taken", "line 4, ../c", "line 5, d", "line 6, e",
    ]  # fmt: skip
    assert "secret" not in done.stderr.decode()
    told = json.loads(add(dsn, "target,url\n../c,https://e.org/c\n", "--json", code=1).stdout)
    assert told["refused"] == 1
    assert told["refusals"][0]["error_code"] == "IJ400"


def test_a_list_that_breaks_off_keeps_what_came_before(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    lines = [f"https://example.org/p/{number}" for number in range(1_500)]
    done = add(dsn, "\n".join([*lines, "nonsense"]), code=1)
    assert b"line 1501: 'nonsense' is no source" in done.stderr
    assert b"1000 imports before it are registered" in done.stderr
    assert conn.execute("select count(*) from vcs.code_import").fetchone() == (1_000,)


def test_bad_calls_say_so(dsn: str) -> None:
    assert b"not UTF-8" in add(dsn, b"https://example.org/\xff\n", code=1).stderr
    assert b"not both" in add(dsn, "", "target", "url", code=2).stderr
    done = subprocess.run(
        [*COMMAND, "--dsn", dsn, "import", "add"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"or --from FILE" in done.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_is_exported_can_be_added_again(
    dsn: str, conn: psycopg.Connection[Any], tmp_path: Path, form: str
) -> None:
    client = Client(conn)
    client.new("ada", "plain", "git", "https://example.org/a,b")
    client.new("ada", "old/ed", "cvs", None, ":pserver:a@example.org:/cvs", "ed", "suspended")
    client.new(
        "ada", "some/svn", "svn", "svn://example.org/x", owner='b "o" b', update_interval="1 day"
    )
    query = (
        "select target, rcs_type, url, cvs_root, cvs_module, review_status, owner, update_interval"
        " from vcs.code_import order by target"
    )
    before = conn.execute(query).fetchall()
    file = tmp_path / "list"
    done = subprocess.run(
        [*COMMAND, "--dsn", dsn, "import", "export", str(file), "--form", form],
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr == b"3 imports written\n"
    for (code_import_id,) in conn.execute("select id from vcs.code_import").fetchall():
        client.delete(code_import_id, "ada")
    add(dsn, file.read_text())
    assert conn.execute(query).fetchall() == before


def test_urls_are_exported_alone(dsn: str, conn: psycopg.Connection[Any]) -> None:
    client = Client(conn)
    client.new("ada", "b", "git", "https://example.org/b")
    client.new("ada", "a", "svn", "https://example.org/a")
    client.new("ada", "old/ed", "cvs", None, ":pserver:a@example.org:/cvs", "ed")
    done = subprocess.run(
        [*COMMAND, "--dsn", dsn, "import", "export", "-", "--form", "urls"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"https://example.org/a\nhttps://example.org/b\n"
