"""Databases in other encodings than UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from code_import import schema

if TYPE_CHECKING:
    from harness import servers


@pytest.mark.sql
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_long_logtail_is_cut_in_every_encoding(server: servers.Server, encoding: str) -> None:
    """What a tool printed is no reason to lose a run: not where its bytes are no UTF-8 either."""
    name = f"in_{encoding.lower()}"
    make = sql.SQL("create database {} template template0 encoding {} locale 'C'").format(
        sql.Identifier(name), sql.Literal(encoding)
    )
    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(drop)
        admin.execute(make)
        try:
            schema.install(server.dsn(name))
            with psycopg.connect(server.dsn(name), autocommit=True) as conn:
                assert _newest(conn, b"\xa4\xa2" * 40000) == b"\xa4\xa2" * 32768
        finally:
            admin.execute(drop)


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
