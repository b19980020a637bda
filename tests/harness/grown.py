"""A database that has been used for a while: tens of thousands of imports with runs behind them.

All by the public functions, so that it is what they make of it; only the clock is turned, by
moving due dates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from code_import.client import Client

if TYPE_CHECKING:
    from code_import.models import FinishStatus

IMPORTS = 20_000
ROUNDS = 3
MACHINES = 5
RUNNING = 200
CHUNK = 1_000
QUIET = "quiet.example.org"
"""A machine that ran much long ago, and nothing since."""
TYPES = ("git", "git", "git", "svn", "hg")
STATUSES = ("reviewed", "reviewed", "reviewed", "reviewed", "new", "suspended")
OWNERS = tuple(f"owner{number}" for number in range(200))


def fill(dsn: str) -> None:
    """Register, review and run; in the end a third is due, and some are running."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        client = Client(conn)
        for first in range(0, IMPORTS, CHUNK):
            made = client.new_many(
                [_import(number) for number in range(first, first + CHUNK)], "ada"
            )
            assert not [one for one in made if one.error_code]
        _store_logins(conn)
        for number in range(ROUNDS):
            conn.execute(
                "update vcs._code_import_schedule set date_due = now() - interval '1 minute'"
                " where state = 'pending'"
            )
            if number == 0:
                _run_some(client)
            _run_all(client, number)
        _leave_some_due(conn)
        _start_some(client)
        _have_people_act(conn, client)
        conn.execute("vacuum (freeze, analyze)")


def _store_logins(conn: psycopg.Connection[Any]) -> None:
    """Each import has one of its own."""
    conn.execute(
        """
        select count(credential.id)
        from vcs.code_import as import
        cross join lateral vcs.code_import_credential_new(
            split_part(import.url, '/', 3), 'robot', 'x', 'key', 'ada', import.id
        ) as credential
        """
    )


def _import(number: int) -> dict[str, Any]:
    target = f"project{number % 700}/repository{number}"
    return {
        "target": target, "rcs_type": TYPES[number % len(TYPES)],
        "url": f"https://host{number % 97}.example.org/{target}",
        "review_status": STATUSES[number % len(STATUSES)], "owner": OWNERS[number % len(OWNERS)],
    }  # fmt: skip


def hostname(number: int) -> str:
    """The name of one of the machines."""
    return f"machine{number}.example.org"


def _run_some(client: Client) -> None:
    for _ in range(30):
        runs = client.job_claim(QUIET, CHUNK, CHUNK // 10)
        client.job_finish_many([run.id for run in runs], ["success_nochange"] * len(runs))


def _run_all(client: Client, number: int) -> None:
    turn = 0
    while runs := client.job_claim(hostname(turn % MACHINES), CHUNK, CHUNK // 10):
        statuses = [_status(run.code_import_id, number) for run in runs]
        for run, status in zip(runs, statuses, strict=True):
            if status == "success":
                client.mirror_report(run.id, _changes(number))
        client.job_finish_many([run.id for run in runs], statuses)
        turn += 1


def _changes(number: int) -> list[dict[str, Any]]:
    before = f"{number:040}" if number else None
    return [
        {"ref": f"refs/heads/{name}", "kind": "updated", "old": before, "new": f"{number + 1:040}"}
        for name in ("main", "dev", "next")
    ]


def _status(code_import_id: int, number: int) -> FinishStatus:
    if code_import_id % 500 == 0:
        return "failure"
    return "success" if (code_import_id + number) % 20 == 0 else "success_nochange"


def _leave_some_due(conn: psycopg.Connection[Any]) -> None:
    conn.execute(
        """
        update vcs._code_import_schedule
        set date_due = now() + interval '6 hours'
            * (case when code_import_id % 3 = 0 then -1 else 1 end)
            * (code_import_id * 7919 % 20000) / 20000
        where state = 'pending'
        """
    )


def _start_some(client: Client) -> None:
    for number in range(MACHINES):
        runs = client.job_claim(hostname(number), CHUNK, RUNNING // MACHINES)
        client.job_update_heartbeats([run.id for run in runs], ["fetching\n"] * len(runs))
        for run in runs:
            client.log_file_new(run.id, b"fetching\n" * 100)


def _have_people_act(conn: psycopg.Connection[Any], client: Client) -> None:
    machines = [
        machine_id
        for (machine_id,) in conn.execute(
            "select id from vcs.code_import_machine where hostname <> %s order by id", [QUIET]
        )
    ]
    waiting = conn.execute(
        "select id, code_import_id from vcs.code_import_job where state = 'pending'"
        " order by code_import_id limit 300"
    ).fetchall()
    for place, (job_id, code_import_id) in enumerate(waiting):
        match place % 3:
            case 0:
                client.request(code_import_id, "ada")
            case 1:
                client.job_schedule(job_id, machines[place % MACHINES], person="ada")
            case _:
                client.job_schedule(job_id, None, 5, "ada")
