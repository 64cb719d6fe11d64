"""Serve predictions in one worker: batch requests, enforce the time-out, record metrics and receipts.

Used by the routes; knows no HTTP. See docs/decisions/0024-answered-together.md.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio.to_thread
from anyio import CapacityLimiter

from bentos.churn.errors import AnswerTimeoutError
from bentos.churn.metrics import Meters
from bentos.churn.runtime.batcher import CUSTOMERS_MAX, InThread, OnLoop, tell
from bentos.churn.runtime.model_manager import Keeper
from bentos.churn.tracing import Tracing
from bentos.prediction.prediction import Answered
from bentos.prediction.predictor import Stage
from bentos.prediction.what_if import suppose
from bentos.receipts import ReceiptWriter
from configs.errors import ChurnError
from configs.settings import Settings

if TYPE_CHECKING:
    from bentos.decisions.levers import Value

FEW: Final = 16
"""Most customers of a request that is answered on the event loop; larger ones would delay others, and use a thread."""
TRIAL_THREADS: Final = 4
"""Requests at once while a challenger is on trial: each one alone, so that its CPU time is its own."""
_SLOW_S: Final = 0.1
"""Seconds after which a few customers were slow: a thread then answers until a batch is fast again, because the event
loop must not block on the store.
"""
_FLUSH_S: Final = 10.0


@dataclass(frozen=True)
class _Batch:
    customers: int
    stages: list[tuple[Stage, int, int]] = field(default_factory=list)


class Answering:
    """Answers requests from coroutines, records metrics and offers receipts."""

    def __init__(self, settings: Settings, keeper: Keeper, meters: Meters, tracing: Tracing | None = None) -> None:
        self._settings = settings
        self._serving = settings.serving
        self._keeper = keeper
        self._meters = meters
        self._tracing = tracing
        self._few = InThread(self._answered, self._note, name="churn-answers")
        self._many = InThread(self._answered, self._note, name="churn-batches", together=1)
        self._here = OnLoop(self._answered, self._note, instead=self._few, well=lambda: self._quick)
        self._quick = False
        """Whether the last small batch was fast. The first one may have to load the model."""
        self._limiter: CapacityLimiter | None = None
        self._receipts: ReceiptWriter | None = None
        self._lock = threading.Lock()

    async def ask(self, customer_ids: Sequence[str]) -> list[Answered | ChurnError]:
        """Return one answer or refusal per id, in order.

        Raises
        ------
        ChurnError
            NotReadyError, StoreUnavailableError; AnswerTimeoutError after serving.request_timeout_s.
        """
        serving = self._keeper.peek()
        if self._quick and len(customer_ids) <= FEW and serving is not None and serving.trial is None:
            # On the event loop nothing can cancel it, and the store has a time-out of its own.
            found, batch = await self._here.ask(customer_ids)
        else:
            async with self.in_time():
                if serving is not None and serving.trial is not None:
                    found, batch = await self._alone(customer_ids)
                else:
                    found, batch = await (self._few if len(customer_ids) <= FEW else self._many).ask(customer_ids)
        if self._tracing is not None:
            self._tracing.stages(batch.stages, batch.customers)
        return found

    async def _alone(self, customer_ids: Sequence[str]) -> tuple[list[Answered | ChurnError], _Batch]:
        """Answer one request by itself, with the challenger on trial."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(TRIAL_THREADS)

        def work() -> tuple[list[Answered | ChurnError], _Batch]:
            found, batch = self._answered(customer_ids, tried=True)
            tell(self._note, found)  # in the thread: receipts of a thousand customers would delay the event loop
            return found, batch

        return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def suppose(self, customer_id: str, asked: Mapping[str, Value]) -> dict[str, Any]:
        """Return the body of a what-if. Raises what bentos.prediction.what_if.suppose does, and NotReadyError."""
        model = self._keeper.current().model_of(customer_id)
        supposed = suppose(model, customer_id, asked, datetime.now(UTC), reasons_max=self._serving.reasons_max)
        tell(partial(self._keep, kind="what_if"), [supposed.after])
        return supposed.body()

    def close(self) -> None:
        """Answer the waiting requests and write the pending receipts."""
        self._few.close()
        self._many.close()
        if self._receipts is not None:
            self._receipts.close(_FLUSH_S)
        if self._tracing is not None:
            self._tracing.close()

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Limit the block to the request time-out; raises AnswerTimeoutError after it."""
        try:
            async with asyncio.timeout(self._serving.request_timeout_s):
                yield
        except TimeoutError:
            raise AnswerTimeoutError(
                f"no answer within {self._serving.request_timeout_s} s", "repeat it later, or for fewer customers"
            ) from None

    def _answered(
        self, customer_ids: Sequence[str], *, tried: bool = False
    ) -> tuple[list[Answered | ChurnError], _Batch]:
        """Answer the customers; ``tried``: with the challenger on trial, and not counted as slow."""
        serving, batch = self._keeper.current(), _Batch(len(customer_ids))
        if not tried and serving.trial is not None:
            serving = replace(serving, trial=None)  # the trial began while they were queued

        def took(stage: Stage, seconds: float) -> None:
            self._meters.took(stage, seconds)
            if self._tracing is not None:
                ended = time.time_ns()
                batch.stages.append((stage, ended - int(seconds * 1e9), ended))

        began = time.monotonic()
        try:
            found = serving.answer(customer_ids, datetime.now(UTC), reasons_max=self._serving.reasons_max, took=took)
        finally:
            # Failures count too: a store that hangs, or is slow, shows here.
            if not tried and len(customer_ids) <= CUSTOMERS_MAX:
                self._quick = time.monotonic() - began < _SLOW_S
        return found, batch

    def _note(self, found: Sequence[Answered | ChurnError]) -> None:
        """Count the predictions, and offer receipts."""
        answers = [each for each in found if isinstance(each, Answered)]
        self._meters.scored(answers)
        self._keep(answers, "predict")

    def _keep(self, answers: Sequence[Answered], kind: Literal["predict", "what_if"]) -> None:
        if self._receipts is None:
            with self._lock:
                if self._receipts is None:
                    # In the worker's own process: a thread does not survive a fork.
                    self._receipts = ReceiptWriter(self._settings, self._receipts_did)
        self._receipts.offer([partial(each.receipt, kind) for each in answers])

    def _receipts_did(self, outcome: str, receipts: int) -> None:
        self._meters.receipts_did(outcome, receipts, 0 if self._receipts is None else self._receipts.pending)
