"""Sign receipts by HMAC: without the key no row can be changed, forged or copied undetected. Pure.

Detected: any change of a row, a signature or a row copied to another place, a row written without the key. Not
detected: a deleted row. Erasing a person must be possible; a look-up by prediction id then finds no receipt. See
docs/decisions/0026-receipts.md.
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from bentos.receipts.receipt import Draft, Receipt, draft_of, format_instant, from_content
from configs.errors import ChurnError
from configs.settings import Settings

_PURPOSE: Final = b"churn receipts, format 1"


class ReceiptTamperedError(ChurnError):
    """A stored receipt is not what was written."""

    error = "receipt_tampered"
    http_status = 409


class ReceiptRow(NamedTuple):
    """A receipt as it is stored.

    Parameters
    ----------
    prediction_id, answered_at, customer_id, bundle_digest
        The columns that rows are searched by; ``answered_at`` is ISO 8601 UTC.
    content
        All of the receipt (``to_content``).
    signature
        HMAC-SHA256 of the content, 64 hex digits.
    """

    prediction_id: str
    answered_at: str
    customer_id: str
    bundle_digest: str
    content: str
    signature: str


def signing_key(settings: Settings) -> bytes:
    """Return the derived key that signs receipts, so that other uses of the secret give other codes."""
    return hmac.digest(settings.receipts.signing_key.get_secret_value().encode(), _PURPOSE, "sha256")


def sign_receipt(receipt: Receipt | Draft, key: bytes) -> ReceiptRow:
    """Return the receipt's signed row.

    Raises
    ------
    ValueError, TypeError
        As ``Draft.content`` and ``draft_of``; ValueError for an unusable id.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from bentos.receipts.receipt import Receipt
    >>> from bentos.receipts.signing import sign_receipt, verify_row
    >>> receipt = Receipt(
    ...     prediction_id="01a2", answered_at=datetime(2026, 1, 31, tzinfo=UTC), kind="predict", customer_id="C-1",
    ...     bundle_digest="ab" * 32, model_version="example", feature_service="churn_core_v1", contract_hash="cd" * 32,
    ...     values=(1, "DSL", None), views=(("customer_billing", None, "unknown"),), probability=0.62, label="churn",
    ...     threshold=0.164, expected_profit_usd=30.0, lever=None, reasons=None, quality="full",
    ... )
    >>> row = sign_receipt(receipt, key=b"secret")
    >>> verify_row(row, "01a2", key=b"secret") == receipt
    True
    >>> verify_row(row._replace(content=row.content.replace("0.62", "0.12")), "01a2", key=b"secret")
    Traceback (most recent call last):
        ...
    bentos.receipts.signing.ReceiptTamperedError: ...
    """
    draft = draft_of(receipt) if isinstance(receipt, Receipt) else receipt
    shared = draft.shared
    # The content is ASCII whatever it holds; these have columns of their own, where they are stored as they are.
    if not (
        draft.prediction_id.isprintable() and draft.customer_id.isprintable() and shared.bundle_digest.isprintable()
    ):
        raise ValueError("an id with a character that not every database takes")
    content = draft.content()
    return ReceiptRow(
        draft.prediction_id,
        draft.answered_at,
        draft.customer_id,
        shared.bundle_digest,
        content,
        _signature(content, key),
    )


def verify_row(row: ReceiptRow, prediction_id: str, key: bytes) -> Receipt:
    """Return the receipt of a row that was found under ``prediction_id``.

    Raises
    ------
    ReceiptTamperedError
        If the signature does not fit the content, or the content is of another id or of other columns.
    """
    genuine = isinstance(row.content, str) and isinstance(row.signature, str)
    if not genuine or not hmac.compare_digest(_signature(row.content, key).encode(), row.signature.encode()):
        raise ReceiptTamperedError(
            "the receipt's signature does not fit: it was changed after it was written, or receipts.signing_key was",
            "compare it with a backup; keep CHURN_RECEIPTS__SIGNING_KEY as it was when the receipt was written",
        )
    try:
        receipt = from_content(row.content)
        columns = (
            receipt.prediction_id,
            format_instant(receipt.answered_at),
            receipt.customer_id,
            receipt.bundle_digest,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise ReceiptTamperedError(
            f"the receipt is signed, but not of a form that this version reads ({type(broken).__name__})",
            "read it with the version that wrote it",
        ) from broken
    if columns != tuple(row[: len(columns)]) or receipt.prediction_id != prediction_id:
        raise ReceiptTamperedError(
            "the receipt stands in another's place, or what it is found by was changed", "compare it with a backup"
        )
    return receipt


def _signature(content: str, key: bytes) -> str:
    return hmac.digest(key, content.encode(), "sha256").hex()
