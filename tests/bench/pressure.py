"""What code-import does under pressure: ``python3 tests bench pressure [--quick] [--only PART]``.

* held: a transaction with an xid and a snapshot is held open while runs are claimed and finished:
  one at a time, in batches, and out of every range that a claim reads; and two peers beside it
* readers: four connections scan our views over and over, in long REPEATABLE READ transactions
* overload: one and a half times as much falls due as can be done, then half as much
* idle: 1,000 workers with nothing to do, then one request, then 1,000 at once
* crowd: 200 connections of 50 machines claim and finish at once

Each part has a database of its own on one throw-away server, which is set up as in production. Ends
with 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from bench import arguments, cluster, contenders
from bench.contenders import Contender, Drivers, NotToBeHad
from bench.idleness import Idleness
from bench.pressing import RUNNING
from bench.pressure_report import report
from bench.promises import bars
from bench.queues import tell, template
from bench.series import Marks, Timeline, recovery, summary, walked
from harness import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.cluster import Cluster

PARTS = ("held", "readers", "overload", "idle", "crowd")
PEERS = ("graphile-worker", "pg-boss")
PERIOD = "2 s"
"""The update interval of imports that are always due again: a second after their run began."""
LIGHT = 1.3
"""How long the light load lasts, as a multiple of the heavy one, whose jobs are done meanwhile."""
PEEK = 2.0
"""Seconds between looks at whether things are as they were."""
SETTLE = 1.0
"""Seconds that drivers work before anything counts."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to claim, which reads one kind of range."""

    name: str
    words: str
    variant: str = "plain"
    processes: int = 4
    options: dict[str, Any] = field(default_factory=lambda: {"batch": 1})
    source: str = "due"


