"""Our own cycle, by the Python client: what ``python3 tests bench`` measures.

A process has one connection, and is a machine of its own. It claims, and finishes as
``success_nochange``; the database writes the result, the audit and the next job.

This module is also the driver, run as the peers' drivers are.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import DuplicateObject, UniqueViolation

from bench.peers.driving import Meter, say, wait_for_go
from code_import import __version__, schema
from code_import.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 10_000
CHANNEL = "code_import_job_due"
WORKER, OPERATOR, READER = "bench_worker", "bench_operator", "bench_reader"
STATUS: Any = "success_nochange"


# --- what is prepared --------------------------------------------------------------------------


def tell_version(_: dict[str, Any]) -> dict[str, Any]:
    """Name the versions that matter."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"version": f"{__version__} (psycopg {psycopg.__version__}, Python {python})"}


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Install the schema, and make a worker, an operator and a reader."""
    schema.install(options["url"])
    with connect(options) as conn:
        for role in (WORKER, OPERATOR, READER):
            group = role.replace("bench_", "code_import_")
            with contextlib.suppress(DuplicateObject, UniqueViolation):  # as another made it
                conn.execute(f"create role {role} login in role {group}".encode())
    return {}


def fill(options: dict[str, Any]) -> dict[str, Any]:
    """Register imports, run each once, and make them due again if asked for."""
    answer = register(options)
    run_all(options)
    if options.get("due", True):
        with connect(options) as conn:  # as the owner of the tables: nobody else can
            conn.execute(
                "update vcs._code_import_schedule set date_due = date_due - interval '6h 1min'"
                " where date_due > now()"
            )
    return answer


def register(options: dict[str, Any]) -> dict[str, Any]:
    """Register imports, many in a call."""
    start = time.perf_counter()
    with connect(options, OPERATOR) as conn:
        first, last = options.get("first", 0), options.get("first", 0) + options["jobs"]
        for begin in range(first, last, CHUNK):
            end = min(begin + CHUNK, last)
            refused = [
                row for row in Client(conn).new_many(
                    [_import(number) | options.get("also", {}) for number in range(begin, end)],
                    "bench",
                ) if row.error_code
            ]  # fmt: skip
            if refused:
                raise RuntimeError(f"an import was refused: {refused[0]}")
    return {"registered_per_second": options["jobs"] / (time.perf_counter() - start)}


def _import(number: int) -> dict[str, str]:
    name = f"project{number % 1000}/repository{number}"
    url = f"https://host{number % 97}.example.org/{name}.git"
    return {"target": name, "rcs_type": "git", "url": url}


def run_all(options: dict[str, Any]) -> dict[str, Any]:
    """Run all that is due, once; or so many, since what is due again at once has no end.

    The first run of an import is unlike all others: it publishes.
    """
    machine = f"prepare{options.get('number', 0)}.example.org"
    most = options.get("runs", sys.maxsize)
    count = 0
    with connect(options, WORKER) as conn:
        client = Client(conn)
        while runs := client.job_claim(machine, CHUNK // 10, min(most - count, CHUNK // 10)):
            client.job_finish_many([run.id for run in runs], [STATUS] * len(runs))
            count += len(runs)
    return {"cycles": count}


def connect(options: dict[str, Any], user: str | None = None) -> psycopg.Connection[Any]:
    """An autocommit connection, as the superuser of the server or as another user."""
    conninfo = make_conninfo(options["url"], **({"user": user} if user else {}))
    return psycopg.connect(conninfo, autocommit=True)


# --- what is measured --------------------------------------------------------------------------


def work(options: dict[str, Any]) -> dict[str, Any]:
    """Run cycles for a while, ``batch`` at a time, or each by two calls of its own."""
    meter = Meter()
    machine = f"machine{options['number']}.example.org"
    with connect(options, WORKER) as conn:  # the first cycle makes the machine
        _cycle(Client(conn), machine, options["batch"])()
    with connect(options, WORKER) as conn:
        cycle = _cycle(Client(conn), machine, options["batch"])
        wait_for_go()
        begin = time.perf_counter()
        start, before = begin, 0
        while (now := time.perf_counter()) < begin + options["warm_up"] + options["seconds"]:
            if start == begin and now >= begin + options["warm_up"]:
                start, before = now, meter.total
            if jobs := cycle():
                meter.count(jobs)
            else:
                time.sleep(0.01)
        return meter.answer(before, start)


def _cycle(client: Client, machine: str, batch: int) -> Callable[[], int]:
    def one() -> int:
        run = client.job_for_machine(machine, 10)
        if run is None:
            return 0
        client.job_finish(run.id, STATUS)
        return 1

    def many() -> int:
        runs = client.job_claim(machine, batch, batch)
        if runs:
            client.job_finish_many([run.id for run in runs], [STATUS] * len(runs))
        return len(runs)

    return one if batch == 1 else many


def answer_requests(options: dict[str, Any]) -> dict[str, Any]:
    """Be an idle worker: sleep until woken, claim, say when the run had started, finish it."""
    with connect(options, WORKER) as conn:
        client = Client(conn)
        conn.execute(f"listen {CHANNEL}".encode())
        wait_for_go()
        for _ in range(options["warm_up"] + options["samples"]):
            while (run := client.job_for_machine("answering.example.org", 10)) is None:
                for _ in conn.notifies(timeout=5, stop_after=1):
                    pass
            say({"started": time.monotonic()})
            client.job_finish(run.id, STATUS)
    return {}


def request(options: dict[str, Any]) -> dict[str, Any]:
    """Request imports that are not due, one a line of input; say when."""
    with connect(options, OPERATOR) as conn:
        client = Client(conn)
        count = options["warm_up"] + options["samples"]
        ids = [
            row[0]
            for row in conn.execute("select id from vcs.code_import order by id limit %s", [count])
        ]
        wait_for_go()
        for code_import_id in ids:
            sys.stdin.readline()
            time.sleep(options["pause"] * (0.5 + random.random()))
            asked = time.monotonic()
            client.request(code_import_id, "bench")
            say({"asked": asked})
    return {}


def beat(options: dict[str, Any]) -> dict[str, Any]:
    """Say many times that some runs are alive, each time with another log tail."""
    tails = [tail_of(number, options["bytes"]) for number in range(20)]

    def go_on(client: Client, beats: int) -> None:
        for number in range(beats):
            given = [tails[(number + place) % len(tails)] for place in range(len(ids))]
            client.job_update_heartbeats(ids, given)

    with connect(options, WORKER) as conn:  # what it does is counted when it is closed
        client = Client(conn)
        ids = [run.id for run in client.job_claim("beating.example.org", 100, 100)]
        go_on(client, 5)
    with connect(options, WORKER) as conn:
        wait_for_go()
        start = time.perf_counter()
        go_on(Client(conn), options["beats"])
        return {"beats": options["beats"] * len(ids), "seconds": time.perf_counter() - start}


def tail_of(number: int, size: int) -> str:
    """A log tail of so many bytes, another one for each number."""
    chance = random.Random(number)
    lines = []
    while size > 0:
        number = chance.getrandbits(48)
        line = f"Receiving objects: {number % 100:3}% ({number}/{number * 2}), {number:012x} KiB/s"
        lines.append(line[: size - 1])
        size -= len(lines[-1]) + 1
    return "\n".join(lines) + "\n"


COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "version": tell_version,
    "prepare": prepare,
    "fill": fill,
    "register": register,
    "run_all": run_all,
    "work": work,
    "answer_requests": answer_requests,
    "request": request,
    "beat": beat,
}


def main() -> None:
    """Run the command that the arguments name, and answer."""
    say(COMMANDS[sys.argv[1]](json.loads(sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
