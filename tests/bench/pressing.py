"""Our own side of ``python3 tests bench pressure``: the driver, run as those of the peers are.

Everything is done by the Python client, as the role that may do it. A process is a connection and
a machine of its own, but in a crowd and among idle workers.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg

from bench.idling import idle
from bench.ours import OPERATOR, READER, STATUS, WORKER, connect, fill, prepare, tell_version
from bench.peers.driving import say, wait_for_go
from bench.series import Recorder
from code_import.client import Client
from code_import.errors import CodeImportError, typed_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from code_import.models import Assignment

FOLLOW, FOLLOW_AT_LEAST = 50, 0.2
"""What an operator does to imports whose run has ended: so many at once, or after so long."""
CHUNK = 5_000
SHARE_ORDERED = 0.1
RUNNING = 100
"""How many runs a machine keeps whose runs are counted."""
PERSON = "bench"


class Stop:
    """Whether a line has come that says so. A line "tell" is answered with what there is."""

    def __init__(self, tell: Callable[[], dict[str, Any]] = dict) -> None:
        self.said = threading.Event()
        self._tell = tell
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while sys.stdin.readline().strip() == "tell":
            say(self._tell())
        self.said.set()

    def __bool__(self) -> bool:
        return self.said.is_set()


def machine(number: int) -> str:
    """The name of one of the machines."""
    return f"machine{number}.example.org"


# --- what is prepared --------------------------------------------------------------------------


def set_up(options: dict[str, Any]) -> dict[str, Any]:
    """Bring a database that is full of due jobs into the state that a variant starts from."""
    with connect(options, OPERATOR) as conn:
        client = Client(conn)
        for number in range(options["processes"]):
            client.machine_new(machine(number), "online")
        act = {"requested": _request, "pinned": _pin}.get(options["variant"])
        if act is not None:
            ids = [row[0] for row in conn.execute("select id from vcs.code_import order by id")]
            for start in range(0, len(ids), CHUNK):
                act(conn, ids[start : start + CHUNK], start // CHUNK % options["processes"])
    return {}


def order(options: dict[str, Any]) -> dict[str, Any]:
    """Give an ordering to jobs, most of them not due."""
    with connect(options, OPERATOR) as conn:
        ids = [row[0] for row in conn.execute("select id from vcs.code_import order by id")]
        for start in range(0, len(ids), CHUNK):
            _order(conn, ids[start : start + CHUNK], 0)
    return {}


def _request(conn: psycopg.Connection[Any], ids: Sequence[int], _: int) -> None:
    conn.execute(
        "select from unnest(%s::bigint[]) as given (id)"
        f" cross join lateral vcs.code_import_request(given.id, '{PERSON}') as job",
        [ids],
    )


def _pin(conn: psycopg.Connection[Any], ids: Sequence[int], number: int) -> None:
    conn.execute(
        "select from vcs.code_import_job as job"
        " cross join lateral vcs.code_import_job_schedule("
        " job.id, (select machine.id from vcs.code_import_machine as machine"
        f" where machine.hostname = %s), null, '{PERSON}') as pinned"
        " where job.code_import_id = any (%s) and job.state <> 'running'",
        [machine(number), ids],
    )


def _order(conn: psycopg.Connection[Any], ids: Sequence[int], _: int) -> None:
    conn.execute(
        "select from vcs.code_import_job as job"
        " cross join lateral vcs.code_import_job_schedule("
        f" job.id, null, (random() * 100)::integer, '{PERSON}') as ordered"
        " where job.code_import_id = any (%s) and job.state <> 'running'",
        [ids],
    )


# --- cycles ------------------------------------------------------------------------------------


class Following:
    """An operator with a connection of its own, who comes after the runs of a worker."""

    def __init__(self, options: dict[str, Any]) -> None:
        acts: dict[str, Callable[..., None]] = {
            "requested": _request, "pinned": _pin, "ordered": _order
        }  # fmt: skip
        self._act = acts.get(options["variant"])
        self._share = SHARE_ORDERED if options["variant"] == "ordered" else 1.0
        self._number = options["number"]
        self._conn = connect(options, OPERATOR) if self._act else None
        self._waiting: list[int] = []
        self._since = time.monotonic()
        self.refused = 0

    def close(self) -> None:
        """End its connection."""
        if self._conn is not None:
            self._conn.close()

    def after(self, runs: Sequence[Assignment]) -> None:
        """See to some imports whose runs have just ended."""
        if self._act is None:
            return
        self._waiting += [run.code_import_id for run in runs if random.random() < self._share]
        late = time.monotonic() > self._since + FOLLOW_AT_LEAST
        if self._waiting and (late or len(self._waiting) >= FOLLOW):
            self._see_to(self._waiting)
            self._waiting, self._since = [], time.monotonic()

    def _see_to(self, ids: Sequence[int]) -> None:
        assert self._act is not None
        assert self._conn is not None
        try:
            with typed_errors():
                self._act(self._conn, ids, self._number)
        except CodeImportError:  # one of them runs already
            if len(ids) == 1:
                self.refused += 1
                return
            for one in ids:
                self._see_to([one])


def press(options: dict[str, Any]) -> dict[str, Any]:
    """Run cycles until told to stop."""
    recorder, lag = Recorder(), Recorder()
    with connect(options, WORKER) as conn, closing(Following(options)) as following:
        cycle = _cycle(Client(conn), options, recorder)
        cycle()
        wait_for_go()
        stop = Stop(lambda: {"seconds": recorder.answer()})
        while not stop:
            runs = cycle()
            if not runs:
                time.sleep(0.005)
                continue
            recorder.count(len(runs))
            for run in runs:
                assert run.date_started is not None
                lag.took((run.date_started - run.date_due).total_seconds())
            following.after(runs)
    return {"seconds": recorder.answer(), "lag": lag.answer(), "refused": following.refused}


def _cycle(
    client: Client, options: dict[str, Any], recorder: Recorder
) -> Callable[[], list[Assignment]]:
    name, batch = machine(options["number"]), options["batch"]
    limit, types = options.get("limit", 10), options.get("rcs_types")

    def claim_one() -> list[Assignment]:
        start = time.perf_counter()
        run = client.job_for_machine(name, limit, types)
        recorder.took(time.perf_counter() - start)
        return [run] if run else []

    def one() -> list[Assignment]:
        runs = claim_one()
        for run in runs:
            client.job_finish(run.id, STATUS)
        return runs

    def many() -> list[Assignment]:
        start = time.perf_counter()
        runs = client.job_claim(name, batch, batch, types)
        recorder.took(time.perf_counter() - start)
        if runs:
            client.job_finish_many([run.id for run in runs], [STATUS] * len(runs))
        return runs

    def in_turn() -> list[Assignment]:
        """End the oldest of many runs, and start another one."""
        if not kept:
            kept.extend(client.job_claim(name, RUNNING, RUNNING, types))
        run = kept.popleft()
        client.job_finish(run.id, STATUS)
        kept.extend(claim_one())
        return [run]

    kept: deque[Assignment] = deque()
    if options["variant"] == "counting":
        limit = RUNNING
        return in_turn
    return one if batch == 1 else many


def read(options: dict[str, Any]) -> dict[str, Any]:
    """Scan our views over and over, in transactions of one snapshot that last ``lasting`` s."""
    scans = 0
    views = ("code_import_job", "code_import", "code_import_result", "code_import_event")
    with connect(options, READER) as conn:
        if options["lasting"]:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        wait_for_go()
        stop = Stop()
        while not stop:
            end = time.monotonic() + options["lasting"]
            with conn.transaction():
                while True:
                    view = views[scans % len(views)]
                    conn.execute(f"select count(*), max(id) from vcs.{view}".encode())
                    scans += 1
                    if stop or time.monotonic() >= end:
                        break
    return {"scans": scans}


def beat_on(options: dict[str, Any]) -> dict[str, Any]:
    """Keep runs alive until told to stop; say how long each call took, and what was answered."""
    recorder, directives = Recorder(), Counter[str]()
    with connect(options, WORKER) as conn:
        client = Client(conn)
        runs = client.job_claim("beating.example.org", RUNNING, RUNNING)
        ids = [run.id for run in runs]
        wait_for_go()
        stop = Stop()
        while not stop.said.wait(options["pause"]):
            start = time.perf_counter()
            answers = client.job_update_heartbeats(ids, [f"{start}\n"] * len(ids))
            recorder.took(time.perf_counter() - start)
            recorder.count(len(ids))
            directives.update(answer.directive for answer in answers)
        finished = client.job_finish_many(ids, [STATUS] * len(ids))
    return {
        "seconds": recorder.answer(),
        "runs": len(ids),
        "directives": directives,
        "finished": sum(one.error_code is None for one in finished),
    }


# --- a crowd -----------------------------------------------------------------------------------


def crowd(options: dict[str, Any]) -> dict[str, Any]:
    """Be many workers of some machines, each with a connection, all at once."""
    counts: dict[str, list[int]] = {}
    errors: Counter[str] = Counter()
    claims = Recorder()
    begin, stop = threading.Barrier(options["connections"] + 1), threading.Event()

    def work(number: int) -> None:
        name, chance = machine(number % options["machines"]), random.Random(number)
        done = 0
        with connect(options, WORKER) as conn:
            client = Client(conn)
            begin.wait()
            while not stop.is_set():
                try:
                    start = time.perf_counter()
                    runs = client.job_claim(name, options["limit"], chance.randint(1, 5))
                    claims.took(time.perf_counter() - start)
                    if runs:
                        client.job_finish_many([run.id for run in runs], [STATUS] * len(runs))
                    done += len(runs)
                except (CodeImportError, psycopg.Error) as err:
                    errors[f"{type(err).__name__} {getattr(err, 'sqlstate', '')}"] += 1
        counts.setdefault(name, []).append(done)

    threads = [
        threading.Thread(target=work, args=(options["first"] + number,))
        for number in range(options["connections"])
    ]
    for thread in threads:
        thread.start()
    wait_for_go()
    begin.wait()
    Stop().said.wait()
    stop.set()
    for thread in threads:
        thread.join()
    return {"counts": counts, "errors": errors, "seconds": claims.answer()}


COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "version": tell_version,
    "prepare": prepare,
    "fill": fill,
    "set_up": set_up,
    "order": order,
    "press": press,
    "read": read,
    "beat_on": beat_on,
    "idle": idle,
    "crowd": crowd,
}


def main() -> None:
    """Run the command that the arguments name, and answer."""
    say(COMMANDS[sys.argv[1]](json.loads(sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
