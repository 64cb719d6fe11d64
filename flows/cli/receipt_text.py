"""Replay of a prediction from its receipt, as text. Needs the home (and database), no service.

See docs/decisions/0026-receipts.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from bentos.receipts import Receipt, Replayer, ReplayResult, find_receipt
from configs.settings import Settings


def replay_prediction(settings: Settings, prediction_id: str) -> tuple[Receipt, ReplayResult]:
    """Find and verify a prediction's receipt, and score its values again with the bundle of that time.

    Raises
    ------
    ReceiptUnknownError, ReceiptTamperedError, ReceiptStoreError
        If the receipt does not exist or was changed, or the database can't be reached.
    ReceiptBundleError
        If the bundle is missing, was changed, or has another contract than this code.
    """
    receipt = find_receipt(settings, prediction_id)
    return receipt, Replayer(settings).replay(receipt)


def format_receipt(receipt: Receipt, replayed: ReplayResult) -> Iterator[str]:
    """Yield the lines for the operator: the prediction, its inputs, and the result of the replay."""
    what = "answered" if receipt.kind == "predict" else "asked what if, answered"
    yield f"{what} {receipt.answered_at:%Y-%m-%d %H:%M:%S.%f} UTC for customer {receipt.customer_id}"
    yield f"model {receipt.model_version} (bundle {receipt.bundle_digest[:12]}), {receipt.feature_service}"
    lever = f", lever {receipt.lever}" if receipt.lever else ""
    yield (
        f"probability {receipt.probability!r}: {receipt.label} (threshold {receipt.threshold:.4f}), worth "
        f"{receipt.expected_profit_usd:.2f} USD if contacted{lever}; quality {receipt.quality}"
    )
    yield f"reasons: {_spelt(receipt.reasons)}"
    for view, at, status in receipt.views:
        yield f"  view {view}: {status}" + ("" if at is None else f", as of {at:%Y-%m-%d %H:%M:%S} UTC")
    for name, value in zip(replayed.features, receipt.values, strict=True):
        yield f"  {name} = {'null' if value is None else value}"
    yield f"replayed: probability {replayed.probability!r}, difference {replayed.difference:.1e}"
    if not replayed.same_label:
        yield f"replayed: label {replayed.label}"
    if not replayed.same_reasons:
        yield f"replayed: reasons {_spelt(replayed.reasons)}"
    yield "agrees" if replayed.agrees else "DOES NOT AGREE: this code scores otherwise than the code that answered"


def _spelt(reasons: tuple[tuple[str, float], ...] | None) -> str:
    if reasons is None:
        return "none, the explanation failed"
    return ", ".join(f"{code} {contribution:+.4f}" for code, contribution in reasons) or "none"
