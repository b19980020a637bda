"""Many at once: each job is started once, each run ends once, and nobody waits in a circle."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from code_import.client import Client
from code_import.errors import WrongState
from harness import effort
from harness.asking import DONE, ask, ended_or_waiting, outcome, send
from harness.calls import CALLS, Call, Scene, documented_errors, load_scenes, seen, set_scene
from harness.invariants import assert_rules_hold
from harness.lost_answers import LostAnswers
from harness.waiting import eventually

if TYPE_CHECKING:
    from conftest import Connect, Roles

    from code_import.models import Assignment
    from harness.servers import Server

pytestmark = effort.marks()


def only(conn: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    """The only value that a query returns."""
    row = conn.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def register(client: Client, count: int) -> None:
    """Register so many imports, each due now."""
    made = client.new_many(
        [
            {"target": f"import/{n}", "rcs_type": "git", "url": f"https://example.org/{n}"}
            for n in range(count)
        ],
        "ada",
    )
    assert not [row for row in made if row.error_code]


def deadlocks(conn: psycopg.Connection[Any]) -> int:
    """How many deadlocks there were in this database; asked when all others have left it."""
    alone = "select count(*) = 1 from pg_stat_activity where datname = current_database()"
    eventually(lambda: only(conn, alone), what="the others have left")
    count: int = only(
        conn, "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return count


# --- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize("other_host", [True, False], ids=["another host", "the same host"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_of_two_that_claim_one_job_one_gets_it(
    connect: Connect, conn: psycopg.Connection[Any], other_host: bool, end: str
) -> None:
    """Another host does not wait for it; the same host waits, and has it if the first lets go."""
    register(Client(conn), 1)
    first, second = connect(autocommit=False), connect()
    hostnames = ["anvil", "bellows" if other_host else "anvil"]
    Client(conn).machine_new("anvil", "online")
    assert len(Client(first).job_claim(hostnames[0], 9, 9)) == 1

    send(second, f"select * from vcs.code_import_job_claim('{hostnames[1]}', 9, 9)".encode())
    assert ended_or_waiting(second, conn) == other_host
    first.execute(end.encode())
    assert outcome(second) == DONE

    winner = hostnames[1] if end == "rollback" and not other_host else hostnames[0]
    got = conn.execute(
        "select machine.hostname from vcs.code_import_assignment as run"
        " join vcs.code_import_machine as machine on machine.id = run.machine_id"
    ).fetchall()
    assert got == ([] if end == "rollback" and other_host else [(winner,)])
    assert_rules_hold(conn)


def test_forty_threads_run_a_thousand_jobs(
    connect: Connect, roles: Roles, conn: psycopg.Connection[Any]
) -> None:
    """Each import is started once, by claims of one and of many; no machine is over its limit."""
    jobs, threads, hosts = 1000, 40, 8
    register(Client(conn), jobs)
    with ThreadPoolExecutor(threads) as pool:
        gate = threading.Barrier(threads)
        workers = [
            pool.submit(
                _work, connect(roles.worker), f"host-{n % hosts}", 1 + n % hosts, n, gate, jobs
            )
            for n in range(threads)
        ]
        started = [run for worker in workers for run in worker.result()]

    assert len(started) == jobs
    assert len({run.id for run in started}) == len({run.code_import_id for run in started}) == jobs
    assert (
        only(conn, "select count(*) from vcs.code_import_result where status = 'success'") == jobs
    )
    assert (
        only(conn, "select count(*) from vcs.code_import_event where event_type = 'start'") == jobs
    )
    assert only(conn, "select count(*) from vcs.code_import_job where state <> 'pending'") == 0
    busiest = _busiest(conn)
    assert all(busiest[f"host-{n}"] <= 1 + n for n in range(hosts)), busiest
    assert deadlocks(conn) == 0
    assert_rules_hold(conn)


def _work(
    conn: psycopg.Connection[Any],
    hostname: str,
    limit: int,
    number: int,
    gate: threading.Barrier,
    jobs: int,
) -> list[Assignment]:
    """Claim, beat and finish until all is done: even numbers one by one, odd ones in batches."""
    client = Client(conn)
    batch = 0 if number % 2 == 0 else 1 + number % 5
    started: list[Assignment] = []
    gate.wait(60)
    with conn:
        while True:
            with conn.transaction():
                if batch:
                    runs = client.job_claim(hostname, limit, batch)
                else:
                    run = client.job_for_machine(hostname, limit)
                    runs = [run] if run else []
                assert _running(conn, hostname) <= limit
            if runs:
                started += runs
                _finish(client, [run.id for run in runs], in_one_call=batch > 0)
            elif only(conn, "select count(*) from vcs.code_import_result") == jobs:
                return started


def _running(conn: psycopg.Connection[Any], hostname: str) -> int:
    count: int = only(
        conn,
        "select count(*) from vcs.code_import_assignment as run"
        " join vcs.code_import_machine as machine on machine.id = run.machine_id"
        " where machine.hostname = %s",
        hostname,
    )
    return count


def _finish(client: Client, ids: list[int], in_one_call: bool) -> None:
    if in_one_call:
        beats = client.job_update_heartbeats(ids, ["Half-way."] * len(ids))
        assert {beat.directive for beat in beats} == {"continue"}
        ended = client.job_finish_many(ids, ["success"] * len(ids))
        assert [row.status for row in ended] == ["success"] * len(ids)
    else:
        for job_id in ids:
            assert client.job_update_heartbeat(job_id, "Half-way.") == "continue"
            assert client.job_finish(job_id, "success").job_id == job_id


def _busiest(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """How many jobs each machine ran at once at most, told by its events in their order."""
    rows = conn.execute("""
        select machine.hostname, max(told.running)
        from (
            select
                machine_id,
                sum(case event_type when 'start' then 1 when 'finish' then -1 end)
                    over (partition by machine_id order by id) as running
            from vcs.code_import_event
        ) as told
        join vcs.code_import_machine as machine on machine.id = told.machine_id
        group by machine.hostname
    """)
    return dict(rows.fetchall())


# --- answers that get lost ---------------------------------------------------------------------


def a_run(conn: psycopg.Connection[Any]) -> int:
    """Register an import and claim its job."""
    register(Client(conn), 1)
    (run,) = Client(conn).job_claim("anvil", 1, 1)
    return run.id


def test_a_finish_whose_answer_was_lost_can_be_said_again(
    connect: Connect, conn: psycopg.Connection[Any], server: Server
) -> None:
    """Committed, then the wire is cut: said again it is one result, the same, and one next job."""
    job_id = a_run(conn)
    with LostAnswers(server.port) as wire, ThreadPoolExecutor(1) as pool:
        client = Client(connect(port=wire.port))
        wire.lose()
        call = pool.submit(client.job_finish, job_id, "success")
        first = eventually(lambda: conn.execute("select * from vcs.code_import_result").fetchall())
        wire.cut()
        with pytest.raises(psycopg.OperationalError):
            call.result(20)
    before = conn.execute("select * from vcs.code_import_job").fetchall()

    again = Client(connect()).job_finish(job_id, "success")

    assert [again.id] == [row[0] for row in first]
    assert conn.execute("select * from vcs.code_import_result").fetchall() == first
    assert conn.execute("select * from vcs.code_import_job").fetchall() == before
    with pytest.raises(WrongState):
        Client(conn).job_finish(job_id, "failure")
    assert_rules_hold(conn)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_finish_said_by_three_at_once_has_one_result(
    connect: Connect, conn: psycopg.Connection[Any], end: str
) -> None:
    """Those that wait for the first are told its result, or one of them finishes the run."""
    job_id = a_run(conn)
    first, second, third = connect(autocommit=False), connect(), connect()
    Client(first).job_finish(job_id, "success")
    finish = f"select vcs.code_import_job_finish({job_id}, 'success')".encode()
    for other in (second, third):
        send(other, finish)
        assert not ended_or_waiting(other, conn)
    first.execute(end.encode())
    assert [outcome(second), outcome(third)] == [DONE, DONE]
    assert only(conn, "select count(*) from vcs.code_import_result") == 1
    assert_rules_hold(conn)


@pytest.mark.parametrize("calls", ["one", "many"])
@pytest.mark.parametrize("old", [False, True], ids=["read committed", "repeatable read"])
@pytest.mark.parametrize("meanwhile", ["beats", "is asked for again", "is suspended", "is locked"])
def test_a_finish_sees_what_happened_while_it_waited(
    connect: Connect, conn: psycopg.Connection[Any], meanwhile: str, old: bool, calls: str
) -> None:
    """It is judged by the row that it writes over, or fails where it cannot see that row."""
    job_id = a_run(conn)
    code_import_id = only(conn, "select code_import_id from vcs.code_import_job")
    first, second = connect(autocommit=False), connect()
    match meanwhile:
        case "beats":
            Client(first).job_update_heartbeat(job_id, "The last words.")
        case "is asked for again":
            Client(first).request_again(code_import_id, "bob")
        case "is suspended":
            Client(first).update(code_import_id, {"review_status": "suspended"}, "bob")
        case _:
            first.execute("select from vcs._code_import_schedule for no key update")
    finish = f"select vcs.code_import_job_finish({job_id}, 'success')"
    if calls == "many":
        finish = f"select vcs.code_import_job_finish_many(array[{job_id}], array['success'])"
    begin, end = ("begin isolation level repeatable read; ", "; commit") if old else ("", "")
    send(second, (begin + finish + end).encode())
    assert not ended_or_waiting(second, conn)
    first.commit()
    assert_rules_hold(conn)
    if old and meanwhile != "is locked":
        assert outcome(second) == "40001"
        assert only(conn, "select count(*) from vcs.code_import_result") == 0
        return
    assert outcome(second) == DONE
    assert only(conn, "select log_excerpt from vcs.code_import_result") == (
        "The last words." if meanwhile == "beats" else ""
    )
    requesters = conn.execute("select requesting_user from vcs.code_import_job").fetchall()
    assert requesters == {"is asked for again": [("bob",)], "is suspended": []}.get(
        meanwhile, [(None,)]
    )
    ids = conn.execute("select id from vcs.code_import_event where event_type = 'finish'")
    assert ids.fetchone() == conn.execute("select max(id) from vcs.code_import_event").fetchone()
    assert_rules_hold(conn)


def test_a_claim_whose_answer_was_lost_can_be_found_and_released(
    connect: Connect, conn: psycopg.Connection[Any], roles: Roles
) -> None:
    """The worker asks which runs its machine has, and gives back what it never heard of."""
    register(Client(conn), 1)
    lost = connect(roles.worker)
    send(lost, b"select * from vcs.code_import_job_claim('anvil', 1, 1)")
    eventually(lambda: only(conn, "select count(*) from vcs.code_import_assignment") == 1)
    lost.close()

    worker = connect(roles.worker)
    (job_id,) = worker.execute("select id from vcs.code_import_assignment").fetchall()[0]
    released = Client(worker).job_release(job_id)
    assert released is not None
    assert released.id > job_id
    (run,) = Client(worker).job_claim("anvil", 1, 1)
    assert run.id == released.id
    assert_rules_hold(conn)


# --- backends that are killed ------------------------------------------------------------------

CRASHES = {
    "waiting": "claim, start, request, pin, suspend, set url, rename, delete, quiesce, configure,"
    " register, register many, register machine",
    "running": "beat, beat for many, store a log, finish, fail, finish many, release, reclaim,"
    " reclaim stale, kill, request again, suspend, delete, offline, disown",
    "failing": "try again, delete machine, online",
}


@pytest.mark.parametrize(("state", "names"), CRASHES.items(), ids=CRASHES)
def test_nothing_remains_of_a_transaction_whose_backend_is_killed(
    connect: Connect, conn: psycopg.Connection[Any], state: str, names: str
) -> None:
    """Neither a change nor a lock; and the same call by another connection succeeds."""
    load_scenes(conn)
    for name in names.split(", "):
        scene = set_scene(conn, state)
        before = seen(conn)
        victim = connect()
        assert ask(victim, b"begin; " + CALLS[name](scene)) == DONE, name
        assert only(conn, "select pg_terminate_backend(%s, 20000)", victim.info.backend_pid)
        victim.close()
        assert seen(conn) == before, name
        again = connect(options="-c lock_timeout=1s")
        assert ask(again, CALLS[name](scene)) == DONE, name
        again.close()
        assert_rules_hold(conn)


# --- everything at once ------------------------------------------------------------------------


def test_a_storm_of_all_calls_has_no_deadlock(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """Ten callers, all calls in any order, half of them on old snapshots: each is refused as
    documented or done, and every rule holds afterwards."""
    callers, calls = 10, 120
    client = Client(conn)
    register(client, 6)
    for name, value in {
        "maximum_heartbeat_interval": "30 ms",
        "consecutive_failure_limit": "1",
        "consecutive_reclaim_limit": "3",
        "default_interval_git": "100 ms",
    }.items():
        client.configure(name, value, "ada")
    documented = documented_errors(conn)
    with ThreadPoolExecutor(callers) as pool:
        storms = [
            pool.submit(_storm, connect(), random.Random(seed), calls, documented)
            for seed in range(callers)
        ]
        done = sum(storm.result() for storm in storms)
    assert done > callers * calls / 4
    assert only(conn, "select count(*) from vcs.code_import_result") > 0
    assert deadlocks(conn) == 0
    assert_rules_hold(conn)


def _storm(
    conn: psycopg.Connection[Any],
    dice: random.Random,
    calls: int,
    documented: dict[str, frozenset[str]],
) -> int:
    """Make random calls on random imports; how many were not refused."""
    done = 0
    with conn:
        for _ in range(calls):
            call = dice.choice(STORM)
            is_old = dice.random() < 0.5
            begin, end = (
                (b"begin isolation level repeatable read; ", b"; commit") if is_old else (b"", b"")
            )
            ended = ask(conn, begin + call(_anything(conn)) + end)
            may_refuse = documented[call.function] | ({"40001"} if is_old else frozenset())
            assert ended in may_refuse | {DONE}, f"{call}: {ended}"
            done += ended == DONE
    return done


STORM = [
    *CALLS.values(),
    *(Call("code_import_job_claim", f"'host-{n}', {n}, {n}") for n in (1, 2, 3)),
    *(
        Call("code_import_new", f"'rex', 'import/{n}', 'git', 'https://example.org/{n}'")
        for n in range(6)
    ),
    Call(
        "code_import_new_many",
        """'[{{"target": "import/1", "rcs_type": "git", "url": "https://example.org/2"}},
             {{"target": "import/2", "rcs_type": "git", "url": "https://example.org/1"}}]',
            'rex'""",
    ),
]


def _anything(conn: psycopg.Connection[Any]) -> Scene:
    """Any import, its job, and any machine."""
    row = conn.execute("""
        select import.id, job.id, machine.id
        from vcs.code_import as import
        left join vcs.code_import_job as job on job.code_import_id = import.id
        left join vcs.code_import_machine as machine on true
        order by random()
        limit 1
    """).fetchone()
    return Scene(*(number or 0 for number in row or (0, 0, 0)))


def test_two_imports_that_swap_their_targets_do_not_wait_for_each_other(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """Each is refused: the other's target is taken for all to see."""
    register(Client(conn), 2)
    first, second = connect(autocommit=False), connect()
    a, b = (row[0] for row in conn.execute("select id from vcs.code_import order by id"))
    Client(first).update(a, {"target": "elsewhere"})
    swap = f"""select * from vcs.code_import_update({b}, '{{"target": "import/0"}}')"""
    assert ask(second, swap.encode()) == "23505"
    first.commit()
    assert ask(second, swap.encode()) == DONE


