"""What every driver has in common: commands come as arguments, answers go out as JSON lines.

    COMMAND JSON        where COMMAND is one of version, prepare, fill, work, latency

``work`` says ``{"ready": true}``, waits for a line, works until its time is up, and then says how
many no-op jobs it ran in how many seconds. What it warms up with is not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUEUE = "bench"


def say(answer: dict[str, Any]) -> None:
    """Answer with one line."""
    print(json.dumps(answer), flush=True)


def wait_for_go() -> None:
    """Say that everything is ready, and wait until all others are."""
    say({"ready": True})
    sys.stdin.readline()


class Meter:
    """Counts jobs as they are done."""

    def __init__(self) -> None:
        self.total = 0
        self.last = 0.0

    def count(self, jobs: int = 1) -> None:
        """Count jobs that have just been done."""
        self.total += jobs
        self.last = time.perf_counter()

    async def watch(self, warm_up: float, seconds: float) -> dict[str, Any]:
        """Wait for the warm-up, then for the time that counts."""
        await asyncio.sleep(warm_up)
        before, start = self.total, time.perf_counter()
        await asyncio.sleep(seconds)
        return self.answer(before, start)

    def answer(self, before: int, start: float) -> dict[str, Any]:
        """What was done since ``start``, when ``before`` jobs had been done."""
        end = time.perf_counter()
        return {
            "jobs": self.total - before,
            "seconds": end - start,
            "idle": end - max(self.last, start),
            "total": self.total,
        }


def drive(commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]) -> None:
    """Run the command that the arguments name, answer, and end without waiting for anything."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    say(asyncio.run(_answer(commands[name], options)))


async def _answer(
    command: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], options: dict[str, Any]
) -> dict[str, Any]:
    answer = await command(options)
    if sys.argv[1] == "work":  # jobs may still run; their database is dropped next
        say(answer)
        os._exit(0)
    return answer
