"""code-import and other PostgreSQL queues side by side: ``python3 tests bench [--quick]``.

Peers are fetched from their registries; each gets a database on one throw-away server that is set
up as in production. First every setting of every queue is tried for a moment. Then the best of
each runs in several rounds, in turn, each time on a fresh copy of a full queue. What a run warms
up with is not counted. A peer's job is done when its handler has returned: what it still has to
write then, one batch at most, is given to it.

Also measured: the time from a request to the start of its run; what a cycle of ours writes; and
heartbeats. Ends with 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from bench import arguments, cluster, contenders
from bench.contenders import Contender, NotToBeHad, Setting
from bench.figures import CLASSES, LATENCY_PEER, OURS, bars, percentile, ran_dry, rate
from bench.ours import CHANNEL
from bench.report import report
from harness import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.cluster import Cluster

Result = TypeVar("Result")

HEARTBEAT_SIZES = {"2 kB": 2_000, "64 kB": 64_000}
PAUSE = 0.02
"""Seconds between requests, give or take half of it, in which the worker comes to rest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done of everything."""

    tried: int
    """How many settings of each are tried."""
    try_seconds: float
    rounds: int
    warm_up: float
    seconds: float
    latency_rounds: int
    samples: int
    beats: int


QUICK = Plan(2, 0.4, 3, 0.4, 0.8, 2, 100, 20)
FULL = Plan(99, 1.5, 7, 1.0, 3.0, 5, 400, 100)


def main(argv: list[str]) -> int:
    """Measure, report, and return 0 when every promise is kept, else 1."""
    given = parser("", __doc__).parse_args(argv)
    environment.scrub()
    environment.hear_interrupts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    start = time.monotonic()
    found, missing = contenders.peers(tell)
    try:
        with cluster.cluster(given.directory, given.server) as running:
            bench = Bench(running, QUICK if given.quick else FULL, found, missing)
            result = bench.run()
    except (RuntimeError, NotToBeHad) as error:
        sys.exit(f"error: {error}")
    result |= {"took": time.monotonic() - start, "quick": given.quick}
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report(result)}\n\n{_draw(result, given.plot)}")
    print(f"Took {result['took']:.0f} s.")
    return 0 if all(bar.met for bar in bars(result)) else 1


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of the arguments that benchmarks of the database have in common."""
    made = argparse.ArgumentParser(
        prog=f"python3 tests bench {name}".rstrip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    made.add_argument(
        "--json", type=arguments.file, metavar="FILE", help="write the result there too"
    )
    made.add_argument(
        "--plot", type=arguments.file, metavar="FILE",
        default=contenders.CACHE / f"{name or 'queues'}.png",
        help="the picture (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--directory", type=arguments.directory, default=cluster.default_base(),
        help="where the server's files are put, and removed again (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--server", type=int, metavar="MAJOR", help="which PostgreSQL of those that are here"
    )
    return made


def tell(words: str) -> None:
    """Say what is being done, on standard error, where it is in nobody's way."""
    print(f"[{time.strftime('%H:%M:%S')}] {words}", file=sys.stderr, flush=True)


def _draw(result: dict[str, Any], picture: Path) -> str:
    """Draw the plot, and say where it is, or why there is none."""
    return contenders.draw(Path(__file__).with_name("plot.py"), result, picture)


# --- the benchmark -----------------------------------------------------------------------------


class Bench:
    """One run of everything, on one server."""

    def __init__(
        self, running: Cluster, plan: Plan, peers: list[Contender], missing: dict[str, str]
    ) -> None:
        self.cluster = running
        self.plan = plan
        self.ours = contenders.ours()
        self.peers = peers
        self.missing = missing
        self.filled: dict[str, int] = {}
        self.registered_per_second = 0.0

    def run(self) -> dict[str, Any]:
        """Measure everything, and return what was measured."""
        base = self.cluster.server.directory.parent
        machine = {
            "cpus": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "filesystem": cluster.filesystem(base),
            "syncs_per_second": cluster.syncs_per_second(base),
        }
        server = self.cluster.describe()
        for one in (self.ours, *self.peers):
            self._or_leave_out(one, self._prepare, one)
        tried = {key: self._try_settings(key) for key in CLASSES}
        rates = self._rounds(tried)
        latency = self._latency()
        self.cluster.restart(full_page_writes="off", autovacuum="off")
        cycle = {key: self._cycle(rates[key][OURS], key) for key in CLASSES}
        heartbeats = {name: self._heartbeats(size) for name, size in HEARTBEAT_SIZES.items()}
        return {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine, "load_after": os.getloadavg()[0]},
            "server": server,
            "versions": {one.name: one.version for one in (self.ours, *self.peers)},
            "missing": self.missing,
            "rates": rates,
            "latency": latency,
            "cycle": cycle,
            "heartbeats": heartbeats,
            "registered_per_second": self.registered_per_second,
        }

    def _or_leave_out(
        self, one: Contender, act: Callable[..., Result], *args: Any
    ) -> Result | None:
        """Do it; a peer that cannot do its part is left out from now on, and we never are."""
        try:
            return act(*args)
        except NotToBeHad as error:
            if one is self.ours:
                raise
            tell(f"left out: {error}")
            self.missing[one.name] = str(error)
            self.peers.remove(one)
            return None

    # Databases

    def _prepare(self, one: Contender) -> None:
        tell(f"preparing {one.name}")
        one.version = one.run("version", {})["version"]
        self.cluster.execute(f"create database {template(one)}")
        one.run("prepare", {"url": self.cluster.url(template(one))})
        if one.name in (OURS, LATENCY_PEER):
            self._prepare_idle(one)
        window = self.plan.warm_up + self.plan.seconds
        tried = self.plan.warm_up + self.plan.try_seconds
        self._fill(one, int(max(one.likely.values()) * max(window, tried) * 1.3))

    def _prepare_idle(self, one: Contender) -> None:
        """Make a database in which nothing is due."""
        idle = f"{template(one)}_idle"
        self.cluster.execute(f"create database {idle} template {template(one)}")
        if one is self.ours:
            one.run("fill", {"url": self.cluster.url(idle), "jobs": 2_000, "due": False})
        self.cluster.settle(idle)

    def _fill(self, one: Contender, jobs: int) -> None:
        """Have at least so many jobs waiting in the database that runs are copies of."""
        have = self.filled.get(one.name, 0)
        if jobs <= have:
            return
        url = self.cluster.url(template(one))
        answer = one.run("fill", {"url": url, "first": have, "jobs": jobs - have})
        self.registered_per_second = answer.get("registered_per_second", self.registered_per_second)
        self.filled[one.name] = jobs
        self.cluster.settle(template(one))

    # Throughput

    def _try_settings(self, key: str) -> dict[str, dict[str, float]]:
        """Jobs a second of each setting of each contender, by its place in the list."""
        found: dict[str, dict[str, float]] = {}
        for one in (self.ours, *self.peers):
            for setting in one.settings.get(key, [])[: self.plan.tried]:
                tell(f"trying {one.name}: {setting.words}, {setting.processes} processes")
                measured = self._or_leave_out(one, self._rate, one, setting, self.plan.try_seconds)
                if measured is None:
                    found.pop(one.name, None)
                    break
                found.setdefault(one.name, {})[_words(setting)] = measured
        return found

    def _rounds(self, tried: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
        """Each contender at its best setting, in turn, another one first in each round."""
        rates: dict[str, Any] = {key: {} for key in CLASSES}
        for number in range(self.plan.rounds):
            for key in CLASSES:
                runners = [one for one in (self.ours, *self.peers) if one.name in tried[key]]
                turn = number % len(runners)
                for one in runners[turn:] + runners[:turn]:
                    tell(f"round {number + 1} of {self.plan.rounds}: {one.name}, {key}")
                    best = _best(one.settings[key], tried[key][one.name])
                    measured = self._or_leave_out(one, self._rate, one, best, self.plan.seconds)
                    if measured is None:
                        continue
                    row = rates[key].setdefault(one.name, _row(best, tried[key][one.name]))
                    row["rounds"].append(measured)
        here = {one.name for one in (self.ours, *self.peers)}
        return {
            key: {name: row for name, row in rows.items() if name in here}
            for key, rows in rates.items()
        }

    def _rate(self, one: Contender, setting: Setting, seconds: float) -> float:
        """Jobs a second in one run; again with more of them if they ran out."""
        for attempt in (1, 2, 3):
            with self.cluster.copy(template(one), "run") as url:
                with self._working(one, setting, seconds, url) as drivers:
                    drivers.go()
                    answers = [driver.answer() for driver in drivers.all]
            if attempt == 3 or not any(map(ran_dry, answers)):
                break
            self._fill(one, int(self.filled[one.name] * 1.7))
        return rate(answers)

    def _working(
        self, one: Contender, setting: Setting, seconds: float, url: str
    ) -> contenders.Drivers:
        return contenders.Drivers(
            [
                one.start("work", {
                    "url": url, "warm_up": self.plan.warm_up, "seconds": seconds,
                    "number": number, **setting.options,
                })
                for number in range(setting.processes)
            ]
        )  # fmt: skip

    # Latency

    def _latency(self) -> dict[str, dict[str, list[float]]]:
        """Milliseconds from a request to its start, ours and the peer's in turn."""
        found: dict[str, dict[str, list[float]]] = {}
        peer = next((one for one in self.peers if one.name == LATENCY_PEER), None)
        options = {"warm_up": 20, "samples": self.plan.samples, "pause": PAUSE}
        for number in range(self.plan.latency_rounds):
            tell(f"latency, round {number + 1} of {self.plan.latency_rounds}")
            measured = {OURS: self._our_latency(options)}
            if peer is not None:
                theirs = self._or_leave_out(peer, self._peer_latency, peer, options)
                if theirs is None:
                    peer = None
                    found.pop(LATENCY_PEER, None)
                else:
                    measured[LATENCY_PEER] = theirs
            for name, values in measured.items():
                row = found.setdefault(name, {"p50": [], "p99": []})
                row["p50"].append(percentile(values, 50))
                row["p99"].append(percentile(values, 99))
        return found

    def _peer_latency(self, peer: Contender, options: dict[str, Any]) -> list[float]:
        with self.cluster.copy(f"{template(peer)}_idle", "run") as url:
            answer = peer.run("latency", {**options, "url": url})
        milliseconds: list[float] = answer["milliseconds"]
        return milliseconds

    def _our_latency(self, options: dict[str, Any]) -> list[float]:
        with ExitStack() as stack:
            url = stack.enter_context(self.cluster.copy(f"{template(self.ours)}_idle", "run"))
            drivers = stack.enter_context(
                contenders.Drivers(
                    [
                        self.ours.start(name, {**options, "url": url})
                        for name in ("answer_requests", "request")
                    ]
                )
            )
            drivers.go()
            worker, requester = drivers.all
            milliseconds = []
            for _ in range(options["warm_up"] + options["samples"]):
                requester.go()
                started = worker.answer()["started"]  # both read the machine's one clock
                milliseconds.append((started - requester.answer()["asked"]) * 1000)
        return milliseconds[options["warm_up"] :]

    # What is written

    def _cycle(self, best: dict[str, Any], key: str) -> dict[str, Any]:
        """What a steady cycle writes, and whether it notifies anybody."""
        tell(f"what a cycle writes: {key}")
        setting = Setting(best["setting"], best["options"], best["processes"])
        with self.cluster.copy(template(self.ours), "run") as url:
            with psycopg.connect(url, autocommit=True) as listener:
                listener.execute(f"listen {CHANNEL}".encode())
                with self._working(self.ours, setting, self.plan.seconds, url) as drivers:
                    before = self._written("run", but=1 + setting.processes)
                    drivers.go()
                    cycles = sum(driver.answer()["total"] for driver in drivers.all)
                after = self._written("run", but=1)
                notifications = len(list(listener.notifies(timeout=0.2)))
        return {
            "cycles": cycles,
            "notifications": notifications,
            **_each(before, after, cycles),
        }

    def _heartbeats(self, size: int) -> dict[str, Any]:
        """What a heartbeat with a log tail of that many bytes writes."""
        tell(f"heartbeats of {size:,} bytes")
        beats = self.plan.beats if size < 10_000 else self.plan.beats // 4
        with self.cluster.copy(template(self.ours), "run") as url:
            options = {"url": url, "bytes": size, "beats": beats}
            with contenders.Drivers([self.ours.start("beat", options)]) as drivers:
                before = self._written("run", but=1)
                drivers.go()
                answer = drivers.all[0].answer()
            after = self._written("run", but=0)
        return {
            "per_second": answer["beats"] / answer["seconds"],
            **_each(before, after, answer["beats"]),
        }

    def _written(self, dbname: str, but: int) -> dict[str, int]:
        """Counts since the server's start, when all but so many backends have told theirs."""
        deadline = time.monotonic() + 10
        others = (
            "select count(*) from pg_stat_activity where backend_type = 'client backend'"
            f" and datname = '{dbname}' and pid <> pg_backend_pid()"
        )
        while self.cluster.execute(others, dbname)[0][0] > but and time.monotonic() < deadline:
            time.sleep(0.05)
        row = self.cluster.execute(
            """
            select
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
                sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint,
                sum(n_tup_hot_upd)::bigint, sum(n_tup_del)::bigint
            from pg_stat_all_tables
            where relid in (
                select unnest(array[oid, reltoastrelid])
                from pg_class where relnamespace = 'vcs'::regnamespace
            )
            """,
            dbname,
        )[0]
        return dict(zip(("wal", "inserted", "updated", "hot", "deleted"), row, strict=True))


def _each(before: dict[str, int], after: dict[str, int], count: int) -> dict[str, float]:
    """What is written for each of so many, from counts before and after all of them."""
    grown = {name: after[name] - before[name] for name in before}
    return {
        "wal_bytes": grown["wal"] / count,
        "inserted": grown["inserted"] / count,
        "dead": (grown["updated"] + grown["deleted"]) / count,
        "hot": grown["hot"] / grown["updated"] if grown["updated"] else 1.0,
    }


def _best(settings: list[Setting], tried: dict[str, float]) -> Setting:
    """The setting that was fastest when it was tried."""
    return max(settings, key=lambda setting: tried.get(_words(setting), 0.0))


def _row(setting: Setting, tried: dict[str, float]) -> dict[str, Any]:
    return {
        "setting": setting.words,
        "processes": setting.processes,
        "options": setting.options,
        "tried": tried,
        "rounds": [],
    }


def _words(setting: Setting) -> str:
    return f"{setting.processes} x {setting.words}"


def template(one: Contender) -> str:
    """The database that the runs of a contender are copies of."""
    return one.name.replace("-", "_")
