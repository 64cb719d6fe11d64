"""A prediction before it is JSON, as the service, trials and receipts read it. Pure.

See docs/decisions/0024-answered-together.md and docs/decisions/0026-receipts.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from bentos.decisions.counterfactuals import Recommendation
    from bentos.decisions.reason_codes import Reason
    from bentos.receipts import Draft, Receipt, Shared
    from feature_repo.stores.online_features import OnlineRow

Label = Literal["churn", "stay"]
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_CHANCE_BYTES: Final = 10
_SHARED_MAX: Final = 64
"""Kinds of receipts kept encoded: customers of one delivery have the same views, and models are few."""
REASONS_FAILED: Final = "the explanation failed; the probability is not affected"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The fields that all predictions of one model share.

    Parameters
    ----------
    bundle_digest
        sha256 (hex) of the bundle's manifest.
    model_version
        The model's name.
    service, contract_hash
        The feature service that it reads, and the hash of its contract.
    threshold
        Probability from which a customer is labelled churn, in [0, 1].
    """

    bundle_digest: str
    model_version: str
    service: str
    contract_hash: str
    threshold: float


class Prediction(NamedTuple):
    """One customer's prediction.

    Parameters
    ----------
    prediction_id
        UUID version 7; names the receipt.
    answered_at
        Instant of the prediction, UTC.
    model
        What all predictions of the model share.
    row
        The features that were read.
    probability
        Calibrated probability of churn, in (0, 1).
    label
        *churn* from the model's threshold on, else *stay*.
    expected_profit_usd
        Mean profit of contacting the customer, USD.
    recommended
        The lever worth most, None where contacting or no lever pays.
    reasons
        The reasons, None where the explanation failed.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from bentos.prediction.prediction import ModelInfo, Prediction
    >>> from feature_repo.stores.online_features import OnlineRow
    >>> at = datetime(2026, 1, 31, tzinfo=UTC)
    >>> model = ModelInfo("ab" * 32, "example", "churn_core_v1", "cd" * 32, 0.164)
    >>> row = OnlineRow("7590-VHVEG", (), "present", at)
    >>> prediction = Prediction("01a2-...", at, model, row, 0.62, "churn", 30.0, None, reasons=None)
    >>> prediction.body()["reasons_error"]
    'the explanation failed; the probability is not affected'
    """

    prediction_id: str
    answered_at: datetime
    model: ModelInfo
    row: OnlineRow
    probability: float
    label: Label
    expected_profit_usd: float
    recommended: Recommendation | None
    reasons: tuple[Reason, ...] | None

    @property
    def customer_id(self) -> str:
        """Id of the customer."""
        return self.row.customer_id

    @property
    def model_version(self) -> str:
        """Version of the model that predicted."""
        return self.model.model_version

    @property
    def reasons_error(self) -> str | None:
        """Why there are no reasons, None if there are."""
        return REASONS_FAILED if self.reasons is None else None

    def with_id(self, prediction_id: str) -> Prediction:
        """Return a copy with another id, for a customer that is requested again."""
        return self._replace(prediction_id=prediction_id)

    def body(self) -> dict[str, Any]:
        """Return the body of the schema Answer as a dict: a pydantic model would be made only to be dumped."""
        return {
            "customer_id": self.row.customer_id,
            "prediction_id": self.prediction_id,
            "probability": self.probability,
            "label": self.label,
            "threshold": self.model.threshold,
            "expected_profit_usd": self.expected_profit_usd,
            "lever": None if self.recommended is None else lever_body(self.recommended),
            "reasons": reason_bodies(self.reasons),
            "reasons_error": self.reasons_error,
            "model_version": self.model_version,
            **quality_body(self.row),
        }

    def receipt(self, kind: Literal["predict", "what_if"] = "predict") -> Receipt:
        """Return the receipt of the prediction."""
        from bentos.receipts import Receipt

        reasons = self.reasons
        return Receipt(
            prediction_id=self.prediction_id,
            answered_at=self.answered_at,
            kind=kind,
            customer_id=self.row.customer_id,
            bundle_digest=self.model.bundle_digest,
            model_version=self.model_version,
            feature_service=self.model.service,
            contract_hash=self.model.contract_hash,
            values=self.row.values,
            views=tuple((view.view, view.event_timestamp, view.status) for view in self.row.views),
            probability=self.probability,
            label=self.label,
            threshold=self.model.threshold,
            expected_profit_usd=self.expected_profit_usd,
            lever=None if self.recommended is None else self.recommended.lever.name,
            reasons=None if reasons is None else tuple((each.code, each.contribution) for each in reasons),
            quality=self.row.quality,
        )