VARIANTS = (
    Variant("plain", "one job a call"),
    Variant("batched", "100 jobs a call", processes=3, options={"batch": 100}),
    Variant("requested", "each run was requested", "requested"),
    Variant("ordered", "many with an ordering wait; a tenth of the claimed have one", "ordered",
            source="ordered"),
    Variant("pinned", "each job is pinned to the machine that runs it", "pinned"),
    Variant("svn only", "workers serve svn, and git piles up", "plain",
            options={"batch": 1, "rcs_types": ["svn"]}, source="typed"),
    Variant("git only", "workers serve git, and svn piles up", "plain",
            options={"batch": 1, "rcs_types": ["git"]}, source="typed"),
    Variant("counting", "each machine has 100 runs", "counting"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done of everything."""

    minutes: float
    imports: int
    ordered: int
    before: float
    after: float
    """Seconds at most until things have to be as they were."""
    naptime: int
    """Seconds: autovacuum_naptime."""
    peer_keys: tuple[str, ...]
    overload: float
    tries: int
    """So often more falls due, until it is too much."""
    idle: float
    requests: int
    crowd: float


QUICK = Plan(1 / 12, 20_000, 50_000, 3, 7, 3, ("single",), 5, 2, 8, 3, 3)
FULL = Plan(10.0, 200_000, 1_000_000, 60, 130, 60, ("single", "batched"), 120, 3, 120, 30, 30)


def main(argv: list[str]) -> int:
    """Measure, report, and return 0 when every promise is kept, else 1."""
    options = _options(argv)
    environment.scrub()
    environment.hear_interrupts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    start = time.monotonic()
    plan = _plan(options)
    wanted = options.only or PARTS
    found, missing = contenders.peers(tell, PEERS) if "held" in wanted else ([], {})
    settings = {"max_connections": "300", "autovacuum_naptime": f"{plan.naptime}s"}
    try:
        with cluster.cluster(options.directory, options.server, **settings) as running:
            result = Pressure(running, plan, found, missing).run(wanted, options.variant)
    except (RuntimeError, NotToBeHad) as error:
        sys.exit(f"error: {error}")
    result |= {"took": time.monotonic() - start, "quick": options.quick}
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report(result)}\n\n{_draw(result, options.plot)}")
    print(f"Took {result['took']:.0f} s.")
    return 0 if all(bar.met for bar in bars(result)) else 1


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    given = {name: getattr(options, name) for name in ("minutes", "imports", "ordered", "naptime")}
    changed = {name: value for name, value in given.items() if value is not None}
    if "naptime" in changed:
        changed["after"] = 2 * changed["naptime"] + 10
    return Plan(**{**{name: getattr(plan, name) for name in plan.__slots__}, **changed})


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 tests bench pressure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer imports and shorter phases")
    parser.add_argument(
        "--minutes", type=arguments.positive, metavar="N",
        help=f"how long the snapshot is held ({FULL.minutes:.0f}; quick: {QUICK.minutes:.2f})",
    )  # fmt: skip
    parser.add_argument(
        "--imports", type=arguments.count, metavar="N",
        help=f"how many are always due again ({FULL.imports:,}; quick: {QUICK.imports:,})",
    )  # fmt: skip
    parser.add_argument(
        "--ordered", type=arguments.count, metavar="N",
        help=f"how many wait with an ordering ({FULL.ordered:,}; quick: {QUICK.ordered:,})",
    )  # fmt: skip
    parser.add_argument(
        "--naptime", type=arguments.count, metavar="S",
        help=f"autovacuum_naptime in seconds ({FULL.naptime}; quick: {QUICK.naptime})",
    )  # fmt: skip
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    parser.add_argument(
        "--variant", action="append", choices=[*(one.name for one in VARIANTS), *PEERS],
        help="of held, one variant or peer; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=arguments.file, metavar="FILE", help="write the result there too"
    )
    parser.add_argument(
        "--plot", type=arguments.file, metavar="FILE", default=contenders.CACHE / "pressure.png",
        help="the picture (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--directory", type=arguments.directory, default=cluster.default_base(),
        help="where the server's files are put, and removed again (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--server", type=int, metavar="MAJOR", help="which PostgreSQL of those that are here"
    )
    return parser.parse_args(argv)


def _draw(result: dict[str, Any], picture: Path) -> str:
    return contenders.draw(Path(__file__).with_name("pressure_plot.py"), result, picture)


# --- the benchmark -----------------------------------------------------------------------------


class Pressure:
    """One run of everything, on one server."""

    def __init__(
        self, running: Cluster, plan: Plan, peers: list[Contender], missing: dict[str, str]
    ) -> None:
        self.cluster = running
        self.plan = plan
        self.ours = contenders.ours("bench.pressing")
        self.peers = peers
        self.missing = missing
        self.made: set[str] = set()

    def run(self, wanted: tuple[str, ...], variants: list[str] | None) -> dict[str, Any]:
        """Measure everything, and return what was measured."""
        base = self.cluster.server.directory.parent
        machine: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "filesystem": cluster.filesystem(base),
            "syncs_per_second": cluster.syncs_per_second(base),
        }
        self.ours.version = self.ours.run("version", {})["version"]
        parts: dict[str, Callable[[], Any]] = {
            "held": lambda: self._held(variants),
            "readers": self._readers,
            "overload": self._overload,
            "idle": self._idle,
            "crowd": self._crowd,
        }
        measured = {name: part() for name, part in parts.items() if name in wanted}
        return {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine, "load_after": os.getloadavg()[0]},
            "server": self.cluster.describe(),
            "naptime": self.plan.naptime,
            "minutes": self.plan.minutes,
            "imports": self.plan.imports,
            "ordered": self.plan.ordered,
            "versions": {one.name: one.version for one in (self.ours, *self.peers)},
            "missing": self.missing,
            **measured,
        }

    # Databases

    def _database(self, source: str) -> str:
        """The name of a database to copy, which is made if need be."""
        name = f"pressure_{source}"
        if name in self.made:
            return name
        tell(f"preparing imports: {source}")
        self.cluster.execute(f"create database {name}")
        url = self.cluster.url(name)
        self.ours.run("prepare", {"url": url})
        count = self.plan.imports
        always, first = {"update_interval": PERIOD}, 0
        if source == "ordered":
            self._fill(url, 0, self.plan.ordered, {})
            self.ours.start("order", {"url": url}, patience=3600).end()
            first = self.plan.ordered
        if source == "typed":
            self._fill(url, 0, count // 2, {**always, "rcs_type": "svn"})
            first, count = count // 2, count // 2
        self._fill(url, first, count, {} if source == "waiting" else always)
        self.cluster.settle(name)
        self.made.add(name)
        return name

    def _fill(self, url: str, first: int, jobs: int, also: dict[str, str]) -> None:
        options = {"url": url, "first": first, "jobs": jobs, "runs": jobs, "also": also}
        self.ours.start("fill", {**options, "due": False}, patience=3600).end()

    # Phases

    def _start(
        self, one: Contender, name: str, options: dict[str, Any], processes: int, seconds: float
    ) -> Drivers:
        return Drivers(
            [
                one.start(name, {**options, "number": number}, patience=seconds + 600)
                for number in range(processes)
            ]
        )

    def _press(self, drivers: Drivers, pressure: Callable[[], Any]) -> tuple[Marks, list[Any]]:
        """Let drivers work before, during and after something; stop when all is as it was."""
        samples: list[Any] = []
        drivers.go()
        time.sleep(SETTLE)
        begin = time.monotonic()
        self._watch(begin + self.plan.before, samples)
        with pressure():
            held = time.monotonic()
            self._watch(held + self.plan.minutes * 60, samples)
        released = time.monotonic()
        marks = Marks(begin, held, released, released)
        while marks.end < released + self.plan.after and recovery(_line(drivers), marks) is None:
            self._watch(min(marks.end + PEEK, released + self.plan.after), samples)
            marks = replace(marks, end=time.monotonic())
        return marks, samples

    def _watch(self, until: float, samples: list[Any]) -> None:
        """Write down, each second, what is dead, how large all is, and what scans have read."""
        with psycopg.connect(self.cluster.url("run"), autocommit=True) as conn:
            while (left := until - time.monotonic()) > 0:
                row = conn.execute(SIZES).fetchone()
                samples.append([time.monotonic(), *(row or ())])
                time.sleep(min(left, 1.0))

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Hold a transaction open that has an xid, and a snapshot of its first statement."""
        with psycopg.connect(self.cluster.url("run")) as conn:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            conn.execute("select pg_current_xact_id()")
            conn.execute("select 1")
            yield
            conn.rollback()

    # Held

    def _held(self, variants: list[str] | None) -> dict[str, Any]:
        measured = {}
        for one in VARIANTS:
            if variants is None or one.name in variants:
                measured[one.name] = self._held_variant(one)
        peers: dict[str, dict[str, Any]] = {key: {} for key in self.plan.peer_keys}
        for peer in [one for one in self.peers if variants is None or one.name in variants]:
            for key in self.plan.peer_keys:
                try:
                    peers[key][peer.name] = self._held_peer(peer, key)
                except NotToBeHad as error:
                    tell(f"left out: {error}")
                    self.missing[peer.name] = str(error)
        return {"ours": measured, "peers": peers}

    def _held_variant(self, one: Variant) -> dict[str, Any]:
        source = self._database(one.source)
        tell(f"held: {one.name}, {one.words}")
        with self.cluster.copy(source, "run") as url:
            options = {"url": url, "variant": one.variant, "processes": one.processes}
            self.ours.start("set_up", options, patience=3600).end()
            self.cluster.settle("run")
            return {"words": one.words, **self._pressed(one, url, self._snapshot)}

    def _pressed(self, one: Variant, url: str, pressure: Callable[[], Any]) -> dict[str, Any]:
        options = {"url": url, "variant": one.variant, **one.options}
        with self._start(self.ours, "press", options, one.processes, self._longest()) as drivers:
            marks, samples = self._press(drivers, pressure)
            drivers.go("stop")
            answers = [driver.answer() for driver in drivers.all]
        line = Timeline.of(answer["seconds"] for answer in answers)
        refused = sum(answer["refused"] for answer in answers)
        told = {"refused": refused, "samples": _thinned(samples, marks)}
        return {**summary(line, marks), **told, "walked": walked(line, marks, samples)}

    def _longest(self) -> float:
        return self.plan.before + self.plan.minutes * 60 + self.plan.after

    def _held_peer(self, peer: Contender, key: str) -> dict[str, Any]:
        setting = peer.settings[key][0]
        name = template(peer)
        if name not in self.made:
            tell(f"preparing {peer.name}")
            peer.version = peer.run("version", {})["version"]
            self.cluster.execute(f"create database {name}")
            peer.run("prepare", {"url": self.cluster.url(name)})
            peer.run("fill", {"url": self.cluster.url(name), "jobs": 20_000})
            self.cluster.settle(name)
            self.made.add(name)
        tell(f"held: {peer.name}, {setting.words}")
        with self.cluster.copy(name, "run") as url:
            options = {"url": url, "jobs": 20_000, **setting.options}
            with self._start(peer, "press", options, setting.processes, self._longest()) as drivers:
                marks, samples = self._press(drivers, self._snapshot)
                drivers.go("stop")
                answers = [driver.answer() for driver in drivers.all]
        line = Timeline.of(answer["seconds"] for answer in answers)
        told = {"words": setting.words, "samples": _thinned(samples, marks)}
        return {**summary(line, marks), **told, "walked": walked(line, marks, samples)}

    # Readers

    def _readers(self) -> dict[str, Any]:
        """The same readers twice: each scan for itself, and many in one old snapshot."""
        plain = VARIANTS[0]
        source = self._database(plain.source)
        measured: dict[str, Any] = {}
        for name, lasting in (("short", 0.0), ("long", max(self.plan.minutes * 60 / 2, 3.0))):
            tell(f"readers: four, with {name} transactions")
            with self.cluster.copy(source, "run") as url:
                measured[name] = self._pressed(plain, url, partial(self._reading, lasting))
            measured[name]["lasting"] = lasting
        return measured

    @contextmanager
    def _reading(self, lasting: float) -> Iterator[None]:
        """Have four connections read."""
        options = {"url": self.cluster.url("run"), "lasting": lasting}
        with self._start(self.ours, "read", options, 4, self._longest()) as readers:
            readers.go()
            yield
            readers.go("stop")
            for reader in readers.all:
                reader.answer()

    # Overload

    def _overload(self) -> dict[str, Any]:
        """One and a half times what can be done falls due, and then half of it."""
        capacity = self._capacity(VARIANTS[0])
        for _ in range(self.plan.tries):
            measured = self._overloaded(capacity)
            if max((lag or 0 for lag in measured["lag"]), default=0) > 0.1 * self.plan.overload:
                break
            capacity = max(1.2 * capacity, measured["rate"])  # it can do more than it did alone
        return measured

    def _overloaded(self, capacity: float) -> dict[str, Any]:
        plain, heavy = VARIANTS[0], self.plan.overload
        much, little = int(1.5 * capacity * heavy), int(0.5 * capacity * heavy * LIGHT)
        source = self._database("waiting")
        have = self.cluster.execute("select count(*) from vcs.code_import", source)[0][0]
        if (more := RUNNING + much + little - have) > 0:
            self._fill(self.cluster.url(source), have, more, {})
            self.cluster.settle(source)
        tell(f"overload: {1.5 * capacity:,.0f} fall due each second, then {0.5 * capacity:,.0f}")
        with self.cluster.copy(source, "run") as url, ExitStack() as stack:
            self._set("maximum_heartbeat_interval", "5 s")
            self._make_due(0, RUNNING, 0, 1e9)
            beating = stack.enter_context(
                self._start(self.ours, "beat_on", {"url": url, "pause": 1.0}, 1, 3 * heavy)
            )
            options = {"url": url, "variant": "plain", **plain.options}
            drivers = stack.enter_context(
                self._start(self.ours, "press", options, plain.processes, 3 * heavy)
            )
            self._make_due(RUNNING, much, 1.0, 1.5 * capacity)
            begin = time.monotonic() + 1.0
            self._make_due(RUNNING + much, little, heavy + begin - time.monotonic(), 0.5 * capacity)
            beating.go()
            drivers.go()
            time.sleep(max(0.0, begin + (1 + LIGHT) * heavy - time.monotonic()))
            for each in (drivers, beating):
                each.go("stop")
            answers = [driver.answer() for driver in drivers.all]
            beats = beating.all[0].answer()
            reclaimed = self.cluster.execute(
                "select count(*) from vcs.code_import_result where status = 'reclaimed'", "run"
            )[0][0]
        return _overloaded(capacity, begin, heavy, answers, beats, reclaimed)

    def _capacity(self, plain: Variant) -> float:
        tell("overload: how much can be done")
        seconds = max(self.plan.before, 4)
        with self.cluster.copy(self._database(plain.source), "run") as url:
            options = {"url": url, "variant": plain.variant, **plain.options}
            with self._start(self.ours, "press", options, plain.processes, seconds) as drivers:
                drivers.go()
                time.sleep(SETTLE)
                begin = time.monotonic()
                time.sleep(seconds)
                end = time.monotonic()
                drivers.go("stop")
                answers = [driver.answer() for driver in drivers.all]
        return Timeline.of(answer["seconds"] for answer in answers).rate(begin, end)

    def _set(self, name: str, value: str) -> None:
        statement = f"select vcs.code_import_configure('{name}', '{value}', 'bench')"
        self.cluster.execute(statement, "run")

    def _make_due(self, skip: int, count: int, after: float, per_second: float) -> None:
        """Let jobs fall due one after the other. Only the owner of the tables can."""
        self.cluster.execute(
            f"""
            update vcs._code_import_schedule as schedule
            set date_due = clock_timestamp()
                + make_interval(secs => {after} + chosen.place / {per_second}::float8)
            from (
                select id, row_number() over (order by id) - 1 as place
                from (select id from vcs._code_import order by id offset {skip} limit {count}) as i
            ) as chosen
            where schedule.code_import_id = chosen.id
            """,
            "run",
        )

    # Idle

    def _idle(self) -> dict[str, Any]:
        """1,000 workers with nothing to do, and what becomes of requests."""
        source = self._database("waiting")
        with self.cluster.copy(source, "run") as url:
            return Idleness(self.cluster, self.ours, url).measure(
                self.plan.idle, self.plan.requests
            )

    # Crowd

    def _crowd(self) -> dict[str, Any]:
        """200 connections of 50 machines at once."""
        processes, machines, each = 10, 50, 20
        with self.cluster.copy(self._database("waiting"), "run") as url:
            self._make_due(0, 2_000_000, 0, 1e9)
            self.cluster.settle("run")
            tell(f"crowd: {processes * each} connections of {machines} machines")
            options = {"url": url, "machines": machines, "connections": each, "limit": 10}
            drivers = Drivers(
                [
                    self.ours.start("crowd", {**options, "first": each * number}, patience=900)
                    for number in range(processes)
                ]
            )
            before = self._deadlocks()
            with drivers:
                drivers.go()
                begin = time.monotonic()
                waits = self._lock_waits(begin + self.plan.crowd)
                end = time.monotonic()
                drivers.go("stop")
                answers = [driver.answer() for driver in drivers.all]
            return {
                "connections": processes * each,
                "machines": machines,
                "seconds": end - begin,
                "deadlocks": self._deadlocks() - before,
                "waits": waits,
                **_crowded(answers, begin, end),
            }

    def _deadlocks(self) -> int:
        time.sleep(1.1)  # a backend tells its counts once a second
        row = self.cluster.execute(
            "select deadlocks from pg_stat_database where datname = 'run'", "run"
        )[0]
        return int(row[0])

    def _lock_waits(self, until: float) -> dict[str, Any]:
        """Who waits for what, looked at many times."""
        kinds: dict[str, int] = {}
        looks, waiting, longest = 0, [], 0.0
        with psycopg.connect(self.cluster.url("run"), autocommit=True) as conn:
            while time.monotonic() < until:
                rows = conn.execute(WAITS).fetchall()
                looks += 1
                waiting.append(sum(row[1] for row in rows if row[0].startswith("Lock: ")))
                for kind, count, seconds in rows:
                    kinds[kind] = kinds.get(kind, 0) + count
                    longest = max(longest, seconds or 0.0)
                time.sleep(0.1)
        return {
            "looks": looks,
            "mean": sum(waiting) / max(looks, 1),
            "most": max(waiting, default=0),
            "longest": longest,
            "kinds": {kind: count / max(looks, 1) for kind, count in kinds.items()},
        }


SIZES = """
select
    (select sum(n_dead_tup)::bigint from pg_stat_user_tables),
    sum(pg_table_size(oid)) filter (where relkind = 'r')::bigint,
    sum(pg_relation_size(oid)) filter (where relkind = 'i')::bigint,
    (select sum(idx_tup_read)::bigint from pg_stat_user_indexes)
from pg_class
where relkind in ('r', 'i')
  and relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace,
                           'information_schema'::regnamespace)
"""

WAITS = """
select
    activity.wait_event_type || ': ' || activity.wait_event,
    count(*),
    max(extract(epoch from clock_timestamp() - locks.waitstart))::float8
from pg_stat_activity as activity
left join pg_locks as locks on locks.pid = activity.pid and not locks.granted
where activity.datname = current_database() and activity.usename = 'bench_worker'
  and activity.state = 'active' and activity.wait_event is not null
group by 1
"""


def _line(drivers: Drivers) -> Timeline:
    """What drivers have done so far."""
    drivers.go("tell")
    return Timeline.of(driver.answer()["seconds"] for driver in drivers.all)


def _thinned(samples: list[Any], marks: Marks) -> list[Any]:
    """At most a few hundred samples, with seconds from the beginning."""
    step = math.ceil(len(samples) / 300) or 1
    return [[round(at - marks.begin, 1), *rest] for at, *rest in samples[::step]]


def _overloaded(
    capacity: float,
    begin: float,
    heavy: float,
    answers: list[dict[str, Any]],
    beats: dict[str, Any],
    reclaimed: int,
) -> dict[str, Any]:
    line = Timeline.of(answer["seconds"] for answer in answers)
    lag = Timeline.of(answer["lag"] for answer in answers)
    beating = Timeline.of([beats["seconds"]])
    over = begin + heavy
    third = heavy / 3
    caught_up = None
    for at in range(math.ceil(over), math.floor(over + LIGHT * heavy)):
        if (late := lag.percentile(at, at + 1, 50)) is not None and late < 0.5:
            caught_up = at - over
            break

    def ms(value: float | None) -> float | None:
        return None if value is None else 1000 * value

    return {
        "capacity": capacity,
        "seconds": heavy,
        "rate": line.rate(begin, over),
        "rates": line.rates(begin, over + LIGHT * heavy),
        "lag": [lag.percentile(at, at + 1, 50) for at in range(
            math.ceil(begin), math.floor(over + LIGHT * heavy))],
        "p99_first": ms(line.percentile(begin, begin + third, 99)),
        "p99_last": ms(line.percentile(over - third, over, 99)),
        "p50_first": ms(line.percentile(begin, begin + third, 50)),
        "p50_last": ms(line.percentile(over - third, over, 50)),
        "caught_up": caught_up,
        "beat_p99": ms(beating.percentile(begin, over, 99)),
        "runs": beats["runs"],
        "directives": beats["directives"],
        "finished": beats["finished"],
        "reclaimed": reclaimed,
    }  # fmt: skip


def _crowded(answers: list[dict[str, Any]], begin: float, end: float) -> dict[str, Any]:
    machines: dict[str, int] = {}
    workers: list[int] = []
    errors: dict[str, int] = {}
    for answer in answers:
        for name, counts in answer["counts"].items():
            machines[name] = machines.get(name, 0) + sum(counts)
            workers += counts
        for words, count in answer["errors"].items():
            errors[words] = errors.get(words, 0) + count
    line = Timeline.of(answer["seconds"] for answer in answers)
    took = line.percentile(begin, end, 99)
    return {
        "per_second": sum(workers) / (end - begin),
        "per_machine": _least_middle_most(list(machines.values())),
        "per_worker": _least_middle_most(workers),
        "errors": errors,
        "claim_p99": None if took is None else 1000 * took,
    }


def _least_middle_most(values: list[int]) -> list[float]:
    return [min(values), median(values), max(values)]
