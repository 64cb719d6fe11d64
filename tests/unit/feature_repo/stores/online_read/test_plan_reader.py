"""A service's columns straight from stored bytes: the contract's order, types and whole seconds, or none at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from configs.settings import load_settings
from feature_repo.contract import (
    BEHAVIOR_SERVICE,
    CORE_SERVICE,
    CREATED_TIMESTAMP,
    CUSTOMER,
    OBSERVED_AT_US,
    features_of,
)
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.online_read.plan_reader import PlannedReader
from feature_repo.stores.registration import apply
from tests.support.read_plan_repository import opened, write

NOW = datetime.now(UTC)
AT = NOW - timedelta(days=1)
CONTRACT = {"partner": True, "dependents": None, "tenure_months": 13, "contract_type": "One year"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    settings = load_settings(home=tmp_path_factory.mktemp("columns") / "home")
    apply(settings)
    store = open_feature_store(settings)
    write(store, "customer_contract", {CUSTOMER: "a", CREATED_TIMESTAMP: AT, **CONTRACT}, at=AT)
    return store


def columns(store, service, contract=None):
    reader = PlannedReader(store, store.get_feature_service(service), features_of(contract or service))
    return reader.read(["a", "b", "a"], NOW)


def test_values_are_the_contracts_and_computed_ones_come_with_them(store):
    found = columns(store, BEHAVIOR_SERVICE)
    assert {name: found.values[name] for name in CONTRACT} == {
        name: [value, None, value] for name, value in CONTRACT.items()
    }
    assert found.values["months_to_renewal"] == [11, None, 11]
    assert found.values["protection_count"] == [None] * 3
    assert found.values["activity_known"] == [False] * 3
    assert len(set(found.values[OBSERVED_AT_US])) == 1


def test_each_view_has_its_timestamp_in_the_contracts_order(store):
    found = columns(store, BEHAVIOR_SERVICE)
    snapshot, events = ("contract", "services", "billing"), ("usage", "support", "payments")
    assert found.views == tuple(f"customer_{name}" for name in snapshot + events)
    instants = [list(map(found.instant, stamps)) for stamps in found.stamps]
    known = [AT.replace(microsecond=0), None, None, None, None, None]
    assert instants == [known, [None] * 6, known]


def test_without_all_features_there_is_no_plan(store):
    assert columns(store, CORE_SERVICE) is not None
    assert columns(store, CORE_SERVICE, contract=BEHAVIOR_SERVICE) is None


def test_another_store_is_feasts_to_read(tmp_path):
    other = opened(tmp_path, online={"type": "sqlite", "path": str(tmp_path / "online.db")})
    reader = PlannedReader(other, other.get_feature_service("both"), features_of(CORE_SERVICE))
    assert reader.read(["a"], NOW) is None
