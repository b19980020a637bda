"""Imports registered as a list are what single calls make of them, and plain ones cost no call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_import.client import Client
from harness import effort
from harness.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Connect

pytestmark = pytest.mark.sql

Given = dict[str, Any]


# --- what may be given -------------------------------------------------------------------------


# The parts of a url: the first of each is plain, and so are some others.
URL_PARTS: list[list[str]] = [
    ["https", "http", "git", "ssh", "svn", "svn+ssh", "bzr+ssh", "ftp", "file",
     "HTTPS", "gopher", "1x", "ht tp", "\u0130ttps", ""],
    ["://"],
    ["", "git@", "U_1@", "u.x@", "a:b@", "-u@", "@", "u@v@", "ü@", ":@"],
    ["example.org", "a.b", "EXAMPLE.org", "", "-h.org", ".a", "a_b", "127.0.0.1", "0",
     "[::1]", "[::1", "a]b", "a b", "a\tb", "bücher.de", "BÜCHER.de", "xn--bcher-kva.de",
     "ISTANBUL.org", "\u0130stanbul.org", "\u212a.org", "\u017fs.org"],
    ["", ":80", ":443", ":22", ":0443", ":8080", ":0", ":65535", ":65536", ":", ":x",
     ":1000000", ":80:80", ":\u0663"],
    ["/1", "", "/", "//", "/1/", "/1//", "/1.git", "/A", "/1?b", "?1", "#1", "/1/?", "/%20",
     "/ü", "/a b", "/a\x01", "/a\u0085", "/a\u00a0", "/a:b@c", "/{}|^~", "\\a", "/a\n",
     "/" + "a" * 1980, "/" + "a" * 1981],
]  # fmt: skip
VALUES: dict[str, list[str]] = {
    "target": ["import/1", "import/2", "import/3", "a", "A/_b", "+a._-", "a.gitx", "a.GIT",
     "", "/a", "a/", "a//b", ".a", "a/.b", "-a", "a/-b", "a/../b", "a\n", "a b", "a\x1bb", "ü",
     "a.git", "a.git/b", "a.lock", "a/b.lock", "a" * 200, "a" * 201, "\u0130", "'a'", "%s"],
    "rcs_type": ["git", "svn", "hg", "bzr", "cvs", "GIT", "", "fossil\x02"],
    "url": ["https://example.org/1", "https://example.org/2", "git@example.org:1",
     "git@EXAMPLE.org:/1", "", "/", "//", "/srv/a", "/srv/a/", "x@y:", "@y:z", "http:/x",
     "http//x", "://x", "-http://a", "file:///a", "file:///", "file:/x", "a" * 2001,
     "https:/example.org/1", "https:x://example.org/1"],
    "cvs_root": ["/cvs", ":pserver:ada@example.org:/cvs", ":pserver:a:b@c:/d", "ü", "",
     ":ext;Password=x:y", "-d", "a b", "a" * 2001],
    "cvs_module": ["m", "n", "", "-m", "a b", "ü"],
    "review_status": ["reviewed", "new", "invalid", "suspended", "failing", "", "Reviewed"],
    "registrant": ["ada", "bob", "Zoë B", " x ", "", " ", "\u3000", "a\nb", "a\u0085"],
    "owner": ["ada", "bob", "Zoë B", " x ", "", " ", "\u3000", "ü" * 200, "x" * 201],
    "update_interval": ["1 day", "PT6H", "P1Y2M", "1-2", "-1 2:03:04", "-1 day", "1 day ago",
     "0", "10 years", "10 years 1 s", "3653 days", "3654 days", "-1 mon 32 days", "infinity",
     "often", "", "1 d\x01", "1e30 s", "0.0000001 s", "999999999999 days", "x" * 60],
}  # fmt: skip
ODD_KEYS = ["urll", "", "Target", "target ", "id", "%L", "a\nb", "k" * 60]
ODD_VALUES = [7, 1.5, True, [], {}, ["https://example.org/1"], {"a": "b"}, ["git"], ["import/1"]]
PLAIN: Given = {key: VALUES[key][0] for key in ("target", "rcs_type", "url")}
FROM_CVS: Given = {key: VALUES[key][0] for key in ("target", "cvs_root", "cvs_module")} | {
    "rcs_type": "cvs"
}


def every_oddity() -> Iterator[Any]:
    """What differs in one thing from a plain import, or from one of cvs."""
    for one in (PLAIN, FROM_CVS):
        yield one
        for key, values in VALUES.items():
            yield from (one | {key: value} for value in [*values, None, *ODD_VALUES])
        for key in ODD_KEYS:
            yield from (one | {key: value} for value in ("x", None, 3))
        for missing in one:
            yield {key: value for key, value in one.items() if key != missing}
    for place, parts in enumerate(URL_PARTS):
        for part in parts:
            url = [usual[0] for usual in URL_PARTS]
            url[place] = part
            yield PLAIN | {"url": "".join(url)}
    yield from [*ODD_VALUES, None, "target"]


@st.composite
def an_import(draw: st.DrawFn) -> Given:
    """An import that is right, or odd in few ways."""
    one: Given = dict(draw(st.sampled_from([PLAIN, PLAIN, FROM_CVS])))
    if one["rcs_type"] != "cvs":
        one["url"] = "".join(
            draw(st.sampled_from(parts)) if draw(st.integers(0, 3)) == 0 else parts[0]
            for parts in URL_PARTS
        )
    for key in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2)):
        one[key] = draw(st.sampled_from([*VALUES[key][:3] * 3, *VALUES[key], None]))
    return one


@st.composite
def anything(draw: st.DrawFn) -> Any:
    """What may stand in a list."""
    return draw(st.one_of(an_import(), an_import(), st.sampled_from(list(every_oddity()))))


def searching(examples: int) -> settings:
    """How hard hypothesis looks; each example is undone, so that all can share a database."""
    return settings(
        max_examples=examples * (50 if effort.is_long() else 1),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# --- the same answers --------------------------------------------------------------------------


def assert_judged_alike(
    conn: psycopg.Connection[Any], imports: list[Any], registrant: str | None
) -> None:
    """Field by field, whether a glance was enough or not."""
    judged = """
        select given.target, given.rcs_type, given.url, given.cvs_root, given.cvs_module,
            given.review_status, given.registrant, given.owner, given.update_interval,
            given.source_hash, given.refusal
        from {} as given
    """
    together = judged.format("vcs._given_imports(%s, %s)")
    alone = judged.format("vcs._given_import(%s, %s)")
    rows = conn.execute(together.encode(), [json.dumps(imports), registrant]).fetchall()
    for one, row in zip(imports, rows, strict=True):
        assert conn.execute(alone.encode(), [json.dumps(one), registrant]).fetchall() == [row], one


@pytest.mark.parametrize("registrant", ["ada", "Zoë B", "", None])
def test_every_oddity_is_judged_in_a_list_as_it_is_alone(
    conn: psycopg.Connection[Any], registrant: str | None
) -> None:
    assert_judged_alike(conn, list(every_oddity()), registrant)


@searching(60)
@given(imports=st.lists(anything(), min_size=1, max_size=20))
def test_what_is_odd_in_many_ways_is_judged_in_a_list_as_it_is_alone(
    conn: psycopg.Connection[Any], imports: list[Any]
) -> None:
    assert_judged_alike(conn, imports, "ada")


@searching(60)
@given(imports=st.lists(an_import(), min_size=1, max_size=12), registrant=st.just("ada"))
def test_a_list_does_what_single_calls_do(
    conn: psycopg.Connection[Any], imports: list[Given], registrant: str
) -> None:
    """The same imports, jobs and events, and the same refusals, in the same order."""
    with conn.transaction(force_rollback=True):  # one now() for both
        with conn.transaction(force_rollback=True):
            listed = [
                (row.target, row.error_code, row.message)
                for row in Client(conn).new_many(imports, registrant)
            ]
            made = everything(conn)
        single = [call(conn, one, registrant) for one in imports]
        assert everything(conn) == made
    for one, row, (error_code, message) in zip(imports, listed, single, strict=True):
        assert row[:2] == (one["target"], error_code)
        if message is not None:
            # A list is answered at its end: a later one of it may have got the target meanwhile.
            later = f"the target {one['target']} is mirrored already"
            assert row[2] == message or (error_code, row[2]) == ("23505", later)


def call(
    conn: psycopg.Connection[Any], one: Given, registrant: str
) -> tuple[str | None, str | None]:
    """Register one by a call of its own; the SQLSTATE and message of its refusal.

    An interval that cannot be has no message here: the call says so first, or cannot be made.
    """
    interval = one.get("update_interval")
    read, can_be = conn.execute(
        """
        select interval.value::text, vcs._is_update_interval(interval.value)
        from vcs._interval_of(%s) as interval (value)
        """,
        [interval],
    ).fetchone() or (None, None)
    if interval is not None and read is None:
        return "IJ400", None
    named = {"registrant": registrant, **one, "update_interval": read}
    if named["registrant"] is None:
        named["registrant"] = registrant
    arguments = ", ".join(f"p_{key} => %({key})s" for key in named)
    try:
        with conn.transaction():
            conn.execute(f"select vcs.code_import_new({arguments})".encode(), named)
    except psycopg.Error as refused:
        return refused.sqlstate, refused.diag.message_primary if can_be else None
    return None, None


def everything(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Imports with their hash, job and events, in the order in which they were made."""
    return conn.execute("""
        select
            to_jsonb(import) - 'id', stored.source_hash,
            to_jsonb(job) - '{id,code_import_id}'::text[],
            event.event_type, event.person, event.date_created,
            event.data - 'id', event.data ->> 'id' = import.id::text,
            rank() over (order by event.id), rank() over (order by job.id)
        from vcs.code_import as import
        join vcs._code_import as stored on stored.id = import.id
        left join vcs.code_import_job as job on job.code_import_id = import.id
        left join vcs.code_import_event as event on event.code_import_id = import.id
        order by import.id
    """).fetchall()


