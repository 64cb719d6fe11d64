from __future__ import annotations

import pytest

from bentos.churn.api.receipt_bodies import prediction_body, receipt_body
from bentos.receipts import ReplayResult
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from tests.support.receipts import a_receipt

NAMES = SERVICES_OF[CORE_SERVICE]


def test_a_body_says_all_that_the_receipt_holds():
    receipt = a_receipt()
    shown = receipt_body(receipt, NAMES).model_dump()
    assert shown.pop("features") == dict(zip(NAMES, receipt.values, strict=True))
    assert shown.pop("score_quality") == receipt.quality
    assert [tuple(view.values()) for view in shown.pop("views")] == list(receipt.views)
    assert [tuple(reason.values()) for reason in shown.pop("reasons")] == list(receipt.reasons)
    assert shown == {name: getattr(receipt, name) for name in shown}
    # Every field of the receipt is one of the body, under its own name or one of the four above.
    assert set(shown) | {"values", "quality", "views", "reasons"} == set(receipt.__slots__)


def test_what_there_was_not_is_null():
    shown = receipt_body(a_receipt(reasons=None, lever=None, views=(("v", None, "unknown"),)), NAMES)
    assert shown.reasons is None
    assert shown.lever is None
    assert shown.views[0].event_timestamp is None


def test_values_and_names_of_two_contracts_are_not_mixed():
    with pytest.raises(ValueError, match="zip"):
        receipt_body(a_receipt(), NAMES[:-1])


def test_the_replay_stands_beside():
    replayed = ReplayResult(NAMES, 0.75, 0.0163, "churn", None, same_label=True, same_reasons=False)
    assert prediction_body(a_receipt(), replayed).replay.model_dump() == {
        "probability": 0.75,
        "difference": 0.0163,
        "agrees": False,
    }
