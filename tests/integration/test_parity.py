"""Online equals offline for every customer of the file, in value, type and null, on both online stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL, TTL_DAYS, features_of
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.errors import StoreUnavailableError
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def settings(request, telco):
    if request.param == "sqlite":
        return telco.settings
    url = f"redis://127.0.0.1:{request.getfixturevalue('redis_server')}/1"
    store = telco.settings.feast.model_copy(update={"online_store": "redis", "redis_url": SecretStr(url)})
    moved = telco.settings.model_copy(update={"feast": store})
    apply(moved)
    materialize(moved, telco.now)
    return moved


@pytest.fixture(scope="module")
def online(settings):
    return OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)


def test_every_customer_has_the_same_values_in_both_stores(telco, online):
    frame = telco.training_set.features
    offline = list(zip(*(to_python_values(f, frame[f.name]) for f in features_of(CORE_SERVICE)), strict=True))
    rows = online.read(telco.training_set.keys[CUSTOMER].tolist(), telco.now)
    assert len(rows) == len(offline) == len(telco.snapshot)
    # Who left by the extract's date is no customer any more once that has arrived; until then it has its values.
    left = dict(zip(telco.training_set.keys[CUSTOMER], telco.training_set.keys[LABEL], strict=True))
    known = telco.now >= datetime(telco.now.year, telco.now.month, telco.now.day, 6, tzinfo=UTC)
    assert {row.customer_id for row in rows if row.status == "withdrawn"} == (
        {customer_id for customer_id, churned in left.items() if churned} if known else set()
    )
    here = [(row, values) for row, values in zip(rows, offline, strict=True) if row.status == "present"]
    assert len(here) >= len(rows) - sum(left.values())
    assert [row.customer_id for row, values in here if row.values != values] == []
    types = {tuple(type(value) for value in row.values) for row, _ in here}
    assert types <= {tuple(type(value) for value in values) for values in offline}
    assert sum(row.values[names_index("total_charges_usd")] is None for row, _ in here) == int(
        telco.snapshot.loc[~telco.snapshot[LABEL].astype(bool), "total_charges_usd"].isna().sum()
    )


def names_index(name):
    return [feature.name for feature in features_of(CORE_SERVICE)].index(name)


def test_status_and_age_of_a_known_customer(telco, online):
    (row,) = online.read([telco.snapshot[CUSTOMER].iloc[0]], telco.now)
    assert row.status == "present"
    day = datetime(telco.now.year, telco.now.month, telco.now.day, tzinfo=UTC)
    assert row.as_of == day - timedelta(days=30)


def test_an_unknown_customer_is_unknown_not_null(telco, online):
    known = telco.snapshot[CUSTOMER].iloc[0]
    rows = online.read(["nobody", known, "nobody"], telco.now)
    assert [row.status for row in rows] == ["unknown", "present", "unknown"]
    assert rows[0].as_of is None


def test_a_value_past_its_ttl_is_expired_not_fresh(telco, online):
    later = telco.now + timedelta(days=TTL_DAYS)
    (row,) = online.read([telco.snapshot[CUSTOMER].iloc[0]], later)
    assert row.status == "expired"


def test_nothing_asked_nothing_answered(telco, online):
    assert online.read([], telco.now) == []


def test_the_hash_is_the_registered_one(telco, online):
    assert online.contract_hash == telco.training_set.contract_hash


def test_a_dead_redis_is_named(telco, port):
    dead = SecretStr(f"redis://127.0.0.1:{port}/0")
    store = load_settings(home=telco.settings.home).feast.model_copy(
        update={"online_store": "redis", "redis_url": dead}
    )
    reader = OnlineFeatureReader(open_feature_store(telco.settings.model_copy(update={"feast": store})), CORE_SERVICE)
    with pytest.raises(StoreUnavailableError) as refused:
        reader.read(["7590-VHVEG"], telco.now)
    assert refused.value.http_status == 503
    assert str(port) not in refused.value.message


def test_protected_attributes_never_reach_the_online_store(settings):
    views = open_feature_store(settings).list_feature_views()
    assert {view.name for view in views if view.online and view.materialization_intervals} == {
        "customer_billing",
        "customer_contract",
        "customer_services",
    }
