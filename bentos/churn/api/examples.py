"""Example answers for the OpenAPI document, from the public data set.

A test validates them against the schemas.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from bentos.churn.api.schemas import Alive, Answer, BatchAnswer, Health, PredictionAnswer, Ready, WhatIfAnswer

_REASONS: Final = [
    {
        "code": "CONTRACT",
        "text": "Monthly contract: can leave at any time",
        "direction": "raises",
        "contribution": 1.4946204223462132,
        "value": "Month-to-month",
        "actionable": True,
    },
    {
        "code": "TENURE",
        "text": "Customer for one month: the first months are the riskiest",
        "direction": "raises",
        "contribution": 1.1246694803536663,
        "value": 1,
        "actionable": False,
    },
]
_DATA: Final[dict[str, Any]] = {
    "model_version": "20261125T232341",
    "features_as_of": "2026-10-26T00:00:00Z",
    "stale": [],
    "missing": [],
    "score_quality": "full",
}
_LEVER: Final[dict[str, Any]] = {
    "lever": "ONE_YEAR_CONTRACT",
    "code": "CONTRACT",
    "text": "Offer a one-year contract at the same price",
    "changes": {"contract_type": "One year"},
    "probability": 0.13459860347521516,
    "accept_share": 0.05,
}
_ANSWER: Final = {
    "customer_id": "7590-VHVEG",
    "prediction_id": "01a21508-de88-7f69-b359-7aa772c14546",
    "probability": 0.7329994964941695,
    "label": "churn",
    "threshold": 0.16417910447761194,
    "expected_profit_usd": 38.110966265109354,
    "lever": _LEVER,
    "reasons": _REASONS,
    "reasons_error": None,
    **_DATA,
}
_UNKNOWN: Final = {
    "error": "customer_unknown",
    "message": "no features are known for this customer",
    "hint": "check the id; a new customer appears with the next snapshot",
}
_WHAT_IF: Final = {
    "customer_id": "7590-VHVEG",
    "prediction_id": "01a21508-e1e2-79c1-a2a1-c1ec30fa1f1e",
    "threshold": 0.16417910447761194,
    "before": {"probability": 0.7329994964941695, "label": "churn", "expected_profit_usd": 38.110966265109354},
    "after": {"probability": 0.13459860347521516, "label": "stay", "expected_profit_usd": -1.9818935671605846},
    "changes": [{"feature": "contract_type", "before": "Month-to-month", "after": "One year", "derived": False}],
    "reasons": [],
    "reasons_error": None,
    "actionable": [
        {
            "feature": "contract_type",
            "column": "Contract",
            "value": "Month-to-month",
            "allowed": ["Month-to-month", "One year", "Two year"],
            "minimum": None,
            "maximum": None,
            "step": None,
        }
    ],
    "offers": [{**_LEVER, "expected_fall": 0.029920044648747716}],
    "note": "This is the risk of customers who have such values already: advice from a model of risk.",
    **_DATA,
}
_PREDICTION: Final = {
    "receipt": {
        "prediction_id": "01a21509-0f7b-7f03-9d07-e4e1f0e7f047",
        "answered_at": "2026-11-25T23:27:25.051455Z",
        "kind": "predict",
        "customer_id": "7590-VHVEG",
        "bundle_digest": "edfb25f97bf038c0a86db6874cef5c4f819498b4ffc7e227bf3ec487ec4e7b53",
        "model_version": "20261125T232341",
        "feature_service": "churn_core_v1",
        "contract_hash": "13460bdb6b6e8485e51869a22e3acee47a45f930244cec6c05806ce76133a951",
        "features": {"contract_type": "Month-to-month", "tenure_months": 1},
        "views": [{"view": "customer_contract", "event_timestamp": "2026-10-26T00:00:00Z", "status": "fresh"}],
        "probability": 0.7329994964941695,
        "label": "churn",
        "threshold": 0.16417910447761194,
        "expected_profit_usd": 38.110966265109354,
        "lever": "ONE_YEAR_CONTRACT",
        "reasons": [{"code": "CONTRACT", "contribution": 1.4946204223462132}],
        "score_quality": "full",
    },
    "replay": {"probability": 0.7329994964941695, "difference": 0.0, "agrees": True},
}
EXAMPLES: Final[dict[type[BaseModel], dict[str, Any]]] = {
    Answer: _ANSWER,
    BatchAnswer: {"results": [_ANSWER, {"customer_id": "nobody", "error": _UNKNOWN}]},
    WhatIfAnswer: _WHAT_IF,
    PredictionAnswer: _PREDICTION,
    Health: {"status": "ok", "ready": True, "model_version": "20261125T232341", "error": None},
    Alive: {"status": "alive"},
    Ready: {"status": "ready", "model_version": "20261125T232341"},
}
