"""The models of requests and answers: an answer that is no probability is never sent."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from bentos.churn.schema import Answer, ReasonBody

ANSWER = {
    "customer_id": "7590-VHVEG",
    "prediction_id": "0197-x",
    "probability": 0.25,
    "label": "stay",
    "threshold": 0.5,
    "expected_profit_usd": 5.75,
    "lever": None,
    "reasons": None,
    "reasons_error": "why",
    "model_version": "1",
    "features_as_of": datetime(2026, 1, 1, tzinfo=UTC),
    "stale": [],
    "missing": [],
    "score_quality": "full",
}


def test_instants_are_written_as_iso_utc():
    assert '"features_as_of":"2026-01-01T00:00:00Z"' in Answer(**ANSWER).model_dump_json()


@pytest.mark.parametrize("probability", [float("nan"), float("inf"), -0.01, 1.01])
def test_no_answer_without_a_probability(probability):
    with pytest.raises(ValidationError):
        Answer(**ANSWER | {"probability": probability})


@pytest.mark.parametrize(
    ("value", "written"), [(True, "true"), (1, "1"), (29.85, "29.85"), ("DSL", '"DSL"'), (None, "null")]
)
def test_a_reason_keeps_the_type_of_its_value(value, written):
    reason = ReasonBody(code="A", text="b", direction="raises", contribution=0.5, value=value, actionable=False)
    assert f'"value":{written},' in reason.model_dump_json()
