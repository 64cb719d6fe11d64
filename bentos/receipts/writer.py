"""Write receipts in the background, by a bounded queue and one thread: no answer waits for a database.

A receipt is signed in the offering thread, which takes some microseconds; only the writing has a thread. Making
receipts in a second thread would compete with the answering one for the interpreter, and cost twice as much. See
docs/decisions/0026-receipts.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

from bentos.receipts.receipt import Draft, Receipt
from bentos.receipts.signing import ReceiptRow, sign_receipt, signing_key
from bentos.receipts.sink import ReceiptStoreError, RowsRefusedError
from bentos.receipts.store import open_sink
from configs.settings import Settings

log = logging.getLogger(__name__)

ReceiptOutcome = Literal["written", "dropped", "failed_writes"]

Offered = Receipt | Callable[[], Receipt | Draft]
"""A receipt, or a function that makes it: one that fails does not affect the others, and is counted."""

BATCH: Final = 500
_INTERVAL_S: Final = 0.1
_BACK_OFF_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 5.0
_BACK_OFF_CLOSING_S: Final = 0.05


class ReceiptWriter:
    """The queue of one process and the thread that empties it. Safe to share between threads.

    Parameters
    ----------
    settings
        Sections ``receipts`` and ``home``. A database that is unavailable is no error: the thread goes on trying.
    observe
        Called with an outcome and its number since the last call, from any thread; for metrics.

    Raises
    ------
    SettingsError
        For a ``receipts.database_url`` of another database than PostgreSQL.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from bentos.receipts.receipt import Receipt
    >>> from bentos.receipts.store import find_receipt
    >>> from bentos.receipts.writer import ReceiptWriter
    >>> from configs.settings import load_settings
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> receipt = Receipt(
    ...     prediction_id="01a2", answered_at=datetime(2026, 1, 31, tzinfo=UTC), kind="predict", customer_id="C-1",
    ...     bundle_digest="ab" * 32, model_version="example", feature_service="churn_core_v1", contract_hash="cd" * 32,
    ...     values=(1, "DSL", None), views=(("customer_billing", None, "unknown"),), probability=0.62, label="churn",
    ...     threshold=0.164, expected_profit_usd=30.0, lever=None, reasons=None, quality="full",
    ... )
    >>> writer = ReceiptWriter(settings)
    >>> writer.offer([receipt])
    1
    >>> writer.close(timeout_s=30)
    >>> find_receipt(settings, "01a2") == receipt
    True
    """

    def __init__(
        self, settings: Settings, observe: Callable[[ReceiptOutcome, int], object] = lambda _what, _n: None
    ) -> None:
        self._sink = open_sink(settings)
        self._key = signing_key(settings)
        self._queue_max = settings.receipts.queue_max
        self._told = observe
        self._counts: dict[ReceiptOutcome, int] = {"written": 0, "dropped": 0, "failed_writes": 0}
        self._waiting: deque[ReceiptRow] = deque()
        self._in_hand = 0
        """Number of receipts that the thread has taken and not yet written."""
        self._given_up = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="churn-receipts", daemon=True)
        self._thread.start()

    def offer(self, receipts: Sequence[Offered]) -> int:
        """Queue receipts to be written. Never waits and never raises.

        Those beyond ``receipts.queue_max``, and all after :meth:`close`, are counted as dropped, and so is one that
        can't be made or encoded: a retry would fail too.

        Returns
        -------
        int
            How many were accepted.
        """
        rows = []
        for each in receipts if self._room() else ():  # nothing is made for a full queue
            try:
                rows.append(sign_receipt(each if isinstance(each, Receipt) else each(), self._key))
            except Exception as broken:  # noqa: BLE001 - whatever is wrong with one must not cost the others
                log.error("a receipt can't be kept: %s", type(broken).__name__)  # noqa: TRY400 - no values
        with self._lock:
            taken = rows[: self._room()]
            self._waiting.extend(taken)
        self._count("dropped", len(receipts) - len(taken))
        return len(taken)

    def _room(self) -> int:
        return 0 if self._closing.is_set() else max(self._queue_max - self.pending, 0)

    @property
    def pending(self) -> int:
        """Number of receipts accepted and not written yet."""
        return len(self._waiting) + self._in_hand

    @property
    def written(self) -> int:
        """Number of receipts that the database has stored."""
        return self._counts["written"]

    @property
    def dropped(self) -> int:
        """Number of lost receipts: queue full, refused by the database, or not written at shutdown."""
        return self._counts["dropped"]

    @property
    def failed_writes(self) -> int:
        """Number of failed batch writes, each of which was or will be tried again."""
        return self._counts["failed_writes"]

    def close(self, timeout_s: float) -> None:
        """Write pending receipts for at most ``timeout_s``; count the rest as dropped. May be called twice."""
        self._closing.set()
        self._thread.join(timeout_s)
        with self._lock:
            left = self.pending
            self._given_up = True
            self._waiting.clear()
            self._in_hand = 0
        self._count("dropped", left)
        if left:
            log.error("%d receipts could not be written before the end", left)

    def _count(self, what: ReceiptOutcome, number: int) -> None:
        if number:
            with self._lock:
                self._counts[what] += number
            try:
                self._told(what, number)
            except Exception as broken:  # noqa: BLE001 - a counter that fails must cost neither answer nor receipt
                log.error("receipts are counted nowhere else: %s", type(broken).__name__)  # noqa: TRY400 - as below

    def _work(self) -> None:
        while not self._given_up:
            taken = self._take()
            if taken:
                self._write(taken)
            elif self._closing.is_set():
                break
            if len(self._waiting) < BATCH:
                self._closing.wait(_INTERVAL_S)
        self._sink.close()

    def _take(self) -> list[ReceiptRow]:
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            self._in_hand = len(taken)
        return taken

    def _write(self, rows: list[ReceiptRow]) -> None:
        back_off = _BACK_OFF_S
        while rows and not self._given_up:
            try:
                self._sink.write(rows)
            except RowsRefusedError as refused:
                self._one_by_one(rows, refused)
                return
            except Exception as broken:  # noqa: BLE001 - the thread must outlive whatever a driver raises
                self._failed(broken, first=back_off == _BACK_OFF_S)
                if self._closing.wait(back_off):
                    time.sleep(_BACK_OFF_CLOSING_S)
                back_off = min(back_off * 2, _BACK_OFF_MAX_S)
            else:
                self._done("written", len(rows))
                if back_off > _BACK_OFF_S:
                    log.warning("receipts are written again")
                return

    def _one_by_one(self, rows: list[ReceiptRow], refused: RowsRefusedError) -> None:
        if len(rows) == 1:
            self._refused(refused)
            return
        for row in rows:
            self._write([row])

    def _done(self, what: ReceiptOutcome, number: int) -> None:
        """Count receipts that are finished, unless they were counted as dropped already."""
        with self._lock:
            if self._given_up:
                return
            self._in_hand -= number
        self._count(what, number)

    def _refused(self, broken: Exception) -> None:
        log.error("a receipt can't be kept: %s", type(broken).__name__)
        self._done("dropped", 1)

    def _failed(self, broken: Exception, *, first: bool) -> None:
        self._count("failed_writes", 1)
        if first:
            # The exception's name only: a driver's text, or a traceback, may hold values.
            why = broken.message if isinstance(broken, ReceiptStoreError) else type(broken).__name__
            log.warning("receipts are not written, tried again until they are: %s", why)
