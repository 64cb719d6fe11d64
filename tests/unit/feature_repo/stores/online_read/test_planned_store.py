"""Feast's API over a plan: planned once for each state of the registry, left to Feast where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import feast.metrics
import pytest
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_repo.stores.online_read import planned_store
from feature_repo.stores.online_read.response import PlannedResponse
from tests.support.read_plan_repository import NOW, opened, write

pytestmark = pytest.mark.slow

ROWS = [{"customer_id": "a"}, {"customer_id": "b"}, {"customer_id": "a"}]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = opened(tmp_path_factory.mktemp("planned"))
    write(store, "bills", {"customer_id": "a", "amount": 1.5, "paid_on": NOW, "items": ["x"]})
    write(store, "calls", {"customer_id": "a", "calls": 7}, {"customer_id": "b", "calls": None}, at=NOW)
    write(store, "sites", {"site_id": 3, "visits": 9})
    write(store, "visits", {"customer_id": "a", "site_id": 3, "seen": 4})
    write(store, "twins", {"customer_id": "b", "amount": 2.5}, at=NOW - timedelta(days=31))
    return store


@dataclass
class Counting:
    """Counts how often a plan is made."""

    made: int = 0

    def __call__(self, *arguments, **named):
        self.made += 1
        return self.original(*arguments, **named)


@pytest.fixture
def plans(monkeypatch):
    counting = Counting()
    counting.original = planned_store.build_read_plan
    monkeypatch.setattr(planned_store, "build_read_plan", counting)
    return counting


def by_plan(answer):
    return isinstance(answer, PlannedResponse)


def test_an_answer_by_plan_has_feasts_shape(store):
    answer = store.get_online_features(["bills:amount", "bills:items", "calls:calls"], ROWS)
    assert by_plan(answer)
    assert answer.to_dict() == {
        "customer_id": ["a", "b", "a"],
        "amount": [1.5, None, 1.5],
        "items": [["x"], None, ["x"]],
        "calls": [7, None, 7],
    }


def test_statuses_tell_null_from_unknown_from_too_old(store):
    answer = store.get_online_features(
        ["bills:amount", "calls:calls", "twins:amount"], ROWS[:2], full_feature_names=True
    )
    assert by_plan(answer)
    statuses = {
        name: [FieldStatus.Name(status) for status in vector.statuses]
        for name, vector in zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True)
    }
    assert statuses == {
        "customer_id": ["PRESENT", "PRESENT"],
        "bills__amount": ["PRESENT", "NOT_FOUND"],
        "calls__calls": ["PRESENT", "NULL_VALUE"],
        "twins__amount": ["NOT_FOUND", "OUTSIDE_MAX_AGE"],
    }
    # As in Feast, what is too old is there: who reads it decides.
    assert answer.to_dict()["twins__amount"] == [None, 2.5]


def test_computed_features_of_request_data(store):
    answer = store.get_online_features(store.get_feature_service("both"), [{"customer_id": "a", "rate": 2}])
    assert by_plan(answer)
    assert answer.to_dict()["scaled"] == [3.0]


@pytest.mark.parametrize(
    ("refs", "row", "expected"),
    [
        (["visits:seen"], {"customer_id": "a", "site_id": 3}, {"seen": [4]}),
        (["bills:amount", "sites:visits"], {"customer_id": "a", "site_id": 3}, {"amount": [1.5], "visits": [9]}),
        (["doubled:doubled"], {"customer_id": "a"}, {"doubled": [3.0]}),
        (["bills:amount"], {"customer": "a"}, {}),
    ],
    ids=["two keys", "two entities", "pandas", "the entity's name"],
)
@pytest.mark.filterwarnings("ignore:Using entity name is deprecated")
def test_what_has_no_plan_is_answered_by_feast(store, refs, row, expected):
    answer = store.get_online_features(refs, [row])
    assert not by_plan(answer)
    assert answer.to_dict().items() >= expected.items()


def test_integer_keys_are_read_by_plan(store):
    answer = store.get_online_features(["sites:visits"], [{"site_id": 3}, {"site_id": -1}])
    assert by_plan(answer)
    assert answer.to_dict()["visits"] == [9, None]


def test_versions_are_feasts_to_tell(store):
    answer = store.get_online_features(["bills:amount"], ROWS, include_feature_view_version_metadata=True)
    assert not by_plan(answer)
    assert [view.name for view in answer.proto.metadata.feature_view_metadata] == ["bills"]


def test_where_feast_counts_reads_they_go_through_it(store, monkeypatch):
    counted = feast.metrics._MetricsFlags(enabled=True, online_features=True)
    monkeypatch.setattr(feast.metrics, "_config", counted)
    assert not by_plan(store.get_online_features(["bills:amount"], ROWS))


def test_a_plan_is_made_once_for_each_state_of_the_registry(store, plans):
    for _ in range(3):
        store.get_online_features(["bills:paid_on"], ROWS)
    assert plans.made == 1
    store.refresh_registry()  # nothing new in it
    store.get_online_features(["bills:paid_on"], ROWS)
    assert plans.made == 1
    changed = store.get_feature_view("bills")
    changed.description = "reworded"
    store.apply(changed)
    store.refresh_registry()
    store.get_online_features(["bills:paid_on"], ROWS)
    assert plans.made == 2


def test_plans_do_not_grow_without_end(store, monkeypatch):
    monkeypatch.setattr(planned_store, "_PLANS_MAX", 2)
    online = store._get_provider().online_store
    for refs in (["bills:amount"], ["bills:items"], ["calls:calls"], ["sites:visits"]):
        online.plan_for(store.config, store.registry, store.project, refs)
        assert len(online._plans) <= 2


def test_a_registry_without_a_cache_is_read_by_feast(tmp_path):
    store = opened(tmp_path, registry_type="file", path=str(tmp_path / "registry.pb"))
    write(store, "bills", {"customer_id": "a", "amount": 1.5, "paid_on": NOW, "items": ["x"]})
    answer = store.get_online_features(["bills:amount"], ROWS[:1])
    assert not by_plan(answer)
    assert answer.to_dict()["amount"] == [1.5]
