"""Shadow: the challenger scores answered customers in the background; its scores are never returned."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bentos.churn.trials.trial_counts import TrialCounter
from bentos.prediction.model import ServingModel
from bentos.prediction.prediction import Prediction
from bentos.prediction.predictor import StageObserver, ignore_stage, predict_customers
from configs.errors import ChurnError

log = logging.getLogger(__name__)

SLICE: Final = 50
"""Customers scored at once: a request that arrives meanwhile competes with at most one slice for the interpreter."""
PATIENCE_S: Final = 0.25
"""Seconds that a slice waits for a moment without requests. A worker that never has one still scores a few slices a
second: otherwise the trial would have no counts.
"""
_LOOK_S: Final = 0.002
_STOP_S: Final = 5.0


@dataclass(frozen=True)
class _Request:
    """Customers of one request that the champion answered; ``seconds`` of CPU, None unless it was for one."""

    at: datetime
    answers: tuple[Prediction, ...]
    seconds: float | None


class Shadow:
    """A trial in mode shadow: answers are the champion's.

    Parameters
    ----------
    challenger
        The model on trial.
    counting
        Its counts. Closed with the trial.
    reasons_max
        Most reasons per answer: the challenger does the same work.
    room
        Customers that may wait; those beyond are counted and left out.
    patience_s
        Seconds that a slice waits for a moment without requests.
    """

    def __init__(
        self,
        challenger: ServingModel,
        counter: TrialCounter,
        *,
        reasons_max: int,
        room: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.challenger = challenger
        self.counting = counter
        self._reasons_max = reasons_max
        self._room = room
        self._patience_s = patience_s
        self._waiting: deque[_Request] = deque()
        self._customers = 0
        self._requests = 0
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="churn-shadow", daemon=True)
        self._thread.start()

    def predict(
        self,
        champion: ServingModel,
        customer_ids: Sequence[str],
        now: datetime,
        *,
        observe_stage: StageObserver = ignore_stage,
    ) -> list[Prediction | ChurnError]:
        """Return the champion's answers and queue them for the challenger. Raises what the champion does."""
        with self._changed:
            self._requests += 1
        started = time.thread_time()
        try:
            found = predict_customers(
                champion, customer_ids, now, reasons_max=self._reasons_max, observe_stage=observe_stage
            )
        finally:
            with self._changed:
                self._requests -= 1
        seconds = time.thread_time() - started
        self._offer(found, now, seconds if len(customer_ids) == 1 else None)
        return found

    def save(self) -> None:
        """Write the counts to the file of this worker."""
        self.counting.save()

    def close(self) -> None:
        """End the background work; customers still waiting are counted as left out."""
        with self._changed:
            self._ended.set()
            self._changed.notify_all()
        self._thread.join(_STOP_S)
        with self._changed:
            self._drop(self._customers)
            self._waiting.clear()
            self._customers = 0
        self.save()

    def _offer(self, found: Sequence[Prediction | ChurnError], now: datetime, seconds: float | None) -> None:
        answers = tuple({each.customer_id: each for each in found if isinstance(each, Prediction)}.values())
        with self._changed:
            room = 0 if self._ended.is_set() else max(self._room - self._customers, 0)
            taken, left = answers[:room], answers[room:]
            for start in range(0, len(taken), SLICE):
                self._waiting.append(_Request(now, taken[start : start + SLICE], seconds))
            self._customers += len(taken)
            self._drop(len(left))
            self._changed.notify()

    def _drop(self, customers: int) -> None:
        with self.counting.open() as counts:
            counts.dropped += customers
        self.counting.observe_customers("challenger", "dropped", customers)

    def _work(self) -> None:
        while not self._ended.is_set():
            with self._changed:
                if not self._waiting:
                    self._changed.wait()
                    continue
            patient_until = time.monotonic() + self._patience_s
            while self._requests and time.monotonic() < patient_until and not self._ended.wait(_LOOK_S):
                pass
            with self._changed:
                if self._ended.is_set() or not self._waiting:
                    continue
                asked = self._waiting.popleft()
                self._customers -= len(asked.answers)
            self._compare(asked)

    def _compare(self, asked: _Request) -> None:
        ids = [each.customer_id for each in asked.answers]
        started = time.thread_time()
        found: Sequence[Prediction | ChurnError | None] = [None] * len(ids)
        try:
            found = predict_customers(self.challenger, ids, asked.at, reasons_max=self._reasons_max)
        except Exception as broken:  # noqa: BLE001 - finding what the challenger raises is the purpose of the trial
            self._tell(type(broken).__name__)
        seconds = time.thread_time() - started
        failed = 0
        with self.counting.open() as counts:
            for ours, theirs in zip(asked.answers, found, strict=True):
                if isinstance(theirs, Prediction):
                    counts.add_pair(ours.probability, theirs.probability, agree=ours.label == theirs.label)
                else:
                    counts.champion.add_answer(ours.probability)
                    counts.challenger.failed += 1
                    failed += 1
            if asked.seconds is not None and not failed:
                counts.champion.add_seconds(asked.seconds)
                counts.challenger.add_seconds(seconds)
                counts.add_seconds(seconds, asked.seconds)
        self.counting.observe_customers("champion", "answered", len(ids))
        self.counting.observe_customers("challenger", "answered", len(ids) - failed)
        self.counting.observe_customers("challenger", "failed", failed)

    def _tell(self, kind: str) -> None:
        if kind not in self._told:
            log.error("the challenger in shadow failed: %s", kind)
        self._told.add(kind)
