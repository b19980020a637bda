"""awa: a Rust core with Python handlers. It claims and finishes in batches of its own choice.

Settings: ``workers``, how many jobs run at once; ``claimers`` and ``claim_batch``, how they are
claimed; ``connections``, the size of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from awa import AsyncClient  # type: ignore[import-not-found]

from bench.peers.driving import QUEUE, Meter, drive, wait_for_go

CHUNK = 5_000


@dataclass
class NoOp:
    """A job that does nothing."""

    number: int


async def tell_version(_: dict[str, Any]) -> dict[str, Any]:
    """Name the versions that matter."""
    return {"version": version("awa-pg")}


async def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Make the tables."""
    async with AsyncClient(options["url"]) as client:
        await client.migrate()
        await client.install_queue_storage()
    return {}


async def fill(options: dict[str, Any]) -> dict[str, Any]:
    """Add jobs that are due."""
    async with AsyncClient(options["url"]) as client:
        for start in range(0, options["jobs"], CHUNK):
            end = min(start + CHUNK, options["jobs"])
            await client.enqueue_many_copy([NoOp(n) for n in range(start, end)], queue=QUEUE)
    return {}


async def work(options: dict[str, Any]) -> dict[str, Any]:
    """Run jobs."""
    meter = Meter()
    client = AsyncClient(options["url"], options.get("connections", 10))

    @client.task(NoOp, queue=QUEUE)  # type: ignore[untyped-decorator]
    async def no_op(_: Any) -> None:
        meter.count()

    queue = {"name": QUEUE, "max_workers": options["workers"]}
    if "claimers" in options:
        queue["claimers"] = options["claimers"]
    if "claim_batch" in options:
        queue["claim_batch_size"] = options["claim_batch"]
    wait_for_go()
    await client.start([queue])
    return await meter.watch(options["warm_up"], options["seconds"])


if __name__ == "__main__":
    drive({"version": tell_version, "prepare": prepare, "fill": fill, "work": work})
