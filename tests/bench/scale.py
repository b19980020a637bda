"""How the queue fares as it grows: ``python3 tests bench scale [--quick]``.

Databases of 10 thousand, 1 million and 10 million imports on one throw-away server, each import
with a run behind it, a tenth of them due. Measured: how fast imports are registered in bulk; the
latency of what workers and people call, one sample of each size after the other, so that whatever
disturbs the machine disturbs all sizes; the reclaim of 10,000 silent runs; and what is on disk.

Then a steady day: as many imports as fall due at a rate of 1,160 a second, which is 100 million
checked once a day, are done as they fall due, and after that as fast as it can be. Ends with 1
when a promise is not kept.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import arguments, cluster, contenders
from bench.contenders import Contender, NotToBeHad
from bench.figures import percentile, rate
from bench.ours import OPERATOR, STATUS, WORKER, connect, tail_of
from bench.queues import parser, tell
from bench.scale_report import HISTORY, HOT, bars, report
from code_import import reading
from code_import.client import Client
from harness import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.cluster import Cluster

SCATTER = 7919
"""A prime: multiples of it visit all imports in an order that has nothing to do with their ids."""
SUSPENDED = 200
STALE = 10_000
MACHINES, BATCH = 4, 50
LASTING = 2.0
"""Seconds that a run of the steady day goes on for."""
BYTES_AN_IMPORT = 3_000
"""On disk with a run, while the database is made; only to refuse a disk that is too small."""
MOST_WAL = 16 << 30
SHARES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done of everything."""

    sizes: list[int]
    day_size: int
    rate: float
    minutes: float
    slot: float
    """Seconds of the steady day that one line of its table and one point of its plot is about."""
    rush: float
    rounds: int
    samples: int
    """How often each call is timed in a round, at each size."""
    reclaims: int

    @property
    def interval(self) -> float:
        """Seconds after which an import of the steady day is due again."""
        return self.day_size / self.rate


def main(argv: list[str]) -> int:
    """Measure, report, and return 0 when every promise is kept, else 1."""
    given = _options(argv)
    plan = _plan(given)
    environment.scrub()
    environment.hear_interrupts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if too_small := _too_small(given.directory, plan):
        sys.exit(f"error: {too_small}")
    start = time.monotonic()
    settings = {"shared_buffers": _shared_buffers(), "checkpoint_timeout": "5min"}
    try:
        with cluster.cluster(given.directory, given.server, **settings) as running:
            result = Bench(running, plan).run()
    except (RuntimeError, NotToBeHad) as error:
        sys.exit(f"error: {error}")
    result |= {"took": time.monotonic() - start, "quick": given.quick}
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report(result)}\n\n{_draw(result, given.plot)}")
    print(f"Took {result['took']:.0f} s.")
    return 0 if all(bar.met for bar in bars(result)) else 1


def _draw(result: dict[str, Any], picture: Path) -> str:
    return contenders.draw(Path(__file__).with_name("scale_plot.py"), result, picture)


def _options(argv: list[str]) -> argparse.Namespace:
    made = parser("scale", __doc__)
    made.add_argument(
        "--sizes", type=_sizes, metavar="N,N",
        help="imports of each database (default: 10k,1M,10M; with --quick 10k,100k)",
    )  # fmt: skip
    made.add_argument(
        "--minutes", type=arguments.positive, metavar="N",
        help="how long the steady day is watched (default: 30; with --quick 0.5)",
    )  # fmt: skip
    made.add_argument(
        "--rate",
        type=arguments.positive,
        default=1160,
        help="cycles a second of it (default: %(default)s)",
    )
    return made.parse_args(argv)


def _sizes(words: str) -> list[int]:
    units = {"k": 1_000, "M": 1_000_000}
    try:
        sizes = sorted(
            {int(float(word.rstrip("kM")) * units.get(word[-1:], 1)) for word in words.split(",")}
        )
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{words} is not like 10k,1M") from error
    if sizes[0] < STALE:
        raise argparse.ArgumentTypeError(f"the least size is {STALE:,}: so many runs are reclaimed")
    return sizes


