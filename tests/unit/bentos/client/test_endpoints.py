"""What is asked, and how answers are read: leniently, and never with a value in an error."""

import json
import random

import pytest

from bentos.churn.api.schemas import Answer, BatchAnswer, RefusedCustomer
from bentos.client.endpoints import Endpoints, parse_reply
from bentos.client.errors import RequestRefusedError, UnexpectedAnswerError
from bentos.client.retries import Patience, Reply
from tests.support.loopback_server import Moment, an_answer

CANARY = "CANARY-7Q4Z"
CALLS = Endpoints(Patience(), 2, Moment().clock, random.Random(7))


def play(steps, *replies):
    """Answer each request with the next reply; return the result and the requests."""
    asked, outcome, given = [], None, iter(replies)
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return done.value, asked
        asked.append(step.request)
        outcome = next(given)


def ok(body):
    return Reply(200, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def refused_entry(customer_id):
    return {"customer_id": customer_id, "error": {"error": "customer_unknown", "message": "m", "hint": "h"}}


def entry(customer_id):
    return json.loads(an_answer(customer_id).model_dump_json())


def test_one_customer():
    found, (request,) = play(CALLS.predict("7590-VHVEG"), ok(entry("7590-VHVEG")))
    assert found == an_answer()
    assert (request.path, json.loads(request.content)) == ("/predict", {"customer_id": "7590-VHVEG"})


def test_fields_that_are_not_known_yet_are_left_out_wherever_they_are():
    newer = entry("a") | {"uplift": {"deep": [1]}}
    newer["reasons"][0]["since"] = "2027-01-01"
    assert parse_reply(ok(newer), Answer) == an_answer("a")
    batch = parse_reply(ok({"results": [newer, refused_entry("b") | {"more": 1}], "next": None}), BatchAnswer)
    assert [type(each) for each in batch.results] == [Answer, RefusedCustomer]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "body: Invalid JSON"),
        (b"", "body: Invalid JSON"),
        (b"[1]", "body: "),
        ({"customer_id": CANARY}, "Field required"),
        (entry("a") | {"probability": CANARY}, "probability: Input should be a valid number"),
        (entry("a") | {"label": CANARY}, "label: Input should be"),
    ],
)
def test_an_answer_that_can_t_be_read_is_named_by_place_and_rule(body, says):
    with pytest.raises(UnexpectedAnswerError) as caught:
        parse_reply(ok(body), Answer)
    assert says in caught.value.message
    assert CANARY not in str(caught.value)
    assert (caught.value.error, caught.value.status) == ("answer_unreadable", 200)


def test_many_customers_are_asked_for_in_batches_and_keep_their_order():
    ids = ["a", "nobody", "b", "a", "c"]
    found, asked = play(
        CALLS.predict_many(ids),
        ok({"results": [entry("a"), refused_entry("nobody")]}),
        ok({"results": [entry("b"), entry("a")]}),
        ok({"results": [entry("c")]}),
    )
    assert [each.customer_id for each in found] == ids
    assert [json.loads(request.content)["customer_ids"] for request in asked] == [["a", "nobody"], ["b", "a"], ["c"]]
    assert isinstance(found[1], RefusedCustomer)
    assert found[1].error.error == "customer_unknown"


def test_nobody_is_asked_for_with_no_request():
    assert play(CALLS.predict_many([])) == ([], [])


def test_one_id_instead_of_a_list_is_a_mistake():
    with pytest.raises(TypeError, match="give a list"):
        play(CALLS.predict_many("7590-VHVEG"))


@pytest.mark.parametrize("results", [[entry("a")], [entry("b"), entry("a")], []])
def test_a_batch_about_others_is_refused(results):
    with pytest.raises(UnexpectedAnswerError, match="not about the customers"):
        play(CALLS.predict_many(["a", "b"]), ok({"results": results}))


@pytest.mark.parametrize("name", ["", "..", "../metrics", CANARY, "01a204b1", "01a204b1-6022-79d9-a58e-4cb07ee36e7g"])
def test_what_is_no_prediction_id_never_becomes_a_path(name):
    with pytest.raises(RequestRefusedError) as caught:
        CALLS.prediction(name)
    assert CANARY not in str(caught.value)


def test_no_number_can_be_sent_that_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        play(CALLS.what_if("a", {"monthly_charges_usd": float("nan")}))
