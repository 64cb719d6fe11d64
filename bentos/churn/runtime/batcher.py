"""Batch concurrent requests: those that arrive during one batch are answered together in the next.

No request waits for a batch to fill: the next batch holds all requests that wait when the last one ends. A single
request is a batch of one; under load the fixed cost of reading and scoring is shared. See
docs/decisions/0024-answered-together.md.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bentos.prediction.errors import internal
from configs.errors import ChurnError

BATCH_CUSTOMERS_MAX: Final = 100
"""Most customers of a batch of several requests: beyond it a batch takes longer without a gain for any request."""

Result = TypeVar("Result")
Note = TypeVar("Note")
Work = Callable[[Sequence[str]], tuple[list[Result], Note]]
"""Customer ids -> one result each, in order, and a note about the batch. Called with the ids of whole requests."""
After = Callable[[Sequence[Result]], object]
"""Called with the results once they are on their way to the callers, which do not wait for it."""


@dataclass(frozen=True)
class _Request(Generic[Result, Note]):
    customer_ids: Sequence[str]
    result: asyncio.Future[tuple[list[Result], Note]]
    loop: asyncio.AbstractEventLoop


Results = list[tuple[list[Result], Note] | Exception]


class Batcher(ABC, Generic[Result, Note]):
    """Answers requests of one kind in order of arrival.

    Parameters
    ----------
    work, after
        See :data:`Work` and :data:`After`.
    together
        Most customers of a batch of several requests; a request with more is a batch of its own.
    """

    def __init__(
        self, work: Work[Result, Note], after: After[Result], *, customers_max: int = BATCH_CUSTOMERS_MAX
    ) -> None:
        self._work = work
        self._after = after
        self._customers_max = customers_max
        self._waiting: deque[_Request[Result, Note]] = deque()

    async def submit(self, customer_ids: Sequence[str]) -> tuple[list[Result], Note]:
        """Return one result per id, and the note about their batch; raises what ``work`` raises for them."""
        loop = asyncio.get_running_loop()
        asked: _Request[Result, Note] = _Request(customer_ids, loop.create_future(), loop)
        self._add(asked)
        return await asked.result

    @abstractmethod
    def _add(self, asked: _Request[Result, Note]) -> None:
        """Queue a request."""

    def _take(self) -> list[_Request[Result, Note]]:
        """Remove and return the requests of the next batch, none if the queue is empty."""
        batch: list[_Request[Result, Note]] = []
        customers = 0
        while self._waiting:
            # A request that was cancelled meanwhile is skipped.
            if self._waiting[0].result.cancelled():
                self._waiting.popleft()
                continue
            customers += len(self._waiting[0].customer_ids)
            if batch and customers > self._customers_max:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _run(self, batch: Sequence[_Request[Result, Note]]) -> Results[Result, Note]:
        try:
            given, note = self._work([each for asked in batch for each in asked.customer_ids])
        except ChurnError as refused:
            # The store is away, or no model is loaded: the same for all requests, and a second attempt only takes
            # longer.
            return [refused] * len(batch)
        except Exception as broken:  # noqa: BLE001 - it is raised in the waiting request
            if len(batch) == 1:
                return [broken]
            # A fault that one request brought along must not fail the others.
            return [self._run([asked])[0] for asked in batch]
        results: Results[Result, Note] = []
        start = 0
        for asked in batch:
            results.append((given[start : start + len(asked.customer_ids)], note))
            start += len(asked.customer_ids)
        return results

    def _notify(self, results: Results[Result, Note]) -> None:
        notify(self._after, [each for result in results if not isinstance(result, Exception) for each in result[0]])


def notify(after: After[Result], results: Sequence[Result]) -> None:
    """Pass the results to ``after``; a failure is logged, and affects neither this answer nor later ones."""
    try:
        after(results)
    except Exception as broken:  # noqa: BLE001 - any error: the answers are right, and may already be sent
        internal(broken)


class EventLoopBatcher(Batcher[Result, Note]):
    """Works on the event loop itself, between two polls of the sockets; for work of a few milliseconds.

    A thread would cost more than it gains: each hand-over between two threads of one interpreter takes as long as
    reading a customer. Requests that arrive during a batch form the next one.

    Parameters
    ----------
    instead, well
        While ``well`` returns False, new and waiting requests go to ``instead``: the loop must not block on a slow
        store.
    """

    def __init__(
        self,
        work: Work[Result, Note],
        after: After[Result],
        *,
        fallback: ThreadBatcher[Result, Note],
        is_healthy: Callable[[], bool],
        customers_max: int = BATCH_CUSTOMERS_MAX,
    ) -> None:
        super().__init__(work, after, customers_max=customers_max)
        self._fallback = fallback
        self._is_healthy = is_healthy
        self._due = False

    def _add(self, asked: _Request[Result, Note]) -> None:
        if self._is_healthy():
            self._waiting.append(asked)
            self._plan(asked.loop)
        else:
            self._fallback._add(asked)  # noqa: SLF001 - of the same family

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._due:
            self._due = True
            # Scheduled after the other requests that were read in the same poll, so that they join the batch.
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        batch = self._take()
        if not batch:
            return
        results = self._run(batch)
        _deliver(batch, results)
        # Scheduled after the callers that were just woken: their answers are sent first.
        loop.call_soon(self._notify, results)
        if not self._is_healthy():
            while self._waiting:
                self._fallback._add(self._waiting.popleft())  # noqa: SLF001
        elif self._waiting:
            self._plan(loop)


class ThreadBatcher(Batcher[Result, Note]):
    """Works in a thread of its own, which starts with the first request."""

    def __init__(
        self, work: Work[Result, Note], after: After[Result], *, name: str, customers_max: int = BATCH_CUSTOMERS_MAX
    ) -> None:
        super().__init__(work, after, customers_max=customers_max)
        self._name = name
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread once the waiting requests are answered."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _add(self, asked: _Request[Result, Note]) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(asked)
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                batch = self._take()
                if not batch and self._ended:
                    return
            if batch:
                results = self._run(batch)
                # One wake-up of the loop for the whole batch.
                batch[0].loop.call_soon_threadsafe(_deliver, batch, results)
                self._notify(results)


def _deliver(batch: Sequence[_Request[Result, Note]], results: Results[Result, Note]) -> None:
    for asked, result in zip(batch, results, strict=True):
        if asked.result.done():
            continue  # the caller gave up
        if isinstance(result, Exception):
            asked.result.set_exception(result)
        else:
            asked.result.set_result(result)
