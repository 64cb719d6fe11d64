"""Interface of the databases that store receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from bentos.receipts.signing import ReceiptRow
from configs.errors import ChurnError

TABLE: Final = "churn_receipts"
RECEIPT_COLUMNS: Final = ", ".join(ReceiptRow._fields)
CONNECT_TIMEOUT_S: Final = 2
"""Seconds for a connection to be made, or a lock to be freed, while a request waits for the receipt."""
STATEMENT_TIMEOUT_S: Final = 5


class ReceiptStoreError(ChurnError):
    """The database of the receipts can't be reached or used."""

    error = "receipts_unavailable"
    http_status = 503
    transient = True


class RowsRefusedError(Exception):
    """The database is available, but will never accept these rows as they are."""


class Sink(Protocol):
    """A database that stores receipts. Opened on first use; for one thread at a time."""

    def write(self, rows: Sequence[ReceiptRow]) -> None:
        """Store all rows or none, durably; one whose id is stored already changes nothing.

        Raises
        ------
        ReceiptStoreError
            If the database is unavailable: the same call may succeed later.
        RowsRefusedError
            If it can't store one of the rows.
        """

    def find(self, prediction_id: str) -> ReceiptRow | None:
        """Return the row of an id as it is stored, unverified. Raises ReceiptStoreError."""

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
