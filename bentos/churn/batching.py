"""Requests that come while others are being answered are answered together: one read, one scoring for all of them.

Nobody waits for a batch to fill: whoever is there when the thread is free is taken. Alone, a request is a batch of one;
under load a batch is what came in meanwhile, and the fixed cost of reading and scoring is shared.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from configs.errors import ChurnError

CUSTOMERS_MAX: Final = 64
"""Customers answered together: beyond it a batch takes longer without serving anyone sooner."""

Given = TypeVar("Given")
Note = TypeVar("Note")


@dataclass(frozen=True)
class _Asked(Generic[Given, Note]):
    customer_ids: Sequence[str]
    answer: asyncio.Future[tuple[list[Given], Note]]
    loop: asyncio.AbstractEventLoop


class Batcher(Generic[Given, Note]):
    """Answers requests of one kind, in a thread of its own, in the order in which they came.

    Parameters
    ----------
    work
        Customer ids -> one result each, in order, and a note about the batch. Called from the thread alone, with the
        ids of whole requests.
    together
        Most customers of a batch of several requests; a request with more is a batch of its own.
    """

    def __init__(
        self, work: Callable[[Sequence[str]], tuple[list[Given], Note]], *, name: str, together: int = CUSTOMERS_MAX
    ) -> None:
        self._work = work
        self._together = together
        self._name = name
        self._waiting: deque[_Asked[Given, Note]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    async def ask(self, customer_ids: Sequence[str]) -> tuple[list[Given], Note]:
        """Return one result an id, and the note about their batch. Raises what ``work`` raises for this request."""
        loop = asyncio.get_running_loop()
        asked = _Asked(customer_ids, loop.create_future(), loop)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(asked)
            self._changed.notify()
        return await asked.answer

    def close(self) -> None:
        """End the thread when what waits is answered."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while batch := self._next():
            results = self._answered(batch)
            # One wake-up of the loop for the whole batch.
            batch[0].loop.call_soon_threadsafe(_deliver, batch, results)

    def _next(self) -> list[_Asked[Given, Note]]:
        """Wait for requests; return those to be answered together, none at the end."""
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            batch: list[_Asked[Given, Note]] = []
            customers = 0
            while self._waiting:
                # Who gave up in the meantime costs nothing any more.
                if self._waiting[0].answer.cancelled():
                    self._waiting.popleft()
                    continue
                customers += len(self._waiting[0].customer_ids)
                if batch and customers > self._together:
                    break
                batch.append(self._waiting.popleft())
        return batch if batch or self._ended else self._next()

    def _answered(self, batch: Sequence[_Asked[Given, Note]]) -> list[tuple[list[Given], Note] | Exception]:
        try:
            given, note = self._work([each for asked in batch for each in asked.customer_ids])
        except ChurnError as refused:
            # The store is away, or no model is there: the same for all, and asking again would only take longer.
            return [refused] * len(batch)
        except Exception as broken:  # noqa: BLE001 - it is raised where it is waited for
            if len(batch) == 1:
                return [broken]
            # Whatever one of them brought with it must not fail the others.
            return [self._answered([asked])[0] for asked in batch]
        results: list[tuple[list[Given], Note] | Exception] = []
        start = 0
        for asked in batch:
            results.append((given[start : start + len(asked.customer_ids)], note))
            start += len(asked.customer_ids)
        return results


def _deliver(batch: Sequence[_Asked[Given, Note]], results: Sequence[tuple[list[Given], Note] | Exception]) -> None:
    for asked, result in zip(batch, results, strict=True):
        if asked.answer.done():
            continue  # the caller gave up
        if isinstance(result, Exception):
            asked.answer.set_exception(result)
        else:
            asked.answer.set_result(result)
