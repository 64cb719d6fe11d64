"""Large bodies checked off the event loop, as the service does, beside on it: the loop's longest pause.

`python -m tests.bench.serving.body_checks '{"rounds": …}'` prints each figure as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import anyio.to_thread
from anyio import CapacityLimiter

from bentos.churn.api.request_body import parse_body
from bentos.churn.api.schemas import BatchRequest
from bentos.churn.errors import RequestInvalidError
from bentos.churn.routes import BODIES
from tests.bench.record import Record, told

OURS: Final = f"ours, in {BODIES} threads"
ON_THE_LOOP: Final = "on the loop"
WAYS: Final = (OURS, ON_THE_LOOP)
BATCHES: Final = 8
BODY_BYTES: Final = 512 * 1024
KINDS: Final = {
    "ids, the last of them a number": (b'"7590-VHVEG",', b"1"),
    "objects in place of ids": (b'{"a":1},', b"{}"),
}
"""What a bad batch holds -> what it repeats, and its end."""

Check = Callable[[Callable[[], None]], Awaitable[None]]


def measure(record: Record, rounds: int) -> None:
    """Record, for each kind of batch and way, a round's longest pause of the loop and the time for all (ms)."""
    for number in range(rounds):
        for kind, (piece, end) in KINDS.items():
            start = b'{"customer_ids": ['
            body = start + piece * ((BODY_BYTES - len(start) - len(end) - 2) // len(piece)) + end + b"]}"
            for way in WAYS:
                record.attempt(way, kind, partial(_turn, way, body, number), ours=way == OURS)


def _turn(way: str, body: bytes, number: int) -> dict[str, Any]:
    pause_ms, all_ms = asyncio.run(_paused(_in_threads() if way == OURS else _on_the_loop, body))
    return {"round": number, "pause_ms": pause_ms, "all_ms": all_ms}


async def _paused(check: Check, body: bytes) -> tuple[float, float]:
    """Have all batches checked at once; return the longest time without a turn of the loop, and the whole (ms)."""
    await check(partial(_refused, body))  # what is loaded late is loaded now
    longest, began = 0.0, time.perf_counter()
    last = began
    checks = [asyncio.ensure_future(check(partial(_refused, body))) for _ in range(BATCHES)]
    while not all(each.done() for each in checks):
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    for each in checks:
        await each
    return longest * 1000, (last - began) * 1000


def _in_threads() -> Check:
    limiter = CapacityLimiter(BODIES)

    async def check(work: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)

    return check


async def _on_the_loop(work: Callable[[], None]) -> None:
    work()


def _refused(body: bytes) -> None:
    try:
        parse_body("application/json", body, BatchRequest)
    except RequestInvalidError:
        return
    raise AssertionError("a bad batch was taken")


def main() -> None:
    """Measure as the one argument says."""
    measure(told(), **json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
