"""What idle workers ask, and what wakes them: a part of ``python3 tests bench pressure``.

The server logs each statement of the workers, those that only begin or end a transaction included,
and its log is counted.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from bench.contenders import Drivers
from bench.figures import percentile
from bench.ours import OPERATOR, WORKER, connect
from bench.queues import tell
from code_import.client import Client

if TYPE_CHECKING:
    import psycopg

    from bench.cluster import Cluster
    from bench.contenders import Contender

WORKERS, PROCESSES, CONNECTIONS = 1_000, 4, 5
STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")
BETWEEN = 1.5
"""Seconds from one request to the next, in which all that it causes happens."""
PATIENCE = 60.0
"""Seconds after which what was requested ought to run."""


class Idleness:
    """1,000 idle workers on one database."""

    def __init__(self, running: Cluster, ours: Contender, url: str) -> None:
        self.cluster = running
        self.ours = ours
        self.url = url

    def measure(self, seconds: float, requests: int) -> dict[str, Any]:
        """Let them idle, request some imports one by one, and then many at once."""
        tell(f"idle: {WORKERS:,} workers come to rest")
        self.cluster.execute(f"alter role {WORKER} in database run set log_statement = 'all'")
        options = {
            "url": self.url,
            "workers": WORKERS // PROCESSES,
            "connections": CONNECTIONS,
        }
        patience = seconds + requests * BETWEEN + 600
        drivers = Drivers(
            [
                self.ours.start("idle", {**options, "number": number}, patience)
                for number in range(PROCESSES)
            ]
        )
        with drivers, connect({"url": self.url}, OPERATOR) as conn:
            drivers.go()
            for driver in drivers.all:
                driver.answer()  # at rest
            drivers.go()
            tell("idle: nothing happens")
            quiet = self._quiet(seconds)
            tell("idle: one request at a time")
            ids = [row[0] for row in conn.execute("select id from vcs.code_import order by id")]
            moments = self._requests(Client(conn), ids[:requests])
            tell("idle: 1,000 requests at once")
            drivers.go("keep")
            many = self._many(conn, ids[requests : requests + WORKERS], apart=True)
            one = self._many(conn, ids[requests + WORKERS :][:WORKERS], apart=False)
            drivers.go("end")
            answers = [driver.answer() for driver in drivers.all]
        return {
            "workers": WORKERS,
            "connections": PROCESSES * CONNECTIONS,
            **_told(answers, quiet, moments),
            "many": many,
            "many_in_one": one,
        }

    def _quiet(self, seconds: float) -> tuple[float, float, int]:
        before, begin = self._statements(), time.monotonic()
        time.sleep(seconds)
        return begin, time.monotonic(), self._statements() - before

    def _requests(self, client: Client, ids: list[int]) -> list[tuple[float, float, int]]:
        moments = []
        for one in ids:
            before, asked = self._statements(), time.monotonic()
            client.request(one, "bench")
            time.sleep(BETWEEN)
            moments.append((asked, time.monotonic(), self._statements() - before))
        return moments

    def _many(self, conn: psycopg.Connection[Any], ids: list[int], apart: bool) -> dict[str, Any]:
        """Request them, each in a transaction of its own or all in one; see when they run."""
        before, begin = self._running(conn), time.monotonic()
        client = Client(conn)
        if apart:
            for one in ids:
                client.request(one, "bench")
        else:
            with conn.transaction():
                for one in ids:
                    client.request(one, "bench")
        asked = time.monotonic() - begin
        took: dict[int, float | None] = {}
        for share in (50, 100):
            while (now := self._running(conn)) < before + len(ids) * share // 100:
                if time.monotonic() > begin + PATIENCE:
                    break
                time.sleep(0.02)
            enough = now >= before + len(ids) * share // 100
            took[share] = time.monotonic() - begin if enough else None
        return {"asked": asked, "half": took[50], "all": took[100], "running": now - before}

    def _running(self, conn: psycopg.Connection[Any]) -> int:
        row = conn.execute(
            "select count(*) from vcs.code_import_job where state = 'running'"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _statements(self) -> int:
        return len(STATEMENT.findall(self.cluster.server.log.read_bytes()))


def _told(
    answers: list[dict[str, Any]],
    quiet: tuple[float, float, int],
    moments: list[tuple[float, float, int]],
) -> dict[str, Any]:
    begin, end, statements = quiet
    asked = [one for answer in answers for one in answer["asked"]]
    started = sorted(at for answer in answers for at in answer["started"])
    woken, milliseconds = [], []
    for since, until, _ in moments:
        woken.append(len({who for at, who, because in asked if because and since <= at < until}))
        first = next((at for at in started if at >= since), None)
        milliseconds.append(1000 * (first - since) if first is not None else 1000 * PATIENCE)
    return {
        "seconds": end - begin,
        "statements_per_second": statements / (end - begin),
        "asks_per_second": sum(begin <= at < end for at, _, _ in asked) / (end - begin),
        "woken": woken,
        "milliseconds": milliseconds,
        "start_p50": percentile(milliseconds, 50),
        "start_most": max(milliseconds),
        "statements_of_a_request": [statements for _, _, statements in moments],
    }
