"""Databases in other encodings than UTF-8, and of other languages than English."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from code_import import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import servers


@pytest.mark.sql
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_long_logtail_is_cut_in_every_encoding(server: servers.Server, encoding: str) -> None:
    """What a tool printed is no reason to lose a run: not where its bytes are no UTF-8 either."""
    with _database(server, f"encoding '{encoding}' locale 'C'") as conn:
        assert _newest(conn, b"\xa4\xa2" * 40000) == b"\xa4\xa2" * 32768


@pytest.mark.sql
def test_a_host_has_one_normal_form_in_every_language(server: servers.Server) -> None:
    """In Turkish, the lower case of I is a letter of its own."""
    turkish = "locale_provider icu icu_locale 'tr' locale 'C' encoding 'UTF8'"
    try:
        with _database(server, turkish) as conn:
            normal = "select vcs._normal_url('FILE://GITHUB.COM/I') = vcs._normal_url(%s)"
            assert conn.execute(normal, ["file://github.com/I"]).fetchone() == (True,)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as missing:
        pytest.skip(f"this server has no ICU for a database: {missing}")


@contextmanager
def _database(server: servers.Server, options: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of its own that is made with these options."""
    name = f"t{os.getpid()}_of_another_kind"
    drop = f"drop database if exists {name} with (force)"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(drop.encode())
        admin.execute(f"create database {name} template template0 {options}".encode())
        try:
            schema.install(server.dsn(name))
            with psycopg.connect(server.dsn(name), autocommit=True) as conn:
                yield conn
        finally:
            admin.execute(drop.encode())


def _newest(conn: psycopg.Connection[Any], printed: bytes) -> bytes:
    conn.execute("select vcs.code_import_new('ada', 'a', 'git', 'https://example.org/a')")
    conn.execute("select vcs.code_import_job_claim('one.example.org', 1, 1)")
    beat = """
        select vcs.code_import_job_update_heartbeat(
            job.id, convert_from(%s, getdatabaseencoding()::name))
        from vcs.code_import_job as job
    """
    assert conn.execute(beat, [printed]).fetchone() in [("continue",), (b"continue",)]
    kept = "select convert_to(logtail, getdatabaseencoding()::name) from vcs.code_import_job"
    (tail,) = conn.execute(kept).fetchone() or (None,)
    assert isinstance(tail, bytes)
    return tail
