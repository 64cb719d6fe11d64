"""Canary: the challenger answers for a fixed share of customers; if it fails, the champion does."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from bentos.churn.trials.trial_counts import TrialCounter
from bentos.prediction.model import ServingModel
from bentos.prediction.prediction import Prediction
from bentos.prediction.predictor import StageObserver, ignore_stage, predict_customers
from bentos.rollout.paired_times import ArmName
from configs.errors import ChurnError

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
"""Requests that may wait for the challenger at once, including those that timed out."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class CanaryShare:
    """The customers that the canary of the bundle ``digest`` answers for: a ``share`` in [0, 1] of them."""

    digest: str
    share: float

    def takes(self, customer_id: str) -> bool:
        """Return whether the canary answers for the customer.

        The same in each worker and at each request; a greater share keeps the customers of a smaller one; another
        bundle has other customers, so that not every canary answers for the same ones.
        """
        hashed = hashlib.sha256(f"{self.digest}:{customer_id}".encode()).digest()
        # 53 bits, as many as a float holds: dividing more could round up to 1, and a share of 1 would miss a customer.
        return (int.from_bytes(hashed[:8]) >> 11) / 2**53 < self.share


class Canary:
    """A trial in mode canary.

    Parameters
    ----------
    challenger
        The model on trial.
    counting
        Its counts. Closed with the trial.
    customers
        The customers that it answers for.
    reasons_max
        Most reasons per answer.
    limit_s
        Seconds that a request waits for it before the champion answers.
    """

    def __init__(
        self,
        challenger: ServingModel,
        counter: TrialCounter,
        *,
        customers: CanaryShare,
        reasons_max: int,
        limit_s: float,
    ) -> None:
        self.challenger = challenger
        self.counting = counter
        self._customers = customers
        self._reasons_max = reasons_max
        self._limit_s = limit_s
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._told: set[str] = set()

    def predict(
        self,
        champion: ServingModel,
        customer_ids: Sequence[str],
        now: datetime,
        *,
        observe_stage: StageObserver = ignore_stage,
    ) -> list[Prediction | ChurnError]:
        """Return one answer or refusal per id, in order; those of one customer are all of one model.

        Raises StoreUnavailableError, as the champion does.
        """
        places = [place for place, each in enumerate(customer_ids) if self._customers.takes(each)]
        timed = len(customer_ids) == 1
        tried = dict(zip(places, self._challenger([customer_ids[each] for each in places], now, timed), strict=True))
        rest = [place for place in range(len(customer_ids)) if not isinstance(tried.get(place), Prediction)]
        try:
            given = self._champion(
                champion, [customer_ids[each] for each in rest], now, timed and not places, observe_stage
            )
        except Exception:
            # Both failed, each for its own customers: a store that is down counts against neither.
            self._count("challenger", tried.values(), {customer_ids[each] for each in places if tried[each] is None})
            self._count("champion", (), {customer_ids[each] for each in rest})
            raise
        instead = dict(zip(rest, given, strict=True))
        # A customer that the champion refuses as well does not count as a failure.
        saved = {customer_ids[each] for each in places if isinstance(instead.get(each), Prediction)}
        self._count("challenger", tried.values(), saved)
        self._count("champion", given, set())
        both: dict[int, Prediction | ChurnError | None] = {**tried, **instead}
        return [each for place in range(len(customer_ids)) if (each := both[place]) is not None]

    def takes(self, customer_id: str) -> bool:
        """Return whether the challenger answers for the customer."""
        return self._customers.takes(customer_id)

    def save(self) -> None:
        """Write the counts to the file of this worker."""
        self.counting.save()

    def close(self) -> None:
        """Write the counts for the last time."""
        self.counting.save()

    def _challenger(
        self,
        customer_ids: Sequence[str],
        now: datetime,
        timed: bool,  # noqa: FBT001 - private
    ) -> Sequence[Prediction | ChurnError | None]:
        """Return the challenger's answers, None for each if it fails or exceeds the time limit."""
        if not customer_ids:
            return []

        def work() -> tuple[list[Prediction | ChurnError], float]:
            # CPU time, as the champion's; see breach. The hand-over to this thread is the canary's cost, not the
            # model's.
            started = time.thread_time()
            found = predict_customers(self.challenger, customer_ids, now, reasons_max=self._reasons_max)
            return found, time.thread_time() - started

        try:
            given, seconds = self._within(work)
        except Exception as broken:  # noqa: BLE001 - whatever it is, the champion answers instead
            kind = type(broken).__name__
            if kind not in self._told:
                log.error("the challenger in canary failed: %s", kind)  # noqa: TRY400 - a traceback may hold values
            self._told.add(kind)
            return [None] * len(customer_ids)
        if timed and isinstance(given[0], Prediction):
            self.counting.observe_seconds("challenger", seconds)
        return given

    def _champion(
        self,
        champion: ServingModel,
        customer_ids: Sequence[str],
        now: datetime,
        timed: bool,  # noqa: FBT001 - private
        observe_stage: StageObserver,
    ) -> list[Prediction | ChurnError]:
        if not customer_ids:
            return []
        started = time.thread_time()
        given = predict_customers(
            champion, customer_ids, now, reasons_max=self._reasons_max, observe_stage=observe_stage
        )
        if timed and isinstance(given[0], Prediction):
            self.counting.observe_seconds("champion", time.thread_time() - started)
        return given

    def _count(self, model: ArmName, given: Iterable[Prediction | ChurnError | None], failed: set[str]) -> None:
        scores = {each.customer_id: each.probability for each in given if isinstance(each, Prediction)}
        with self.counting.open() as counts:
            arm = counts.challenger if model == "challenger" else counts.champion
            for probability in scores.values():
                arm.add_answer(probability)
            arm.add_request(len(scores) + len(failed), len(failed))
        self.counting.observe_customers(model, "answered", len(scores))
        self.counting.observe_customers(model, "failed", len(failed))

    def _within(self, work: Callable[[], Found]) -> Found:
        """Return the result of ``work``, run in a thread. Raises TimeoutError if it takes too long."""
        # A call that never returns keeps its slot: once all are taken, no request waits for the challenger any more.
        if not self._free.acquire(blocking=False):
            raise TimeoutError
        done: Future[Found] = Future()

        def act() -> None:
            try:
                done.set_result(work())
            except Exception as broken:  # noqa: BLE001 - it is raised in the waiting thread
                done.set_exception(broken)
            finally:
                self._free.release()

        threading.Thread(target=act, name="churn-canary", daemon=True).start()
        return done.result(self._limit_s)
