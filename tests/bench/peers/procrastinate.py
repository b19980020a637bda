"""procrastinate: its asynchronous worker. It claims one job a call and finishes one a call.

Settings: ``concurrency``, how many jobs a process runs at once.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]

from bench.peers.driving import QUEUE, Meter, drive, wait_for_go

CHUNK = 5_000


def app(options: dict[str, Any]) -> App:
    """An application with enough connections for its jobs."""
    size = options.get("concurrency", 1) + 2
    return App(connector=PsycopgConnector(conninfo=options["url"], min_size=1, max_size=size))


async def tell_version(_: dict[str, Any]) -> dict[str, Any]:
    """Name the versions that matter."""
    return {"version": f"{version('procrastinate')} (psycopg {version('psycopg')})"}


async def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Make the tables."""
    async with app(options).open_async() as opened:
        await opened.schema_manager.apply_schema_async()
    return {}


async def fill(options: dict[str, Any]) -> dict[str, Any]:
    """Add jobs that are due."""
    async with app(options).open_async() as opened:
        task = opened.configure_task("no_op", queue=QUEUE, allow_unknown=True)
        for start in range(0, options["jobs"], CHUNK):
            size = min(CHUNK, options["jobs"] - start)
            await task.batch_defer_async(*({} for _ in range(size)))
    return {}


async def work(options: dict[str, Any]) -> dict[str, Any]:
    """Run jobs."""
    meter = Meter()
    async with app(options).open_async() as opened:

        @opened.task(name="no_op", queue=QUEUE)  # type: ignore[untyped-decorator]
        async def no_op() -> None:
            meter.count()

        wait_for_go()
        worker = opened.run_worker_async(
            queues=[QUEUE],
            concurrency=options["concurrency"],
            delete_jobs=options.get("delete_jobs", "never"),
            install_signal_handlers=False,
        )
        running = asyncio.create_task(worker)
        answer = await meter.watch(options["warm_up"], options["seconds"])
        if running.done():
            await running
        return answer


if __name__ == "__main__":
    drive({"version": tell_version, "prepare": prepare, "fill": fill, "work": work})
