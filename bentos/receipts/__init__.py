"""Prediction receipts: signed records of answer, values and model; stored, found and replayed.

See docs/decisions/0026-receipts.md.
"""

from bentos.receipts.receipt import Draft, Receipt, Shared
from bentos.receipts.replay import ReceiptBundleError, Replayer, ReplayResult
from bentos.receipts.signing import ReceiptTamperedError
from bentos.receipts.sink import ReceiptStoreError
from bentos.receipts.store import ReceiptUnknownError, find_receipt
from bentos.receipts.writer import ReceiptWriter

__all__ = [
    "Draft",
    "Receipt",
    "ReceiptBundleError",
    "ReceiptStoreError",
    "ReceiptTamperedError",
    "ReceiptUnknownError",
    "ReceiptWriter",
    "ReplayResult",
    "Replayer",
    "Shared",
    "find_receipt",
]
