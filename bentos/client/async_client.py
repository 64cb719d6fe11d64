"""The asynchronous client. See docs/journeys/app-developer.md."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from bentos.churn.api.schemas import Answer, Change, Metadata, PredictionAnswer, RefusedCustomer, WhatIfAnswer
from bentos.client import transport as rim
from bentos.client.client import BATCH_IDS_MAX, CONCURRENCY_MAX
from bentos.client.endpoints import Endpoints
from bentos.client.errors import EventLoopError
from bentos.client.retries import Clock, Failed, Outcome, Patience, Reply, Send, Steps, Wait

Result = TypeVar("Result")


class AsyncChurnClient:
    """:class:`~bentos.client.client.ChurnClient` with awaited methods; arguments and errors are the same.

    An asynchronous context manager; the tasks of one event loop may share one. Its connections belong to the event loop
    of its first call: in another one, such as that of a second ``asyncio.run``, make a new client. Thousands of calls
    may be gathered at once: those beyond ``concurrency_max`` wait for a slot, in order, and their time-outs count from
    then.

    Parameters
    ----------
    base_url, api_key, patience, batch_ids_max, concurrency_max, transport, sleep, clock, rng
        As those of :class:`~bentos.client.client.ChurnClient`; ``sleep`` is awaited.

    Raises
    ------
    ValueError
        If the address or the key is unusable, or ``concurrency_max`` is below 1.
    EventLoopError
        By every method, if it is called in another event loop than the first call.

    Examples
    --------
    >>> import asyncio, httpx
    >>> from bentos.client import AsyncChurnClient
    >>> async def ready():
    ...     answers = httpx.MockTransport(lambda request: httpx.Response(200, json={"ready": True}))
    ...     async with AsyncChurnClient("http://127.0.0.1:3000", transport=answers) as client:
    ...         return await client.ready()
    >>> asyncio.run(ready())
    True
    """

    def __init__(  # noqa: PLR0913 - all but the first are keywords with defaults
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        patience: Patience | None = None,
        batch_ids_max: int = BATCH_IDS_MAX,
        concurrency_max: int = CONCURRENCY_MAX,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Clock = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._calls = Endpoints(patience or Patience(), batch_ids_max, clock, rng or random.SystemRandom())
        self._sleep = sleep
        self._http = httpx.AsyncClient(**rim.options(base_url, api_key, concurrency_max), transport=transport)
        self._slots = asyncio.Semaphore(concurrency_max)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def predict(self, customer_id: str) -> Answer:
        """Return one customer's score with its reasons."""
        return await self._run(self._calls.predict(customer_id))

    async def predict_many(self, customer_ids: Sequence[str]) -> list[Answer | RefusedCustomer]:
        """Return an entry for each id, in the order passed, twice for an id passed twice."""
        return await self._run(self._calls.predict_many(customer_ids))

    async def what_if(self, customer_id: str, changes: Mapping[str, Change]) -> WhatIfAnswer:
        """Return the score as it is and as it would be with ``changes`` (feature or column -> value)."""
        return await self._run(self._calls.what_if(customer_id, changes))

    async def prediction(self, prediction_id: str) -> PredictionAnswer:
        """Return the receipt of a prediction, with the result of its replay."""
        return await self._run(self._calls.prediction(prediction_id))

    async def metadata(self) -> Metadata:
        """Return the version and provenance of the serving model."""
        return await self._run(self._calls.metadata())

    async def ready(self) -> bool:
        """Return whether a prediction would be answered now; one attempt, False if nothing listens."""
        return await self._run(self._calls.ready())

    async def close(self) -> None:
        """Close the connections."""
        self._refuse_other_loop()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, broken: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.base_url!r})"

    async def _run(self, steps: Steps[Result]) -> Result:
        self._refuse_other_loop()
        # The first step, which starts the clock of the call, is taken inside.
        async with self._slots:
            return await self._result(steps)

    def _refuse_other_loop(self) -> None:
        running = asyncio.get_running_loop()
        self._loop = self._loop or running
        if self._loop is not running:
            raise EventLoopError(
                "this AsyncChurnClient belongs to the event loop of its first call, and another one is running",
                "make one client for each event loop: async with AsyncChurnClient(...) inside of asyncio.run",
            )

    async def _result(self, steps: Steps[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: Result = done.value
                return result
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def _send(self, step: Send) -> Reply | Failed:
        try:
            async with self._http.stream(**rim.arguments(step)) as response:
                pieces = []
                async for piece in response.aiter_bytes():
                    rim.refuse_late(step, self._calls.clock)
                    pieces.append(piece)
                return rim.reply(response, b"".join(pieces))
        except httpx.TransportError as broken:
            return rim.failed(broken)