def test_lists_with_the_same_sources_do_not_wait_for_each_other_in_a_circle(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """Two at once register the same sources under other targets, in opposite orders."""
    count = 40

    def register_all(who: str, sources: range) -> int:
        imports = [
            {"target": f"{who}/{n}", "rcs_type": "git", "url": f"https://example.org/{source}"}
            for n, source in enumerate(sources)
        ]
        with connect() as own:
            gate.wait(20)
            made = Client(own).new_many(imports, who)
        return sum(row.code_import_id is not None for row in made)

    for n in range(5):
        gate = threading.Barrier(2)
        numbers = range(n * count, (n + 1) * count)
        with ThreadPoolExecutor(2) as pool:
            ups = pool.submit(register_all, f"up-{n}", numbers)
            downs = pool.submit(register_all, f"down-{n}", numbers[::-1])
            assert ups.result(60) + downs.result(60) == count
    assert deadlocks(conn) == 0


def test_a_list_and_a_change_that_take_the_same_do_not_wait_for_each_other(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """A change of both target and source holds neither while a list may want it."""
    register(Client(conn), 1)
    lists, change = connect(autocommit=False), connect()
    taken = {"rcs_type": "git", "url": "https://example.org/wanted", "target": "a"}
    assert not Client(lists).new_many([taken], "ada")[0].error_code
    send(
        change,
        b"select vcs.code_import_update((select min(id) from vcs.code_import),"
        b""" '{"target": "wanted", "url": "https://example.org/wanted"}')""",
    )
    assert not ended_or_waiting(change, conn)
    wanted = {"rcs_type": "git", "url": "https://example.org/b", "target": "wanted"}
    assert not Client(lists).new_many([wanted], "ada")[0].error_code
    lists.commit()
    assert outcome(change) == "23505"


def test_batches_of_the_same_runs_do_not_wait_for_each_other_in_a_circle(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """They are finished in one order and in the other, while they beat in a third."""
    count = 200
    register(Client(conn), count)

    def finish(job_ids: list[int]) -> int:
        with connect() as own:
            gate.wait(20)
            ended = Client(own).job_finish_many(job_ids, ["success_partial"] * count)
        return len([row for row in ended if row.error_code is None])

    def beat(job_ids: list[int]) -> int:
        with connect() as own:
            gate.wait(20)
            return len(Client(own).job_update_heartbeats(job_ids, ["Here.\n"] * count))

    for seed in range(5):
        gate = threading.Barrier(3)
        ids = [run.id for run in Client(conn).job_claim("one.example.org", count, count)]
        mixed = random.Random(seed).sample(ids, count)
        with ThreadPoolExecutor(3) as pool:
            done = [
                pool.submit(finish, ids), pool.submit(finish, ids[::-1]), pool.submit(beat, mixed)
            ]  # fmt: skip
            assert [one.result(60) for one in done] == [count] * 3
        assert only(conn, "select count(*) from vcs.code_import_result") == count * (seed + 1)
    assert deadlocks(conn) == 0
    assert_rules_hold(conn)


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "late",
    ["beat", "beat for many", "finish", "finish many", "reclaim", "release", "delete"],
)
def test_a_transaction_that_began_long_ago_moves_no_time_back(
    connect: Connect, conn: psycopg.Connection[Any], late: str
) -> None:
    """It began before the run, waits for one that beats now, and its own now is older."""
    load_scenes(conn)
    scene = set_scene(conn, "waiting")
    old, young = connect(autocommit=False), connect(autocommit=False)
    began = only(old, "select now()")
    Client(conn).job_start(scene.job_id, scene.machine_id)
    Client(young).job_update_heartbeat(scene.job_id, "Young.")
    beat = only(young, "select now()")
    send(old, CALLS[late](scene) + b"; commit")
    assert not ended_or_waiting(old, conn)
    young.commit()
    assert outcome(old) == DONE

    assert began < beat
    assert all(
        time >= beat
        for (time,) in conn.execute(
            "select heartbeat from vcs.code_import_job where heartbeat is not null"
            " union all select date_created from vcs.code_import_result"
            " union all select date_created from vcs.code_import_job where state = 'pending'"
        )
    )
    assert_rules_hold(conn)


def test_a_run_claimed_by_an_old_transaction_is_counted_and_reclaimed(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """It starts before the oldest run that its machine has by then."""
    client = Client(conn)
    register(client, 300)
    first = client.job_for_machine("anvil", 300)
    assert first is not None
    time.sleep(0.6)  # from then on, a claim that walks far notes where the living begin
    old = connect(autocommit=False)
    began = only(old, "select now()")
    ended = [run.id for run in client.job_claim("anvil", 300, 250)]
    client.job_finish_many(ended, ["success"] * len(ended))
    client.job_start(
        only(
            conn,
            "select max(id) from vcs.code_import_job where state = 'pending' and date_due <= now()",
        ),
        first.machine_id,
    )
    client.job_finish(first.id, "success")
    run = Client(old).job_for_machine("anvil", 2)
    old.commit()
    assert run is not None
    assert run.date_started == began

    assert client.job_for_machine("anvil", 2) is None, "two are running"
    conn.execute(
        "update vcs._code_import_schedule set heartbeat = now() - interval '1 h'"
        " where state = 'running'"
    )
    assert client.job_reclaim_stale() == 2
    assert_rules_hold(conn)


def test_a_run_started_by_an_old_transaction_is_counted(
    connect: Connect, conn: psycopg.Connection[Any]
) -> None:
    """Its machine has noted meanwhile that nothing runs before a later time."""
    client = Client(conn)
    register(client, 2)
    old = connect(autocommit=False)
    began = only(old, "select now()")
    machine = client.machine_new("anvil", "online")
    assert client.job_claim("anvil", 0, 0) == []
    job_id = only(conn, "select min(id) from vcs.code_import_job")
    assert Client(old).job_start(job_id, machine.id).date_started == began
    old.commit()
    assert client.job_for_machine("anvil", 1) is None
    assert_rules_hold(conn)


def test_a_claim_reclaims_what_falls_silent_soon(conn: psycopg.Connection[Any]) -> None:
    """An interval of less than the ten seconds from look to look."""
    client = Client(conn)
    client.configure("maximum_heartbeat_interval", "1 ms", "ada")
    register(client, 1)
    first = client.job_for_machine("anvil", 1)
    assert first is not None
    eventually(client.job_reclaimable, what="the run is silent")
    again = client.job_for_machine("anvil", 1)
    assert again is not None
    assert client.job_get(first.id) is None


@pytest.mark.parametrize("meanwhile", ["success_partial", "suspended"])
def test_a_run_started_by_an_old_transaction_does_not_start_before_the_last_one_ended(
    connect: Connect, conn: psycopg.Connection[Any], meanwhile: str
) -> None:
    """The next job is made by the end of the last run, or by the old transaction itself."""
    load_scenes(conn)
    scene = set_scene(conn, "running")
    old = connect(autocommit=False)
    began = only(old, "select now()")
    if meanwhile == "suspended":
        ask(conn, CALLS["suspend"](scene))
    Client(conn).job_finish(scene.job_id, "success_partial")
    if meanwhile == "suspended":
        assert ask(old, CALLS["review"](scene)) == DONE
    job_id = only(old, "select id from vcs.code_import_job")
    run = Client(old).job_start(job_id, scene.machine_id)
    old.commit()
    assert run.date_started is not None
    assert run.date_started >= only(conn, "select date_created from vcs.code_import_result") > began
    assert_rules_hold(conn)