def _plan(given: argparse.Namespace) -> Plan:
    quick = given.quick
    sizes = given.sizes or ([10_000, 100_000] if quick else [10_000, 1_000_000, 10_000_000])
    minutes = given.minutes if given.minutes is not None else 0.5 if quick else 30.0
    return Plan(
        sizes=sizes,
        day_size=max((size for size in sizes if size <= 1_000_000), default=sizes[0]),
        rate=given.rate,
        minutes=minutes,
        slot=10.0 if minutes >= 3 else 2.0,
        rush=5.0 if quick else 60.0,
        rounds=3 if quick else 7,
        samples=300 if quick else 1000,
        reclaims=3 if quick else 5,
    )


def _too_small(directory: Path, plan: Plan) -> str | None:
    """What the disk lacks; None when there is room for everything."""
    cycles = plan.rate * 60 * plan.minutes
    data = BYTES_AN_IMPORT * sum(plan.sizes) + 1_500 * cycles
    needed = data + min(MOST_WAL, 3 * data)
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    return (
        f"{directory} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed:"
        " name another --directory, or smaller --sizes"
    )


def _shared_buffers() -> str:
    """A quarter of the memory, as production has it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(memory // 4 >> 20, 128)}MB"


# --- the benchmark -----------------------------------------------------------------------------


class Bench:
    """One run of everything, on one server."""

    def __init__(self, running: Cluster, plan: Plan) -> None:
        self.cluster = running
        self.plan = plan
        self.ours = contenders.ours()
        self.day = Contender(self.ours.name, [sys.executable, "-m", "bench.steady"], {}, {})

    def run(self) -> dict[str, Any]:
        """Measure everything, and return what was measured."""
        base = self.cluster.server.directory.parent
        machine = {
            "cpus": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "filesystem": cluster.filesystem(base),
            "syncs_per_second": cluster.syncs_per_second(base),
        }
        filled = {str(size): self._fill(size) for size in self.plan.sizes}
        latency = self._latency()
        reclaim = {str(size): self._reclaim(size) for size in self.plan.sizes}
        day = self._day()
        return {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine, "load_after": os.getloadavg()[0]},
            "server": self.cluster.describe(),
            "versions": {self.ours.name: self.ours.run("version", {})["version"]},
            "missing": {},
            "sizes": self.plan.sizes,
            "rounds": self.plan.rounds,
            "samples": self.plan.samples,
            "filled": filled,
            "latency": latency,
            "reclaim": reclaim,
            "day": day,
        }

    # Databases

    def _fill(self, size: int) -> dict[str, Any]:
        """Make a database of that many imports, each run once, a tenth of them due."""
        name = database(size)
        self.cluster.execute(f"create database {name}")
        self.ours.run("prepare", {"url": self.cluster.url(name)})
        shares = min(os.cpu_count() or 1, 4) if size >= 100_000 else 1
        tell(f"registering {size:,} imports, {shares} connections")
        registered = self._registered(name, size, shares)
        tell(f"running {size:,} imports once")
        self._run_once(name, size, shares)
        self._suspend_some(name)
        make_tenth_due(self.cluster, name, size)
        self._settle(name)
        return {
            "connections": shares,
            "registered_per_second": registered,
            "results": size,
            "relations": relations(self.cluster, name),
        }

    def _registered(self, name: str, size: int, shares: int) -> float:
        """Register the imports, as many connections at a time; how many a second."""
        share = size // shares
        orders = [
            {"url": self.cluster.url(name), "first": share * place, "jobs": share}
            for place in range(shares)
        ]
        orders[-1]["jobs"] += size - share * shares
        start = time.perf_counter()
        with ExitStack() as stack:
            drivers = [
                stack.enter_context(self.ours.start("register", order, _patience(size)))
                for order in orders
            ]
            rates = [driver.answer()["registered_per_second"] for driver in drivers]
        took = time.perf_counter() - start
        return float(rates[0]) if shares == 1 else size / took

    def _run_once(self, name: str, size: int, shares: int) -> None:
        with ExitStack() as stack:
            drivers = [
                stack.enter_context(
                    self.ours.start(
                        "run_all", {"url": self.cluster.url(name), "number": place}, _patience(size)
                    )
                )
                for place in range(shares)
            ]
            done = sum(driver.answer()["cycles"] for driver in drivers)
        if done != size:
            raise RuntimeError(f"{size} imports were registered, and {done} were run")

    def _suspend_some(self, name: str) -> None:
        """Have a few imports of another status, for people to list."""
        with connect({"url": self.cluster.url(name)}, OPERATOR) as conn:
            for code_import_id in range(1, SUSPENDED * 5, 5):
                Client(conn).update(code_import_id, {"review_status": "suspended"}, "bench")

    def _settle(self, name: str) -> None:
        """Vacuum and analyze; and let a checkpoint recycle WAL, as it is when a server is not new.

        Else somebody waits for each new segment.
        """
        self.cluster.settle(name)
        self.cluster.execute("checkpoint")

    # Latency

    def _latency(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        """Milliseconds of each call at each size, in rounds."""
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        with ExitStack() as stack:
            at = [stack.enter_context(Caller(self.cluster, size)) for size in self.plan.sizes]
            for one in at:
                for _ in range(30):
                    one.sample()
            for number in range(self.plan.rounds):
                tell(f"latency, round {number + 1} of {self.plan.rounds}")
                for one in at:
                    one.times = {}
                self._round(at, number)
                for one in at:
                    for call, times in one.times.items():
                        row = found.setdefault(call, {}).setdefault(str(one.size), {})
                        for share, percent in SHARES.items():
                            row.setdefault(share, []).append(percentile(times, percent))
        return found

    def _round(self, at: list[Caller], number: int) -> None:
        """All sizes in turn, sample by sample, another one first each time."""
        gc.collect()
        gc.disable()
        try:
            for sample in range(self.plan.samples):
                turn = (number + sample) % len(at)
                for one in at[turn:] + at[:turn]:
                    one.sample()
                    if sample % 10 == 0:
                        one.read()
        finally:
            gc.enable()

    # Reclaim

    def _reclaim(self, size: int) -> list[float]:
        """Seconds that it takes to reclaim so many runs that have gone silent."""
        name = database(size)
        tell(f"reclaiming {STALE:,} of {size:,}")
        make_due(self.cluster, name, f"code_import_id <= {2 * STALE}")
        took = []
        with ExitStack() as stack:
            options = {"url": self.cluster.url(name)}
            operator = Client(stack.enter_context(connect(options, OPERATOR)))
            worker = Client(stack.enter_context(connect(options, WORKER)))
            for _ in range(self.plan.reclaims):
                claimed = 0
                while runs := worker.job_claim("silent.example.org", STALE, 1000):
                    claimed += len(runs)
                operator.configure("maximum_heartbeat_interval", "0.5 s", "bench")
                time.sleep(0.6)
                start = time.perf_counter()
                reclaimed = worker.job_reclaim_stale(STALE)
                took.append((time.perf_counter() - start) * STALE / reclaimed)
                operator.configure("maximum_heartbeat_interval", None, "bench")
                if reclaimed != claimed or reclaimed < STALE - SUSPENDED:
                    raise RuntimeError(f"{claimed} runs went silent, {reclaimed} were reclaimed")
        return took

    # The steady day

    def _day(self) -> dict[str, Any]:
        """A steady day for a while, and then all that can be done."""
        plan, name = self.plan, database(self.plan.day_size)
        tell(f"preparing a steady day of {plan.day_size:,} imports every {plan.interval:.1f} s")
        with connect({"url": self.cluster.url(name)}, OPERATOR) as conn:
            interval = f"{plan.interval:.6f} s"
            Client(conn).configure("default_interval_git", interval, "bench")
        options = {
            "url": self.cluster.url(name), "batch": BATCH, "period": MACHINES * BATCH / plan.rate,
            "lasting": LASTING, "slot": plan.slot,
            "slots": max(round(plan.minutes * 60 / plan.slot), 3),
        }  # fmt: skip
        self._spread_due(name)
        slots = self._slots(name, options)
        tell("as fast as it can be")
        make_due(self.cluster, name, "true")
        self._settle(name)
        with self._machines("rush", {**options, "seconds": plan.rush}) as drivers:
            drivers.go()
            rushed = rate([driver.answer() for driver in drivers.all])
        return {
            "imports": plan.day_size - SUSPENDED, "interval": plan.interval,
            "rate": (plan.day_size - SUSPENDED) / plan.interval,
            "machines": MACHINES, "batch": BATCH, "lasting": LASTING, "slot": plan.slot,
            "slots": slots, "rush": rushed,
        }  # fmt: skip

    def _spread_due(self, name: str) -> None:
        """Let the imports fall due one after the other at the rate, and wait for the first."""
        delay = 5 + self.plan.day_size / 25_000
        begin = time.monotonic() + delay
        self.cluster.execute(
            f"""
            update vcs._code_import_schedule
            set date_due = now() + interval '{delay} s'
                + (code_import_id * {SCATTER} % {self.plan.day_size})
                * interval '{1_000_000 / self.plan.rate} us'
            where state = 'pending'
            """,
            name,
        )
        self._settle(name)
        time.sleep(max(begin - time.monotonic(), 0))

    def _slots(self, name: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        slots = []
        every = max(min(round(60 / options["slot"]), options["slots"] // 3), 1)
        with self._machines("day", options) as drivers:
            before = grown(self.cluster, name)
            drivers.go()
            for number in range(options["slots"]):
                answers = [driver.answer() for driver in drivers.all]
                after = grown(self.cluster, name)
                slots.append(_slot(answers, before, after))
                before = after
                if number % every == every - 1:
                    slots[-1]["tidied"] = self._tidy_up(name)
                tell(_words(slots[-1], options["slot"]))
        return slots

    def _tidy_up(self, name: str) -> float:
        """Milliseconds of the upkeep that somebody always does now and then."""
        with connect({"url": self.cluster.url(name)}, WORKER) as conn:
            start = time.perf_counter()
            Client(conn).tidy_up()
            return (time.perf_counter() - start) * 1000

    def _machines(self, command: str, options: dict[str, Any]) -> contenders.Drivers:
        patience = _patience(0) + options["slot"] * options["slots"]
        return contenders.Drivers(
            [
                self.day.start(
                    command,
                    {
                        **options, "number": number,
                        "offset": options["period"] * number / MACHINES,
                    },
                    patience,
                )
                for number in range(MACHINES)
            ]
        )  # fmt: skip


@dataclass
class Caller:
    """All that call one database, and how long they waited."""

    cluster: Cluster
    size: int
    times: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds of each call."""
    _left: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __enter__(self) -> Caller:
        options = {"url": self.cluster.url(database(self.size))}
        self._stack = ExitStack()
        self._left = self.size // 10
        self._operator = self._stack.enter_context(connect(options, OPERATOR))
        self._worker = self._stack.enter_context(connect(options, WORKER))
        self._machine = f"caller{self.size}.example.org"
        self._tail = tail_of(1, 2_000)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sample(self) -> None:
        """A run that is due, from claim to finish; a request, and the run that was asked for."""
        worker, operator = Client(self._worker), Client(self._operator)
        if self._left < 100:
            make_tenth_due(self.cluster, database(self.size), self.size)
            self._left = self.size // 10
        run = self._time("claim", lambda: worker.job_for_machine(self._machine, 10))
        self._time("heartbeat", lambda: worker.job_update_heartbeat(run.id, self._tail))
        self._time("finish", lambda: worker.job_finish(run.id, STATUS))
        wanted = self._some_import()
        self._time("request", lambda: operator.request(wanted, "bench"))
        run = self._time("claim of it", lambda: worker.job_for_machine(self._machine, 10))
        if run.code_import_id != wanted:
            raise RuntimeError(f"import {wanted} was requested, {run.code_import_id} was claimed")
        worker.job_finish(run.id, STATUS)
        self._left -= 2
        self._time("next_due", lambda: worker.job_next_due(self._machine))

    def read(self) -> None:
        """What people list: first pages."""
        conn, machine = self._operator, reading.machine(self._worker, self._machine)
        assert machine is not None
        wanted = self._some_import()
        self._list("imports of a status", lambda: reading.imports(conn, statuses=["suspended"]))
        self._list("due jobs", lambda: reading.jobs(conn, due=True))
        self._list("machine's results", lambda: reading.results(conn, machine_id=machine.id))
        self._list("import's results", lambda: reading.results(conn, code_import_id=wanted))
        self._list("import's events", lambda: reading.events(conn, code_import_id=wanted))
        self._list("all events", lambda: reading.events(conn))

    def _list(self, name: str, call: Callable[[], object]) -> None:
        """Time a listing, unless it has had a second in this round."""
        if sum(self.times.get(name, [])) < 1000:
            self._time(name, call)

    def _time(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = call()
        self.times.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        return answer

    def _some_import(self) -> int:
        """One of those that are not suspended."""
        while True:
            number = self._chance.randint(1, self.size)
            if number % 5 != 1:
                return number


# --- what only the owner of the tables can do, and see --------------------------------------------


def database(size: int) -> str:
    """The name of the database of this size."""
    return f"imports_{size}"


def make_due(running: Cluster, name: str, condition: str) -> None:
    """Have waiting jobs been due for up to an hour, in an order that is not that of the rows."""
    running.execute(
        f"""
        update vcs._code_import_schedule
        set date_due = now() - interval '1 hour' * ((code_import_id * {SCATTER} % 36000) / 36000.0)
        where state = 'pending' and ({condition})
        """,
        name,
    )


def make_tenth_due(running: Cluster, name: str, size: int) -> None:
    """Have a tenth of the imports due."""
    make_due(running, name, f"code_import_id % 10 = 0 and code_import_id <= {size}")


def relations(running: Cluster, name: str) -> dict[str, dict[str, int]]:
    """Bytes and counts of each table, with all its partitions."""
    rows = running.execute(
        """
        select root.relname, sum(pg_table_size(part.oid))::bigint,
            sum(pg_indexes_size(part.oid))::bigint, sum(stat.n_dead_tup)::bigint,
            sum(stat.autovacuum_count)::bigint
        from pg_class as part
        join pg_class as root on root.oid = coalesce(pg_partition_root(part.oid), part.oid)
        join pg_stat_all_tables as stat on stat.relid = part.oid
        where part.relnamespace = 'vcs'::regnamespace and part.relkind = 'r'
            and root.relname ~ '^_code_import'
        group by root.relname
        """,
        name,
    )
    return {
        relname: {"table": table, "indexes": indexes, "dead": dead, "autovacuums": vacuums}
        for relname, table, indexes, dead, vacuums in rows
    }


def grown(running: Cluster, name: str) -> dict[str, Any]:
    """What there is now: bytes of WAL, and of each relation."""
    wal = running.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return {"wal": wal[0][0], "relations": relations(running, name)}


def _slot(
    answers: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """One line of the steady day."""

    def all_of(what: str) -> list[float]:
        return [one for answer in answers for one in answer[what]]

    def hot(part: str) -> int:
        return sum(
            counts[part] for relation, counts in after["relations"].items() if relation in HOT
        )

    found: dict[str, Any] = {"cycles": sum(answer["cycles"] for answer in answers)}
    for call in ("claim", "heartbeat", "finish", "lag"):
        times = all_of(call) or [0.0]
        found[call] = {share: percentile(times, SHARES[share]) for share in ("p50", "p99")}
    history = sum(
        counts["table"] + counts["indexes"]
        for relation, counts in after["relations"].items()
        if relation.startswith(HISTORY)
    )
    return {
        **found,
        "table": hot("table"), "indexes": hot("indexes"), "dead": hot("dead"),
        "autovacuums": hot("autovacuums"), "history": history,
        "wal": after["wal"] - before["wal"],
    }  # fmt: skip


def _words(slot: dict[str, Any], seconds: float) -> str:
    return (
        f"{slot['cycles'] / seconds:,.0f} cycles/s, lag p99 {slot['lag']['p99'] / 1000:.2f} s,"
        f" claim p99 {slot['claim']['p99']:.1f} ms, finish p99 {slot['finish']['p99']:.1f} ms,"
        f" {(slot['table'] + slot['indexes']) / 1e6:,.0f} MB"
    )


def _patience(size: int) -> float:
    """Seconds after which a process with so much to do is taken to hang."""
    return contenders.PATIENCE + size / 1_000
