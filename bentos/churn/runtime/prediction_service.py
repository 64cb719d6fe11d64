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
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.runtime.batcher import BATCH_CUSTOMERS_MAX, EventLoopBatcher, ThreadBatcher, notify
from bentos.churn.runtime.model_manager import ModelManager
from bentos.churn.tracing import Tracing
from bentos.prediction.prediction import Drafts, Prediction
from bentos.prediction.predictor import Stage
from bentos.prediction.what_if import predict_what_if
from bentos.receipts import ReceiptWriter
from configs.errors import ChurnError
from configs.settings import Settings

if TYPE_CHECKING:
    from bentos.decisions.levers import Value

FEW: Final = 100
"""Most customers of a request that is answered on the event loop; larger ones would delay others, and use a thread.
So many take a few milliseconds.
"""
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


class PredictionService:
    """Answers requests from coroutines, records metrics and offers receipts."""

    def __init__(
        self, settings: Settings, models: ModelManager, metrics: ServiceMetrics, tracing: Tracing | None = None
    ) -> None:
        self._settings = settings
        self._serving = settings.serving
        self._models = models
        self._metrics = metrics
        self._tracing = tracing
        self._few = ThreadBatcher(self._predict_batch, self._record_metrics, name="churn-answers")
        self._many = ThreadBatcher(self._predict_batch, self._record_metrics, name="churn-batches", customers_max=1)
        self._here = EventLoopBatcher(
            self._predict_batch, self._record_metrics, fallback=self._few, is_healthy=lambda: self._quick
        )
        self._quick = False
        """Whether the last small batch was fast. The first one may have to load the model."""
        self._limiter: CapacityLimiter | None = None
        self._receipts: ReceiptWriter | None = None
        self._drafts = {"predict": Drafts("predict"), "what_if": Drafts("what_if")}
        self._lock = threading.Lock()

    async def predict(self, customer_ids: Sequence[str]) -> list[Prediction | ChurnError]:
        """Return one answer or refusal per id, in order.

        Raises
        ------
        ChurnError
            NotReadyError, StoreUnavailableError; AnswerTimeoutError after serving.request_timeout_s.
        """
        serving = self._models.current_or_none()
        if self._quick and len(customer_ids) <= FEW and serving is not None and serving.trial is None:
            # On the event loop nothing can cancel it, and the store has a time-out of its own.
            found, batch = await self._here.submit(customer_ids)
        else:
            async with self.is_in_time():
                if serving is not None and serving.trial is not None:
                    found, batch = await self._without_canary(customer_ids)
                else:
                    found, batch = await (self._few if len(customer_ids) <= FEW else self._many).submit(customer_ids)
        if self._tracing is not None:
            self._tracing.stages(batch.stages, batch.customers)
        return found

    async def _without_canary(self, customer_ids: Sequence[str]) -> tuple[list[Prediction | ChurnError], _Batch]:
        """Answer one request by itself, with the challenger on trial."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(TRIAL_THREADS)

        def work() -> tuple[list[Prediction | ChurnError], _Batch]:
            found, batch = self._predict_batch(customer_ids, tried=True)
            notify(
                self._record_metrics, found
            )  # in the thread: receipts of a thousand customers would delay the event loop
            return found, batch

        return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def what_if(self, customer_id: str, changes: Mapping[str, Value]) -> dict[str, Any]:
        """Return the body of a what-if. Raises what ``predict_what_if`` does, and NotReadyError."""
        model = self._models.current().model_of(customer_id)
        supposed = predict_what_if(
            model, customer_id, changes, datetime.now(UTC), reasons_max=self._serving.reasons_max
        )
        notify(partial(self._record_receipts, kind="what_if"), [supposed.after])
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
    async def is_in_time(self) -> AsyncIterator[None]:
        """Limit the block to the request time-out; raises AnswerTimeoutError after it."""
        try:
            async with asyncio.timeout(self._serving.request_timeout_s):
                yield
        except TimeoutError:
            raise AnswerTimeoutError(
                f"no answer within {self._serving.request_timeout_s} s", "repeat it later, or for fewer customers"
            ) from None

    def _predict_batch(
        self, customer_ids: Sequence[str], *, tried: bool = False
    ) -> tuple[list[Prediction | ChurnError], _Batch]:
        """Answer the customers; ``tried``: with the challenger on trial, and not counted as slow."""
        serving, batch = self._models.current(), _Batch(len(customer_ids))
        if not tried and serving.trial is not None:
            serving = replace(serving, trial=None)  # the trial began while they were queued

        def took(stage: Stage, seconds: float) -> None:
            self._metrics.observe_stage(stage, seconds)
            if self._tracing is not None:
                ended = time.time_ns()
                batch.stages.append((stage, ended - int(seconds * 1e9), ended))

        began = time.monotonic()
        try:
            found = serving.predict(
                customer_ids, datetime.now(UTC), reasons_max=self._serving.reasons_max, observe_stage=took
            )
        finally:
            # Failures count too: a store that hangs, or is slow, shows here.
            if not tried and len(customer_ids) <= BATCH_CUSTOMERS_MAX:
                self._quick = time.monotonic() - began < _SLOW_S
        return found, batch

    def _record_metrics(self, found: Sequence[Prediction | ChurnError]) -> None:
        """Count the predictions, and offer receipts."""
        answers = [each for each in found if isinstance(each, Prediction)]
        self._metrics.observe_predictions(answers)
        self._record_receipts(answers, "predict")

    def _record_receipts(self, answers: Sequence[Prediction], kind: Literal["predict", "what_if"]) -> None:
        if self._receipts is None:
            with self._lock:
                if self._receipts is None:
                    # In the worker's own process: a thread does not survive a fork.
                    self._receipts = ReceiptWriter(self._settings, self._count_receipts)
        draft = self._drafts[kind].of
        self._receipts.offer([partial(draft, each) for each in answers])

    def _count_receipts(self, outcome: str, receipts: int) -> None:
        self._metrics.observe_receipts(outcome, receipts, 0 if self._receipts is None else self._receipts.pending)
