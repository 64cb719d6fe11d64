"""Score a receipt's values again with the bundle that answered, and compare. See docs/decisions/0026-receipts.md."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bentos.receipts.receipt import Receipt
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import features_of

if TYPE_CHECKING:
    from bentos.bundle import Bundle
    from bentos.decisions.reason_codes import ReasonDictionary

PROBABILITY_TOLERANCE: Final = 1e-9
CONTRIBUTION_TOLERANCE: Final = 1e-6
_KEPT: Final = 2


class ReceiptBundleError(ChurnError):
    """The bundle that answered is missing, was changed, or has another contract than this code."""

    error = "receipt_bundle_invalid"
    http_status = 409


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Result of a replay.

    Profit and lever are not computed again: they depend on the economics of the day, not on the model alone.

    Parameters
    ----------
    features
        Names of the receipt's values.
    probability, difference
        The probability computed again, and its absolute difference from the receipt's.
    label
        By the receipt's threshold.
    reasons
        (code, contribution in log-odds), None where the answer had none.
    same_label, same_reasons
        Whether they are those of the receipt.

    Examples
    --------
    >>> from bentos.receipts.replay import ReplayResult
    >>> ReplayResult(("partner",), 0.62, 0.0, "churn", None, same_label=True, same_reasons=True).agrees
    True
    """

    features: tuple[str, ...]
    probability: float
    difference: float
    label: Literal["churn", "stay"]
    reasons: tuple[tuple[str, float], ...] | None
    same_label: bool
    same_reasons: bool

    @property
    def agrees(self) -> bool:
        """Whether the answer was reproduced: probability, label and reasons."""
        return self.difference <= PROBABILITY_TOLERANCE and self.same_label and self.same_reasons


class Replayer:
    """Replays receipts of a home; keeps the last two bundles loaded. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._loaded = functools.lru_cache(maxsize=_KEPT)(self._load)

    def replay(self, receipt: Receipt) -> ReplayResult:
        """Score and explain the receipt's values with the bundle that it names.

        Raises
        ------
        ReceiptBundleError
            If that bundle is no longer in the home, a file of it was changed, or its contract is not this code's.
        ReasonDictionaryError
            If the bundle's reasons can't be read.
        """
        return replay_receipt(receipt, *self._loaded(receipt.bundle_digest))

    def _load(self, digest: str) -> tuple[Bundle, ReasonDictionary]:
        from bentos.bundle import Bundle, BundleError
        from bentos.bundle.manifest import bundles_folder
        from bentos.decisions.reason_codes import load_reason_codes, parse_reason_codes

        try:
            bundle = Bundle.load(bundles_folder(self._home) / digest)
        except BundleError as broken:
            raise ReceiptBundleError(
                f"the bundle that answered can't be used: {broken.message}",
                f"restore bundles/{digest[:12]}… below the home from a backup or MLflow; an answer under another "
                "contract is replayed by the version of that day",
            ) from broken
        service = bundle.manifest.service
        # As in the service: the bundle's own dictionary; a bundle without one uses that of configs/.
        return bundle, parse_reason_codes(
            bundle.reason_codes, service, stored=True
        ) if bundle.reason_codes else load_reason_codes(service)


def replay_receipt(receipt: Receipt, bundle: Bundle, dictionary: ReasonDictionary) -> ReplayResult:
    """Score and explain a receipt's values. Pure.

    Parameters
    ----------
    receipt
        The receipt.
    bundle
        The bundle that it names.
    dictionary
        The reason dictionary of that bundle.
    """
    from feature_repo.stores.vectors import encode_features

    features = features_of(receipt.feature_service)
    columns = {feature.name: [value] for feature, value in zip(features, receipt.values, strict=True)}
    explained = bundle.explain_vectors(encode_features(features, columns))
    probability = float(explained.score[0])
    leaves = probability >= receipt.threshold
    label: Literal["churn", "stay"] = "churn" if leaves else "stay"
    reasons = None
    if receipt.reasons is not None:
        # As many as were returned: their maximum is a setting, which can have changed since.
        most = len(receipt.reasons)
        again = dictionary.reasons(explained.contributions[0], receipt.values, leaves=leaves, most=most)
        reasons = tuple((reason.code, reason.contribution) for reason in again)
    return ReplayResult(
        bundle.manifest.features,
        probability,
        abs(probability - receipt.probability),
        label,
        reasons,
        same_label=label == receipt.label,
        same_reasons=_same(receipt.reasons, reasons),
    )


def _same(answered: tuple[tuple[str, float], ...] | None, again: tuple[tuple[str, float], ...] | None) -> bool:
    if answered is None or again is None:
        return answered is again
    return [code for code, _ in answered] == [code for code, _ in again] and all(
        abs(before - after) <= CONTRIBUTION_TOLERANCE for (_, before), (_, after) in zip(answered, again, strict=True)
    )
