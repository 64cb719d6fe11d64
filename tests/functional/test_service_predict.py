"""The service over real HTTP, on SQLite and on Redis: scores, labels, reasons, order."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bentos.churn.api.schemas import Answer, BatchAnswer
from bentos.decisions.reason_codes import load_reason_codes
from feature_repo.contract import CORE_SERVICE
from feature_repo.definition_hash import contract_hash
from tests.support.serving_home import EXPIRED, INCOMPLETE

ANSWER_KEYS = {
    "customer_id",
    "prediction_id",
    "probability",
    "label",
    "threshold",
    "reasons",
    "reasons_error",
    "model_version",
    "features_as_of",
    "expected_profit_usd",
    "lever",
    "stale",
    "missing",
    "score_quality",
}


@pytest.fixture(scope="module")
def everyone(service):
    """The answers for all customers of the world, in one request."""
    answer = service.post("/predict/batch", {"customer_ids": list(service.world.ids)})
    assert answer.status_code == 200
    return answer.json()["results"]


def test_each_answer_is_what_the_document_says(service):
    answer = service.post("/predict/batch", {"customer_ids": [*service.world.ids, "nobody"]})
    found = BatchAnswer.model_validate_json(answer.content).results
    assert len([each for each in found if isinstance(each, Answer)]) == len(service.world.ids)


def test_what_contacting_earns_is_the_paper_s_profit(everyone):
    for each in everyone:
        probability = each["probability"]
        assert each["expected_profit_usd"] == pytest.approx(probability * 56 - (1 - probability) * 11, abs=1e-9)


def test_a_lever_is_advised_to_whom_contacting_pays_and_lowers_the_score(everyone):
    advised = [each for each in everyone if each["lever"]]
    assert {each["label"] for each in advised} == {"churn"}
    assert len({each["lever"]["lever"] for each in advised}) > 1
    assert all(each["lever"]["probability"] < each["probability"] for each in advised)


def test_fresh_and_complete_values_are_of_full_quality(everyone):
    assert {(*each["stale"], *each["missing"], each["score_quality"]) for each in everyone} == {("full",)}


def test_it_lives_is_ready_and_says_so(service):
    assert service.get("/livez").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready", "model_version": "test-1"}
    assert service.get("/health").json() == {"status": "ok", "ready": True, "model_version": "test-1", "error": None}


def test_metadata_is_the_bundle_s(service):
    found = service.get("/metadata").json()
    bundle = service.world.bundle
    assert found["bundle_digest"] == bundle.digest
    assert found["feature_service"] == CORE_SERVICE
    assert found["contract_hash"] == contract_hash(CORE_SERVICE)
    assert found["training_snapshots"] == ["2026-01-01.v1"]
    assert found["threshold"] == bundle.manifest.threshold
    assert found["metrics"] == {"roc_auc": 0.84}
    assert found["time"] == "declared"


def test_every_probability_is_the_bundle_s_own_score(service, everyone):
    expected = service.world.bundle.score(service.world.frame)
    assert [each["customer_id"] for each in everyone] == list(service.world.ids)
    np.testing.assert_allclose([each["probability"] for each in everyone], expected, rtol=0, atol=1e-9)


def test_labels_follow_the_threshold(everyone):
    assert {each["label"] for each in everyone} == {"churn", "stay"}
    for each in everyone:
        assert each["label"] == ("churn" if each["probability"] >= each["threshold"] else "stay")


def test_reasons_are_the_contributions_of_the_bundle(service, everyone):
    dictionary = load_reason_codes(CORE_SERVICE)
    explained = service.world.bundle.explain(service.world.frame)
    for answer, contributions, margin in zip(everyone, explained.contributions, explained.margin, strict=True):
        grouped = dictionary.grouped(contributions)
        assert explained.base + sum(grouped.values()) == pytest.approx(margin, abs=1e-5)
        assert 1 <= len(answer["reasons"]) <= 3
        assert answer["reasons_error"] is None
        for reason in answer["reasons"]:
            assert reason["contribution"] == pytest.approx(grouped[reason["code"]], abs=1e-6)
            assert reason["direction"] == ("raises" if reason["contribution"] > 0 else "lowers")
            assert reason["text"]
        speaks_for = "raises" if answer["label"] == "churn" else "lowers"
        assert answer["reasons"][0]["direction"] == speaks_for


def test_one_customer_gets_the_same_answer_alone_and_among_many(service, everyone):
    alone = service.predict(service.world.ids[0])
    assert alone.status_code == 200
    assert alone.json().keys() == ANSWER_KEYS
    assert alone.headers["content-type"] == "application/json"
    for key in ANSWER_KEYS - {"prediction_id", "probability", "reasons"}:
        assert alone.json()[key] == everyone[0][key]
    assert alone.json()["probability"] == pytest.approx(everyone[0]["probability"], abs=1e-12)
    assert alone.json()["prediction_id"] != everyone[0]["prediction_id"]


def test_features_as_of_is_the_event_time_in_utc(everyone):
    as_of = datetime.fromisoformat(everyone[0]["features_as_of"])
    assert as_of.tzinfo == UTC
    assert timedelta(days=2) <= datetime.now(UTC) - as_of < timedelta(days=2, hours=1)


def test_a_batch_keeps_order_and_duplicates_and_refuses_one_by_one(service):
    known, other = service.world.ids[:2]
    asked = [other, "nobody-0", known, EXPIRED, known, INCOMPLETE]
    results = service.post("/predict/batch", {"customer_ids": asked}).json()["results"]
    assert [each["customer_id"] for each in results] == asked
    assert [each.get("error", {}).get("error") for each in results] == [
        None,
        "customer_unknown",
        None,
        "features_expired",
        None,
        "features_missing",
    ]
    assert results[2]["probability"] == results[4]["probability"]
    assert results[2]["prediction_id"] != results[4]["prediction_id"]
    assert results[1]["error"].keys() == {"error", "message", "hint"}


def test_a_thousand_customers_in_one_request(service):
    ids = [service.world.ids[position % len(service.world.ids)] for position in range(1000)]
    results = service.post("/predict/batch", {"customer_ids": ids}).json()["results"]
    assert [each["customer_id"] for each in results] == ids
    assert len({each["prediction_id"] for each in results}) == 1000


def test_many_callers_at_once_each_get_their_own_answer(service, everyone):
    from concurrent.futures import ThreadPoolExecutor

    ids = service.world.ids[:80]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda each: service.predict(each).json(), ids))
    assert [answer["customer_id"] for answer in answers] == list(ids)
    np.testing.assert_allclose(
        [answer["probability"] for answer in answers], [each["probability"] for each in everyone[:80]], atol=1e-9
    )