class Drafts:
    """Makes the drafts of receipts of predictions; those of the same model and views share what is the same.

    ``kind`` is that of the receipts. Keeps what it has encoded, a bounded number. For one thread at a time, or several:
    at worst two encode the same.
    """

    def __init__(self, kind: Literal["predict", "what_if"] = "predict") -> None:
        self._kind = kind
        self._known: dict[tuple[int, int], tuple[Shared, ModelInfo, object]] = {}

    def of(self, answer: Prediction) -> Draft:
        """Return the draft of a prediction's receipt. Raises ValueError where ``Shared`` does."""
        from bentos.receipts import Draft
        from bentos.receipts.receipt import parse_instant

        row, reasons, recommended = answer.row, answer.reasons, answer.recommended
        # By identity: hashing the views of each customer would cost more than the rest.
        key = id(answer.model), id(row.views)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _SHARED_MAX:
                self._known.clear()
            # With the objects themselves: an identity is only that of a living one.
            known = self._known[key] = self._encoded(answer), answer.model, row.views
        return Draft(
            known[0],
            answer.prediction_id,
            parse_instant(answer.answered_at),
            row.customer_id,
            row.values,
            answer.probability,
            answer.label,
            answer.expected_profit_usd,
            None if recommended is None else recommended.lever.name,
            None if reasons is None else tuple([(each.code, each.contribution) for each in reasons]),
            row.quality,
        )

    def _encoded(self, answer: Prediction) -> Shared:
        from bentos.receipts import Shared

        said = answer.model
        return Shared(
            self._kind,
            said.bundle_digest,
            said.model_version,
            said.service,
            said.contract_hash,
            said.threshold,
            tuple((view.view, view.event_timestamp, view.status) for view in answer.row.views),
        )


def quality_body(row: OnlineRow) -> dict[str, Any]:
    """Return the fields of an answer on the quality of its data."""
    return {
        "features_as_of": row.as_of,
        "stale": row.stale,
        "missing": row.absent,
        "score_quality": row.quality,
    }


def reason_bodies(reasons: Sequence[Reason] | None) -> list[dict[str, Any]] | None:
    """Return the bodies of the reasons, as of :class:`bentos.churn.api.schemas.ReasonBody`."""
    if reasons is None:
        return None
    return [
        {
            "code": each.code,
            "text": each.text,
            "direction": each.direction,
            "contribution": each.contribution,
            "value": each.value,
            "actionable": each.actionable,
        }
        for each in reasons
    ]


def lever_body(recommended: Recommendation) -> dict[str, Any]:
    """Return the body of an offer, as of :class:`bentos.churn.api.schemas.LeverBody`."""
    lever = recommended.lever
    return {
        "lever": lever.name,
        "code": lever.code,
        "text": lever.text,
        "changes": lever.changes,
        "probability": recommended.score,
        "accept_share": lever.accept_share,
    }


def prediction_ids(now: datetime, count: int) -> list[str]:
    """Return ``count`` UUIDs version 7 (RFC 9562): milliseconds since 1970, then 74 random bits.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from uuid import UUID
    >>> from bentos.prediction.prediction import prediction_ids
    >>> first, second = prediction_ids(datetime(2026, 1, 31, tzinfo=UTC), 2)
    >>> UUID(first).version, first[:13] == second[:13]
    (7, True)
    """
    # Encoded here, all at once: the library's UUID, and a system call for each, take as long as an answer's texts.
    chances = secrets.token_hex(_CHANCE_BYTES * count)
    milliseconds = f"{int(now.timestamp() * 1000):012x}"
    front = f"{milliseconds[:8]}-{milliseconds[8:]}-7"
    return [
        f"{front}{chance[:3]}-{_VARIANT[chance[3]]}{chance[4:7]}-{chance[7:19]}"
        for chance in (
            chances[place : place + 2 * _CHANCE_BYTES] for place in range(0, len(chances), 2 * _CHANCE_BYTES)
        )
    ]
