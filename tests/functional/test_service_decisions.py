"""What-ifs and receipts over real HTTP: what would be different, and what was answered, replayed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from bentos.churn.api.schemas import PredictionAnswer, WhatIfAnswer
from bentos.receipts.sink import TABLE
from bentos.receipts.sqlite_sink import receipts_path
from feature_repo.contract import CORE_SERVICE, features_of
from feature_repo.stores.casting import to_dataframe
from feature_repo.transforms import derive
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import CANARY, EXPIRED, INCOMPLETE


def what_if(service, customer_id, **changes):
    return service.post("/predict/what-if", {"customer_id": customer_id, "changes": changes})


@pytest.fixture(scope="module")
def monthly(service):
    """The place in the world of a customer on a monthly contract who pays by check."""
    frame = service.world.frame
    wanted = (frame["contract_type"] == "Month-to-month") & (frame["payment_method"] == "Electronic check")
    return int(wanted.to_numpy().nonzero()[0][0])


def supposed(world, place, **changes):
    """The score of a customer with other values, computed without the service."""
    row = {name: world.frame[name].tolist()[place : place + 1] for name in world.frame}
    row |= {name: [value] for name, value in changes.items()}
    features = features_of(CORE_SERVICE)
    return float(world.bundle.score(to_dataframe(features, row | derive(row)))[0])


@pytest.mark.parametrize("name", ["Contract", "contract_type"])
def test_a_what_if_is_the_score_of_the_changed_customer(service, monthly, name):
    world = service.world
    answer = what_if(service, world.ids[monthly], **{name: "One year", "PaymentMethod": "Credit card (automatic)"})
    found = WhatIfAnswer.model_validate_json(answer.content)
    assert found.before.probability == pytest.approx(supposed(world, monthly), abs=1e-12)
    after = supposed(world, monthly, contract_type="One year", payment_method="Credit card (automatic)")
    assert found.after.probability == pytest.approx(after, abs=1e-12)
    told = {each.feature: (each.before, each.after, each.derived) for each in found.changes}
    assert told == {
        "contract_type": ("Month-to-month", "One year", False),
        "payment_method": ("Electronic check", "Credit card (automatic)", False),
        "automatic_payment": (False, True, True),
    }
    assert found.before.probability == service.predict(world.ids[monthly]).json()["probability"]
    assert "model of risk" in found.note


def test_without_changes_it_says_what_may_be_changed(service, monthly):
    found = WhatIfAnswer.model_validate_json(what_if(service, service.world.ids[monthly]).content)
    assert (found.changes, found.before) == ([], found.after)
    actionable = {each.feature: each for each in found.actionable}
    assert actionable["contract_type"].allowed == ["Month-to-month", "One year", "Two year"]
    assert actionable["contract_type"].value == "Month-to-month"
    assert not {"tenure_months", "partner", "gender"} & set(actionable)


def test_it_compares_the_offers_that_fit_the_customer_as_they_are(service, monthly):
    customer = service.world.ids[monthly]
    found = WhatIfAnswer.model_validate_json(what_if(service, customer, Contract="Two year").content)
    falls = [each.expected_fall for each in found.offers]
    assert falls == sorted(falls, reverse=True)
    for offer in found.offers:
        assert offer.probability == pytest.approx(supposed(service.world, monthly, **offer.changes), abs=1e-12)
        expected = offer.accept_share * (found.before.probability - offer.probability)
        assert offer.expected_fall == pytest.approx(expected, abs=1e-12)
    lever = service.predict(customer).json()["lever"]
    assert lever == found.offers[0].model_dump(exclude={"expected_fall"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tenure": 70}, "tenure months can't be changed"),
        ({"gender": "Female"}, "neither a feature of the model nor a column"),
        ({"Contract": "Ten years"}, "contract type must be"),
        ({"Contract": "Month-to-month"}, "nothing changes"),
        ({"Contract": "One year", "contract_type": "Two year"}, "is given twice"),
        ({"OnlineSecurity": "No internet service"}, "online security"),
    ],
)
def test_what_can_not_be_changed_is_refused(service, monthly, changes, says):
    refused = what_if(service, service.world.ids[monthly], **changes)
    assert (refused.status_code, refused.json()["error"]) == (422, "what_if_refused")
    assert says in refused.json()["message"]


@pytest.mark.parametrize(
    ("customer_id", "status", "error"),
    [
        ("nobody", 404, "customer_unknown"),
        (EXPIRED, 503, "features_expired"),
        (INCOMPLETE, 422, "features_missing"),
    ],
)
def test_who_gets_no_score_gets_no_what_if(service, customer_id, status, error):
    refused = what_if(service, customer_id, Contract="One year")
    assert (refused.status_code, refused.json()["error"]) == (status, error)


def receipt_of(service, prediction_id):
    """The receipt, once it is written."""
    return until(lambda: service.get(f"/predictions/{prediction_id}"), lambda answer: answer.status_code != 404)


def test_an_answer_leaves_a_receipt_that_replays(service):
    answered = service.predict(CANARY).json()
    found = PredictionAnswer.model_validate_json(receipt_of(service, answered["prediction_id"]).content)
    receipt = found.receipt
    assert (receipt.kind, receipt.customer_id) == ("predict", CANARY)
    assert receipt.probability == answered["probability"]
    assert [each.code for each in receipt.reasons] == [each["code"] for each in answered["reasons"]]
    assert receipt.bundle_digest == service.world.bundle.digest
    assert {each.view: each.status for each in receipt.views} == dict.fromkeys(
        ("customer_contract", "customer_services", "customer_billing"), "fresh"
    )
    assert found.replay.agrees
    assert found.replay.difference == 0


def test_a_thousand_answers_replay_to_the_same_number(service):
    ids = [service.world.ids[place % len(service.world.ids)] for place in range(1000)]
    results = service.post("/predict/batch", {"customer_ids": ids}).json()["results"]
    # The last one that was left is the last one to be written.
    receipt_of(service, results[-1]["prediction_id"])
    for place in (0, 1, 299, 300, 999):
        found = receipt_of(service, results[place]["prediction_id"]).json()
        assert found["receipt"]["customer_id"] == ids[place]
        assert found["replay"] == {"probability": results[place]["probability"], "difference": 0.0, "agrees": True}


def test_a_what_if_leaves_a_receipt_of_what_was_supposed(service, monthly):
    answered = what_if(service, service.world.ids[monthly], Contract="Two year").json()
    found = receipt_of(service, answered["prediction_id"]).json()
    assert found["receipt"]["kind"] == "what_if"
    assert found["receipt"]["features"]["contract_type"] == "Two year"
    assert found["receipt"]["probability"] == answered["after"]["probability"]
    assert found["replay"]["agrees"]


def test_an_unknown_receipt_says_that_it_may_come(service):
    refused = service.get("/predictions/0197e4b2-0000-7000-8000-000000000000")
    assert (refused.status_code, refused.json()["error"]) == (404, "receipt_unknown")


def test_a_changed_receipt_is_told(sqlite_service):
    answered = sqlite_service.predict(CANARY).json()
    prediction_id, label = answered["prediction_id"], answered["label"]
    assert receipt_of(sqlite_service, prediction_id).status_code == 200
    # The customer is another one where the public file is not: either label must become the other.
    spelt = [f'"label":"{each}"' for each in (label, {"churn": "stay", "stay": "churn"}[label])]
    file = receipts_path(sqlite_service.world.settings.home)
    with closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection, connection:
        changed = connection.execute(
            f"UPDATE {TABLE} SET content = replace(content, ?, ?) WHERE prediction_id = ? AND instr(content, ?)",  # noqa: S608
            (*spelt, prediction_id, spelt[0]),
        )
        assert changed.rowcount == 1
    refused = sqlite_service.get(f"/predictions/{prediction_id}")
    assert (refused.status_code, refused.json()["error"]) == (409, "receipt_tampered")
