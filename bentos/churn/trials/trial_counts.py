"""A worker's counts of a trial: updated as requests are answered, and written to a file per worker."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from bentos.churn.metrics import ServiceMetrics
from bentos.rollout.live_comparison import LiveComparison, live_folder, live_name
from bentos.rollout.paired_times import ArmName, Pairing
from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import identity

if TYPE_CHECKING:
    from bentos.rollout.pointer import Rollout

log = logging.getLogger(__name__)


class TrialCounter:
    """One worker's counts of one trial. Safe to share between threads.

    Parameters
    ----------
    home, trial
        Where the file lies; which trial is counted.
    metrics
        Gets the same counts for Prometheus.
    """

    def __init__(self, home: Path, trial: Rollout, metrics: ServiceMetrics) -> None:
        digest = str(trial.challenger)
        # A name per worker process: none overwrites another's counts.
        self._path = live_folder(home, digest) / live_name(trial.sequence, uuid4().hex[:12])
        self._home, self._known = home, identity(home)
        self._mode = trial.mode
        self._metrics = metrics
        self._counts = LiveComparison()
        self._written = LiveComparison()
        self._pairing = Pairing()
        self._lock = threading.Lock()
        self.written = False
        """Whether the file holds the counts as of the last attempt to save them."""
        self._told = False

    @contextmanager
    def open(self) -> Iterator[LiveComparison]:
        """Yield the counts under the lock; release them at once."""
        with self._lock:
            yield self._counts

    def observe_seconds(self, arm: ArmName, seconds: float) -> None:
        """Count the CPU time of one request for one customer, and the pair that it completes."""
        with self._lock:
            getattr(self._counts, arm).add_seconds(seconds)
            pair = self._pairing.add(arm, seconds)
            if pair is not None:
                self._counts.add_seconds(*pair)

    def observe_customers(
        self, model: ArmName, outcome: Literal["answered", "failed", "dropped"], customers: int = 1
    ) -> None:
        """Count for Prometheus."""
        if customers:
            self._metrics.trials.labels(self._mode, model, outcome).inc(customers)

    def snapshot(self) -> LiveComparison:
        """Return a copy of the current counts."""
        with self._lock:
            return self._counts.merge(LiveComparison())

    def save(self) -> None:
        """Write the counts if they changed. A failed write is logged once, and does not stop answering.

        Nothing is written to a home that was removed or replaced: the trial does not belong to it.
        """
        counts = self.snapshot()
        if counts == self._written or self._known not in {None, identity(self._home)}:
            return
        try:
            with storage_errors():
                write_file(self._path, json.dumps(counts.to_json()).encode())
        except ChurnError as refused:
            if not self._told:
                log.warning("live counts are not written: %s", refused.message)
            self._told, self.written = True, False
            return
        self._written, self.written = counts, True
