"""The models of requests and answers: an answer that is no probability is never sent."""

import re
import sys
import unicodedata
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from bentos.churn.api.request_body import validate_body
from bentos.churn.api.schemas import Answer, BatchRequest, CustomerId, PredictRequest, ReasonBody
from bentos.churn.errors import RequestInvalidError
from feature_repo.contract import CUSTOMER_PATTERN

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


@pytest.mark.slow
def test_an_id_s_letters_are_those_that_the_gate_lets_in():
    takes = TypeAdapter(CustomerId).validator.isinstance_python
    gate = re.compile(CUSTOMER_PATTERN)
    # Of characters that Python's own table does not know yet, another table may know more.
    known = [each for each in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(each) not in {"Cn", "Cs"}]
    assert len(known) > 200_000
    for front in ("", "a"):
        assert [each for each in known if takes(front + each) != bool(gate.fullmatch(front + each))] == []


@pytest.mark.parametrize(
    ("customer_id", "taken"),
    [
        ("7590-VHVEG", True),
        ("ключ_7.b", True),
        ("顧客", True),
        ("x²", True),
        ("_", True),
        ("é" * 64, True),
        ("é" * 65, False),
        ("e\N{COMBINING ACUTE ACCENT}", False),
        ("a\N{ZERO WIDTH JOINER}b", False),
        ("a\N{UNDERTIE}b", False),
        ("-a", False),
        ("a b", False),
        ("a\n", False),
        ("", False),
    ],
)
def test_what_an_id_looks_like(customer_id, taken):
    if taken:
        assert validate_body({"customer_id": customer_id}, PredictRequest).customer_id == customer_id
    else:
        with pytest.raises(RequestInvalidError, match="customer_id: String should match pattern"):
            validate_body({"customer_id": customer_id}, PredictRequest)


def test_the_pattern_of_the_document_takes_each_id_that_is_taken_and_is_one_for_every_language():
    shown = PredictRequest.model_json_schema()["properties"]["customer_id"]["pattern"]
    assert shown == BatchRequest.model_json_schema()["properties"]["customer_ids"]["items"]["pattern"]
    # No class that only some languages have, or that means ASCII to one and every script to another.
    assert not re.search(r"\\[^x\[]", shown)
    takes = TypeAdapter(CustomerId).validator.isinstance_python
    # In ASCII the two are the same, but for a line's end behind it, which Python's $ does not see.
    for front in ("", "a", "é"):
        for each in map(chr, range(128)):
            assert takes(front + each) == bool(re.fullmatch(shown.removesuffix("$"), front + each)), (front, each)
    for each in ("ключ_7.b", "顧客", "x²", "é" * 64):
        assert re.search(shown, each)
        assert takes(each)
    assert not re.search(shown, "é" * 65)
