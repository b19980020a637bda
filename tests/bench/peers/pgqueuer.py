"""pgqueuer by asyncpg on uvloop: its fastest documented driver.

Settings: ``batch``, how many jobs a dequeue takes; statuses are written in batches of that size.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import asyncpg  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]
from pgqueuer.adapters.drivers.asyncpg import (  # type: ignore[import-not-found]
    AsyncpgDriver,
    AsyncpgPoolDriver,
)
from pgqueuer.core.qm import QueueManager  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from bench.peers.driving import QUEUE, Meter, drive, wait_for_go

CHUNK = 5_000


async def tell_version(_: dict[str, Any]) -> dict[str, Any]:
    """Name the versions that matter."""
    return {"version": f"{version('pgqueuer')} (asyncpg {version('asyncpg')}, uvloop)"}


async def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Make the tables."""
    conn = await asyncpg.connect(options["url"])
    await Queries(AsyncpgDriver(conn)).install()
    await conn.close()
    return {}


async def fill(options: dict[str, Any]) -> dict[str, Any]:
    """Add jobs that are due."""
    conn = await asyncpg.connect(options["url"])
    queries = Queries(AsyncpgDriver(conn))
    for start in range(0, options["jobs"], CHUNK):
        size = min(CHUNK, options["jobs"] - start)
        await queries.enqueue([QUEUE] * size, [None] * size, [0] * size)
    await conn.close()
    return {}


async def work(options: dict[str, Any]) -> dict[str, Any]:
    """Run jobs."""
    meter = Meter()
    if options.get("pool"):
        pool = await asyncpg.create_pool(
            options["url"], min_size=options["pool"], max_size=options["pool"]
        )
        driver = AsyncpgPoolDriver(pool)
    else:
        driver = AsyncpgDriver(await asyncpg.connect(options["url"]))
    manager = QueueManager(Queries(driver))

    @manager.entrypoint(QUEUE)  # type: ignore[untyped-decorator]
    async def run(_: Any) -> None:
        meter.count()

    wait_for_go()
    running = asyncio.create_task(manager.run(batch_size=options["batch"]))
    answer = await meter.watch(options["warm_up"], options["seconds"])
    if running.done():
        await running
    return answer


if __name__ == "__main__":
    uvloop.install()
    drive({"version": tell_version, "prepare": prepare, "fill": fill, "work": work})
