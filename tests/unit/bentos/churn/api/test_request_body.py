"""Strict bodies: what is refused, and that no refusal repeats what was sent."""

import pytest
from pydantic import ValidationError

from bentos.churn.api.request_body import parse_body, parse_json, validate_body
from bentos.churn.api.schemas import BatchRequest, PredictRequest, WhatIfRequest
from bentos.churn.errors import MediaTypeError, RequestInvalidError

ID = "7590-VHVEG"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"customer_id=7590-VHVEG", "no JSON"),
        (b'{"customer_id": "7590-VHVEG",}', "no JSON"),
        (b'{"customer_id": NaN}', "NaN and Infinity"),
        (b'{"customer_id": Infinity}', "NaN and Infinity"),
        (b'{"customer_id": -Infinity}', "NaN and Infinity"),
        (b'{"customer_id": 1e999}', "out of range"),
        (b'{"customer_id": -1e999}', "out of range"),
        (b'{"customer_id": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"customer_id": "a", "customer_id": "7590-VHVEG"}', "a key twice"),
        (b'{"x": {"7590-VHVEG": 1, "7590-VHVEG": 2}}', "a key twice"),
        (b"[" * 100_000, "too deeply"),
        (b'{"a":' * 50_000, "too deeply"),
        (b'\xff\xfe{"', "not UTF-8"),
        ('{"customer_id": "7590-VHVEG"}'.encode("utf-16"), "not UTF-8"),
        (b'{"customer_id": "7590-VHVEG"}\xef\xbb\xbf', "no JSON"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_is_no_strict_json(body, says):
    with pytest.raises(RequestInvalidError) as refused:
        parse_json(body)
    assert says in refused.value.message
    assert ID not in str(refused.value.body())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "customer_id: Field required"),
        ([], "body: Input should be a valid dictionary"),
        ("7590-VHVEG", "body: Input should be a valid dictionary"),
        ({"customer_id": 7590}, "customer_id: Input should be a valid string"),
        ({"customer_id": None}, "customer_id: Input should be a valid string"),
        ({"customer_id": ["7590-VHVEG"]}, "customer_id: Input should be a valid string"),
        ({"customer_id": ""}, "customer_id: String should match"),
        ({"customer_id": "7590-VHVEG "}, "customer_id: String should match"),
        ({"customer_id": "7590-VHVEG\n"}, "customer_id: String should match"),
        ({"customer_id": "-7590-VHVEG"}, "customer_id: String should match"),
        ({"customer_id": "../7590-VHVEG"}, "customer_id: String should match"),
        ({"customer_id": "7590-VHVEG' OR 1=1"}, "customer_id: String should match"),
        ({"customer_id": "a" * 65}, "customer_id: String should match"),
        ({"customer_id": "€7590-VHVEG"}, "customer_id: String should match"),
        ({"customer_id": "NaN", "7590-VHVEG": 1}, "a field that is none of: customer_id"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_is_no_predict_request(value, says):
    with pytest.raises(RequestInvalidError) as refused:
        validate_body(value, PredictRequest)
    assert says in refused.value.message
    assert ID not in str(refused.value.body())


@pytest.mark.parametrize("customer_id", ["7590-VHVEG", "a", "0", "A.b_c-9", "a" * 64, "NaN"])
def test_what_an_id_may_be(customer_id):
    assert (
        validate_body(parse_json(f'{{"customer_id": "{customer_id}"}}'.encode()), PredictRequest).customer_id
        == customer_id
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"customer_ids": []}, "at least 1 item"),
        ({"customer_ids": "7590-VHVEG"}, "valid list"),
        ({"customer_ids": ["a", "7590-VHVEG", "b b"]}, "customer_ids.2: String should match"),
        ({"customer_ids": ["!7590-VHVEG"] * 9}, "customer_ids.0: String should match"),
        ({"customer_ids": [1] * 9}, "customer_ids.0: Input should be a valid string"),
        ({"customer_ids": [{"7590-VHVEG": 1}]}, "customer_ids.0: Input should be a valid string"),
    ],
)
def test_what_is_no_batch_request(value, says):
    with pytest.raises(RequestInvalidError) as refused:
        validate_body(value, BatchRequest)
    assert says in refused.value.message
    assert ID not in str(refused.value.body())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"7590-VHVEG": None}, "changes: Input should be"),
        ({"7590-VHVEG": {"7590-VHVEG": 1}}, "changes: Input should be"),
        ({"Contract": ["7590-VHVEG"]}, "changes: Input should be"),
        ({"7590-VHVEG" * 7: 1}, "changes: String should have at most 64"),
        ({f"7590-VHVEG{number}": None for number in range(21)}, "at most 20 items"),
        (["7590-VHVEG"], "changes: Input should be a valid dictionary"),
        ({"customer_id": {"changes": None}, "changes": None}, "changes: Input should be"),
    ],
)
def test_what_is_no_change_is_not_repeated(changes, says):
    with pytest.raises(RequestInvalidError) as refused:
        validate_body({"customer_id": "a", "changes": changes}, WhatIfRequest)
    assert says in refused.value.message
    assert ID not in str(refused.value.body())


@pytest.mark.parametrize(
    ("value", "model"),
    [
        ({"customer_ids": ["!"] * 10_000}, BatchRequest),
        ({"customer_ids": [None] * 10_000}, BatchRequest),
        ({f"x{number}": 1 for number in range(10_000)}, BatchRequest),
        ({"customer_id": "a", "changes": {f"x{number}": None for number in range(10_000)}}, WhatIfRequest),
        ({"customer_id": "a", "changes": {f"x{number}": None for number in range(20)}}, WhatIfRequest),
        ([None] * 10_000, PredictRequest),
    ],
)
def test_broken_rules_are_not_collected(value, model):
    """What costs is each of them, not the text: they are counted where pydantic makes them."""
    counted = []

    class Counted(model):
        @classmethod
        def model_validate(cls, found):
            try:
                return model.model_validate(found)
            except ValidationError as broken:
                counted.append(broken.error_count())
                raise

    with pytest.raises(RequestInvalidError) as refused:
        validate_body(value, Counted)
    assert sum(counted) <= 80
    assert len(refused.value.message) < 400


@pytest.mark.parametrize("parameters", ["; " * 15_000, ";a=b" * 8_000, '; x="' + '\\"' * 15_000])
def test_a_content_type_that_takes_long_to_read_is_none(parameters):
    with pytest.raises(MediaTypeError):
        parse_body("application/json" + parameters, b'{"customer_id": "a"}', PredictRequest)


def test_a_batch_keeps_order_and_duplicates():
    assert validate_body({"customer_ids": ["b", "a", "b"]}, BatchRequest).customer_ids == ["b", "a", "b"]
