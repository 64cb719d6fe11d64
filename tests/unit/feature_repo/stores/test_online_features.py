"""The reader of a service: rows and numbers, for nobody, for strangers, and when the store fails."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from configs.settings import load_settings
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, features_of
from feature_repo.definition_hash import contract_hash
from feature_repo.stores.errors import StoreUnavailableError
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.freshness import at_the_contract
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    settings = load_settings(home=tmp_path_factory.mktemp("reading") / "home")
    apply(settings)
    return open_feature_store(settings)


def test_nobody_asked_for_is_nobody_answered(store):
    reader = OnlineFeatureReader(store, CORE_SERVICE)
    block = reader.read_batch([], NOW)
    assert (reader.read([], NOW), block.rows, block.vectors.shape) == ([], [], (0, 19))


def test_an_empty_store_knows_nobody(store):
    block = OnlineFeatureReader(store, BEHAVIOR_SERVICE).read_batch(["a", "a"], NOW)
    assert [(row.status, row.as_of) for row in block.rows] == [("unknown", None)] * 2
    assert {view.status for view in block.rows[0].views} == {"unknown"}
    assert np.isnan(block.vectors[:, 0]).all()


def test_another_service_on_the_same_store_keeps_the_policy(store):
    policy = at_the_contract()
    reader = OnlineFeatureReader(store, CORE_SERVICE, policy).for_service(BEHAVIOR_SERVICE)
    assert reader.features == features_of(BEHAVIOR_SERVICE)
    assert reader.contract_hash == contract_hash(BEHAVIOR_SERVICE)
    assert reader._freshness is policy


def test_whatever_fails_in_the_store_is_one_named_error(store, caplog):
    reader = OnlineFeatureReader(store, CORE_SERVICE)
    online = store._get_provider().online_store
    online._get_conn(store.config).execute('ALTER TABLE churn_customer_billing RENAME TO "aside"')
    try:
        with pytest.raises(StoreUnavailableError) as refused:
            reader.read(["CANARY-1"], NOW)
    finally:
        online._get_conn(store.config).execute('ALTER TABLE "aside" RENAME TO churn_customer_billing')
    assert (refused.value.http_status, refused.value.transient) == (503, True)
    assert "CANARY-1" not in refused.value.message + caplog.text
    assert reader.read(["a"], NOW)[0].status == "unknown"
