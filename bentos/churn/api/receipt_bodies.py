"""JSON bodies of a receipt and its replay. Pure.

For `GET /predictions/{id}` and `churn replay --json`.
"""

from __future__ import annotations

from collections.abc import Sequence

from bentos.churn.api.schemas import PredictionAnswer, ReceiptBody, ReceiptReason, ReplayBody, ViewBody
from bentos.receipts import Receipt, ReplayResult


def prediction_body(receipt: Receipt, replayed: ReplayResult) -> PredictionAnswer:
    """Return a verified receipt with the result of its replay."""
    return PredictionAnswer(
        receipt=receipt_body(receipt, replayed.features),
        replay=ReplayBody(probability=replayed.probability, difference=replayed.difference, agrees=replayed.agrees),
    )


def receipt_body(receipt: Receipt, features: Sequence[str]) -> ReceiptBody:
    """Return the receipt; ``features`` are the names of its values, in the order of its bundle."""
    return ReceiptBody(
        prediction_id=receipt.prediction_id,
        answered_at=receipt.answered_at,
        kind=receipt.kind,
        customer_id=receipt.customer_id,
        bundle_digest=receipt.bundle_digest,
        model_version=receipt.model_version,
        feature_service=receipt.feature_service,
        contract_hash=receipt.contract_hash,
        features=dict(zip(features, receipt.values, strict=True)),
        views=[ViewBody(view=view, event_timestamp=at, status=status) for view, at, status in receipt.views],
        probability=receipt.probability,
        label=receipt.label,
        threshold=receipt.threshold,
        expected_profit_usd=receipt.expected_profit_usd,
        lever=receipt.lever,
        reasons=None
        if receipt.reasons is None
        else [ReceiptReason(code=code, contribution=contribution) for code, contribution in receipt.reasons],
        score_quality=receipt.quality,
    )
