"""Count refused keys off the request path and write them to the audit log from a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bentos.churn.auth.audit_log import (
    SERVICE_ACTOR,
    AuditRecord,
    Failure,
    KeyAuditBrokenError,
    Refusals,
    append_record,
    audit_path,
)
from bentos.churn.auth.key_store import KeyEntry
from bentos.churn.metrics import ServiceMetrics
from configs.errors import ChurnError
from configs.settings import Settings

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
_APART_S: Final = 60.0
"""Seconds between two entries of one reason and one key; the most that a killed worker loses."""
_RETRY_S: Final = 5.0
_STOP_S: Final = 2.0
"""How long a slow disk, or another process that holds the audit's lock, may delay the shutdown."""

Pair = tuple[Failure, str | None]


@dataclass
class _Tally:
    name: str | None
    times: int
    first: datetime
    last: datetime


class AuditWriter:
    """The refusals of one worker. Nothing is written while no key is refused.

    The first of a reason and a key is written within about a second, later ones once a minute, the rest at shutdown.
    However many requests are refused, memory and file grow only with the keys that `churn keys` made: requests without
    a known key have two reasons, and one tally each.

    Parameters
    ----------
    settings
        Locates the key file.
    metrics
        Counts written and failed entries.
    """

    def __init__(self, settings: Settings, metrics: ServiceMetrics) -> None:
        self._path = audit_path(settings)
        self._metrics = metrics
        self._lock = threading.Lock()
        self._tallies: dict[Pair, _Tally] = {}
        self._due_at: dict[Pair, float] = {}
        self._in_hand: dict[Pair, _Tally] = {}
        """The tallies that are being written."""
        self._retry_at = 0.0
        self._failing = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, reason: Failure, key: KeyEntry | None) -> None:
        """Count one refused request; ``key`` is None if no known key was sent. Never waits for the disk."""
        now = datetime.now(UTC)
        pair = reason, None if key is None else key.id
        with self._lock:
            self._add(pair, _Tally(None if key is None else key.name, 1, now, now))

    def start(self) -> None:
        """Start the thread."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, name="churn-key-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, within a bounded time, and end the thread."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join(_STOP_S)
        with self._lock:
            lost = sum(tally.times for left in (self._tallies, self._in_hand) for tally in left.values())
        if lost:
            self._metrics.key_audit.labels("lost").inc(lost)
            log.error("%d refused requests could not be written into the audit of API keys before the end", lost)

    def write(self, now: float, *, everything: bool = False) -> None:
        """Write what is due at ``now`` (seconds of a monotonic clock), or ``everything``.

        What can't be written is kept and tried again. For one thread at a time.
        """
        if now < self._retry_at and not everything:
            return
        self._due_at = {pair: due_at for pair, due_at in self._due_at.items() if due_at > now}
        with self._lock:
            due = [pair for pair in self._tallies if everything or pair not in self._due_at]
            self._in_hand = {pair: self._tallies.pop(pair) for pair in due}
        if not due:
            return
        try:
            append_record(self._path, _happened(self._in_hand), datetime.now(UTC))
        except Exception as broken:  # noqa: BLE001 - uncaught, it would end the thread without a message
            self._failed(broken, now)
        else:
            self._done(now)

    def _work(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_LOOK_S)
            self.write(time.monotonic(), everything=ended)

    def _done(self, now: float) -> None:
        self._due_at |= dict.fromkeys(self._in_hand, now + _APART_S)
        self._metrics.key_audit.labels("written").inc(len(self._in_hand))
        with self._lock:
            self._in_hand = {}
        if self._failing:
            log.warning("refused keys are written into the audit again")
        self._failing = ""

    def _failed(self, broken: Exception, now: float) -> None:
        self._retry_at = now + _RETRY_S
        with self._lock:
            for pair, tally in self._in_hand.items():
                self._add(pair, tally)
            self._in_hand = {}
        self._metrics.key_audit.labels("broken" if isinstance(broken, KeyAuditBrokenError) else "failed").inc()
        # Only a ChurnError is logged with its text: it holds neither path nor value.
        why = f"{broken.message}; {broken.hint}" if isinstance(broken, ChurnError) else type(broken).__name__
        if why != self._failing:
            log.error("refused keys are not in the audit, tried again until they are: %s", why)
        self._failing = why

    def _add(self, pair: Pair, more: _Tally) -> None:
        tally = self._tallies.get(pair)
        if tally is None:
            self._tallies[pair] = more
        else:
            tally.times += more.times
            tally.first = min(tally.first, more.first)
            tally.last = max(tally.last, more.last)


def _happened(tallies: Mapping[Pair, _Tally]) -> list[AuditRecord]:
    return [
        AuditRecord(
            "refused",
            key_id,
            tally.name,
            SERVICE_ACTOR,
            refusals=Refusals(reason, tally.times, tally.first.isoformat(), tally.last.isoformat()),
        )
        for (reason, key_id), tally in tallies.items()
    ]
