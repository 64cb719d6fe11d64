"""What-if predictions: features read once, scored before and after, explained once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from bentos.decisions.counterfactuals import NOTE, changed, checked, differences
from bentos.decisions.economics import expected_profit_usd
from bentos.prediction.errors import InternalError
from bentos.prediction.model import Model
from bentos.prediction.prediction import Answered, quality_body, reason_bodies
from bentos.prediction.predictor import refusal, scored
from configs.errors import ChurnError
from feature_repo.stores.vectors import encode

if TYPE_CHECKING:
    from bentos.decisions.levers import Value
    from feature_repo.stores.online_features import OnlineRow


@dataclass(frozen=True)
class Supposed:
    """A what-if's two scores: ``own`` in [0, 1] of the customer in ``row``, and that with the changes.

    ``after`` carries the prediction id of the receipt; reasons and levers belong to it only.
    """

    model: Model
    row: OnlineRow
    own: float
    after: Answered

    def body(self) -> dict[str, Any]:
        """Return the body of :class:`bentos.churn.api.schemas.WhatIfAnswer`."""
        service, row = self.model.said.service, self.row
        actionable = self.model.levers.actionable(row.values)
        return {
            "customer_id": self.after.customer_id,
            "prediction_id": self.after.prediction_id,
            "threshold": self.after.said.threshold,
            "before": _score(self.model, self.own),
            "after": _score(self.model, self.after.probability),
            "changes": [
                {"feature": each.feature, "before": each.before, "after": each.after, "derived": each.derived}
                for each in differences(service, row.values, self.after.row.values)
            ],
            "reasons": reason_bodies(self.after.reasons),
            "reasons_error": self.after.reasons_error,
            "actionable": [
                {
                    "feature": each.feature,
                    "column": each.column,
                    "value": each.value,
                    "allowed": each.allowed,
                    "minimum": each.minimum,
                    "maximum": each.maximum,
                    "step": each.step,
                }
                for each in actionable
            ],
            "note": NOTE,
            "model_version": self.after.model_version,
            **quality_body(row),
        }


def suppose(model: Model, customer_id: str, asked: Mapping[str, Value], now: datetime, *, reasons_max: int) -> Supposed:
    """Return a customer's score as it is and with changes; without changes the two are the same.

    Raises
    ------
    ChurnError
        CustomerUnknownError, CustomerWithdrawnError, FeaturesExpiredError or FeaturesMissingError as for a prediction,
        FeaturesInvalidError, StoreUnavailableError; WhatIfRefusedError for changes that are not possible.
    """
    block = model.features.read_block([customer_id], now)
    (row,) = block.rows
    if row.status != "present":
        raise refusal(row)
    changes = checked(model.levers, row.values, asked) if asked else {}
    values = changed(model.said.service, row.values, changes)
    features = model.features.features
    supposed = encode(features, {each.name: [value] for each, value in zip(features, values, strict=True)})
    (own,) = model.bundle.score_vectors(block.vectors).tolist()
    if not isfinite(own):
        raise InternalError
    (after,) = scored(model, [replace(row, values=values)], supposed, now, reasons_max=reasons_max)
    if isinstance(after, ChurnError):
        raise after
    return Supposed(model, row, own, after)


def _score(model: Model, probability: float) -> dict[str, Any]:
    return {
        "probability": probability,
        "label": "churn" if probability >= model.said.threshold else "stay",
        "expected_profit_usd": expected_profit_usd(probability, model.economics),
    }
