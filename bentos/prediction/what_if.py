"""What-if predictions: features read once, scored before and after, explained once.

Used by the service's what-if route; changes nothing that is stored. See docs/decisions/0028-levers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.decisions.counterfactuals import WHAT_IF_NOTE, apply_changes, check_changes, differences, lever_candidates
from bentos.decisions.economics import expected_profit_usd
from bentos.prediction.errors import InternalError
from bentos.prediction.model import ServingModel
from bentos.prediction.prediction import Prediction, lever_body, quality_body, reason_bodies
from bentos.prediction.predictor import predict_rows, refusal
from configs.errors import ChurnError
from feature_repo.stores.vectors import encode_features

if TYPE_CHECKING:
    from bentos.decisions.counterfactuals import Recommendation
    from bentos.decisions.levers import Value
    from feature_repo.stores.online_features import OnlineRow


@dataclass(frozen=True)
class WhatIfPrediction:
    """The two scores of a what-if.

    Parameters
    ----------
    model
        The serving model.
    row
        The customer's features, as read.
    before
        The score in (0, 1) of the customer as they are.
    after
        The prediction with the changes: its id is that of the receipt; reasons and levers belong to it only.
    """

    model: ServingModel
    row: OnlineRow
    before: float
    after: Prediction

    def body(self) -> dict[str, Any]:
        """Return the body of :class:`bentos.churn.api.schemas.WhatIfAnswer`."""
        service, row = self.model.info.service, self.row
        actionable = self.model.levers.actionable(row.values)
        return {
            "customer_id": self.after.customer_id,
            "prediction_id": self.after.prediction_id,
            "threshold": self.after.model.threshold,
            "before": _score(self.model, self.before),
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
            "offers": [{**lever_body(each), "expected_fall": each.worth(self.before)} for each in self._offers()],
            "note": WHAT_IF_NOTE,
            "model_version": self.after.model_version,
            **quality_body(row),
        }

    def _offers(self) -> list[Recommendation]:
        """Return every offer that fits the customer as they are, the one of the greatest expected fall first."""
        features, values = self.model.features.features, self.row.values
        vectors = encode_features(features, {each.name: [value] for each, value in zip(features, values, strict=True)})
        tried = lever_candidates(self.model.levers, [values], vectors)
        if not len(tried.vectors):
            return []
        (offers,) = tried.ranked(np.array([self.before]), self.model.bundle.score_vectors(tried.vectors))
        return offers


def predict_what_if(
    model: ServingModel, customer_id: str, changes: Mapping[str, Value], now: datetime, *, reasons_max: int
) -> WhatIfPrediction:
    """Return a customer's score as it is and with changes; without changes the two are the same.

    Parameters
    ----------
    model
        The serving model.
    customer_id
        Id of the customer.
    changes
        Name of a feature, or of its column in the extract -> new value.
    now
        The instant of the prediction, tz-aware UTC.
    reasons_max
        Most reasons of the score with the changes.

    Raises
    ------
    ChurnError
        CustomerUnknownError, CustomerWithdrawnError, FeaturesExpiredError or FeaturesMissingError as for a prediction,
        FeaturesInvalidError, StoreUnavailableError; WhatIfRefusedError for changes that are not possible.
    """
    block = model.features.read_batch([customer_id], now)
    (row,) = block.rows
    if row.status != "present":
        raise refusal(row)
    changes = check_changes(model.levers, row.values, changes) if changes else {}
    values = apply_changes(model.info.service, row.values, changes)
    features = model.features.features
    supposed = encode_features(features, {each.name: [value] for each, value in zip(features, values, strict=True)})
    (own,) = model.bundle.score_vectors(block.vectors).tolist()
    if not isfinite(own):
        raise InternalError
    (after,) = predict_rows(model, [row._replace(values=values)], supposed, now, reasons_max=reasons_max)
    if isinstance(after, ChurnError):
        raise after
    return WhatIfPrediction(model, row, own, after)


def _score(model: ServingModel, probability: float) -> dict[str, Any]:
    return {
        "probability": probability,
        "label": "churn" if probability >= model.info.threshold else "stay",
        "expected_profit_usd": expected_profit_usd(probability, model.economics),
    }