def test_of_two_that_cannot_both_be_the_first_is_made(conn: psycopg.Connection[Any]) -> None:
    """Also when the first is not plain, and so is judged after the other."""
    made = Client(conn).new_many(
        [
            {"target": "one", "rcs_type": "git", "url": "https://EXAMPLE.org:443/1/"},
            {"target": "two", "rcs_type": "git", "url": "https://example.org/1"},
            {
                "target": "two",
                "rcs_type": "git",
                "url": "https://example.org/2",
                "owner": "Zoë",
            },
            {"target": "two", "rcs_type": "hg", "url": "https://example.org/3"},
        ],
        "ada",
    )
    assert [row.error_code for row in made] == [None, "23505", None, "23505"]
    assert made[0].code_import_id < made[2].code_import_id  # type: ignore[operator]


# --- the cost ----------------------------------------------------------------------------------


def test_only_what_is_not_plain_costs_a_call(connect: Connect) -> None:
    """And none is judged twice, whether it is made or refused."""
    with connect() as conn:
        conn.execute("set track_functions = 'pl'")
        plain = [
            {"target": f"plain/{n}", "rcs_type": "git", "url": f"https://example.org/{n}.git"}
            for n in range(50)
        ]
        others = [
            {"target": f"other/{n}", "rcs_type": "git", "url": f"https://example.org:8080/{n}"}
            for n in range(3)
        ]
        wrong = [{"target": "-", "rcs_type": "git", "url": "https://example.org/wrong"}]
        Client(conn).new_many([*plain, *others, *wrong], "ada")
        Client(conn).new_many([*plain, *others], "ada")
    with connect() as conn:
        query = "select funcname, calls from pg_stat_user_functions where schemaname = 'vcs'"

        def counted() -> dict[str, int]:
            found = dict(conn.execute(query).fetchall())
            return found if found.get("code_import_new_many") == 2 else {}

        calls = eventually(counted, what="the first session's counts are in")
    assert calls["_given_import"] == 2 * len(others) + len(wrong)
    assert calls["_taken"] == len(plain) + len(others)
    assert calls["_one_line"] == len(plain) + len(others) + len(wrong)
