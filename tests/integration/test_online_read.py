"""Feast's API on our online stores answers what Feast's own stores answer, whoever wrote; so does the way to the
scorer. Every customer, both services, Redis and SQLite."""

from __future__ import annotations

import itertools
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from feast.errors import RequestDataNotFoundInEntityRowsException
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_repo.contract import (
    BEHAVIOR_SERVICE,
    CORE_SERVICE,
    CUSTOMER,
    TTL_DAYS,
    features_of,
    request_data_of,
)
from feature_repo.stores.online_features import OnlineFeatureReader, request_data
from feature_repo.stores.online_read.response import PlannedResponse
from feature_repo.stores.online_read.service_columns import FeastReader
from feature_repo.stores.vectors import encode_features
from tests.support.online_customers import FRESH, NOW, OLD, SILENT, STALE, bring_online, build, opened

SERVICES = (CORE_SERVICE, BEHAVIOR_SERVICE)
UNKNOWN = "nobody"
KINDS = ("sqlite", "redis")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return build(tmp_path_factory.mktemp("online") / "home")


@pytest.fixture(scope="module", params=list(itertools.product(KINDS, ("ours", "Feast"))), ids="-".join)
def stores(request, home, tmp_path_factory):
    """The same online data under both readers: (ours, Feast's); written by one of the two writers."""
    kind, writer = request.param
    if kind == "redis":
        port = request.getfixturevalue("redis_server")
        database = 10 + (writer == "ours")
        online = {
            "type": "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
            "connection_string": f"127.0.0.1:{port},db={database}",
        }
    else:
        # Feast's tables, made by `apply` and still empty.
        path = tmp_path_factory.mktemp(f"by-{writer}") / "online.db"
        shutil.copy(home.settings.home / "feast" / "online.db", path)
        online = {"type": "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore", "path": str(path)}
    ours, stock = opened(home, online), opened(home, online, stock=True)
    bring_online(ours if writer == "ours" else stock)
    return ours, stock


def rows_of(service, ids):
    return [{CUSTOMER: each, **request_data(request_data_of(service), NOW)} for each in ids]


def answers(stores, features, rows, **more):
    ours, stock = (store.get_online_features(features, rows, **more) for store in stores)
    assert isinstance(ours, PlannedResponse)
    assert not isinstance(stock, PlannedResponse)
    return ours, stock


def everybody(home):
    return [*home.ids, UNKNOWN, home.ids[3], UNKNOWN, home.ids[3], "STALE-1"]


@pytest.mark.parametrize("service", SERVICES)
def test_the_answer_is_feasts(home, stores, service):
    features = stores[1].get_feature_service(service)
    rows = rows_of(service, everybody(home))
    ours, stock = answers(stores, features, rows)
    # By their repr, which tells 1 from True and -0.0 from 0.0; a dict's order counts too.
    assert repr(ours.to_dict()) == repr(stock.to_dict())
    assert repr(ours.to_dict(include_event_timestamps=True)) == repr(stock.to_dict(include_event_timestamps=True))
    assert ours.to_df(include_event_timestamps=True).equals(stock.to_df(include_event_timestamps=True))
    assert ours.to_arrow().equals(stock.to_arrow())
    assert list(ours.proto.metadata.feature_names.val) == list(stock.proto.metadata.feature_names.val)
    for found, expected in zip(ours.proto.results, stock.proto.results, strict=True):
        assert list(found.values) == list(expected.values)
        assert list(found.event_timestamps) == list(expected.event_timestamps)


@pytest.mark.parametrize("service", SERVICES)
def test_full_names_are_those_of_the_offline_store_and_change_nothing_else(home, stores, service):
    """Feast drops the features of on-demand views here (its issue 4479): the oracle are its short names."""
    features = stores[1].get_feature_service(service)
    rows = rows_of(service, everybody(home))
    ours, stock = (
        stores[0].get_online_features(features, rows, full_feature_names=True),
        stores[1].get_online_features(features, rows),
    )
    full = {
        each.name: f"{view.name}__{each.name}" for view in features.feature_view_projections for each in view.features
    }
    given = stock.to_dict(include_event_timestamps=True)
    expected = {
        full.get(name.removesuffix("__ts"), name.removesuffix("__ts")) + "__ts" * name.endswith("__ts"): values
        for name, values in given.items()
    }
    assert repr(dict(sorted(ours.to_dict(include_event_timestamps=True).items()))) == repr(
        dict(sorted(expected.items()))
    )
    types = {
        name: (list(found.values), list(found.event_timestamps))
        for name, found in zip(ours.proto.metadata.feature_names.val, ours.proto.results, strict=True)
    }
    for name, found in zip(stock.proto.metadata.feature_names.val, stock.proto.results, strict=True):
        assert types[full.get(name, name)] == (list(found.values), list(found.event_timestamps))
    asked = pd.DataFrame([{"event_timestamp": NOW, **row} for row in rows[:1]])
    offline = stores[0].get_historical_features(asked, features, full_feature_names=True).to_df()
    # The historical answer holds what on-demand views are computed from, too.
    assert set(ours.to_dict()) <= set(offline)


@pytest.mark.parametrize("service", SERVICES)
def test_statuses_are_what_feast_documents(home, stores, service):
    ids = everybody(home)
    features = stores[1].get_feature_service(service)
    ours, _ = answers(stores, features, rows_of(service, ids))
    values = ours.to_dict()
    stored = {feature.name for feature in features_of(service) if not feature.derived}
    for name, found in zip(ours.proto.metadata.feature_names.val, ours.proto.results, strict=True):
        expected = [
            "PRESENT"
            if name not in stored
            else "NOT_FOUND"
            if customer == UNKNOWN
            else "OUTSIDE_MAX_AGE"
            if customer == "EXPIRED-1"
            else "NULL_VALUE"
            if value is None
            else "PRESENT"
            for customer, value in zip(ids, values[name], strict=True)
        ]
        assert [FieldStatus.Name(status) for status in found.statuses] == expected, name


def test_references_entity_columns_and_single_views_answer_as_in_feast(home, stores):
    refs = ["customer_billing:total_charges_usd", "customer_usage:usage_on", "customer_contract:tenure_months"]
    columns = {CUSTOMER: [*home.ids[:5], UNKNOWN, "NEWCOMER-1"]}
    ours, stock = answers(stores, refs, columns)
    assert repr(ours.to_dict(include_event_timestamps=True)) == repr(stock.to_dict(include_event_timestamps=True))
    # A list is the caller's own, as Feast's is.
    ours.to_dict()["usage_on"][0].append(1)
    assert ours.to_dict() == stock.to_dict()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{CUSTOMER: None}],
        [{"customer": "x"}],
        [{CUSTOMER: "x"}, {}],
        [{CUSTOMER: "x"}, {CUSTOMER: "y", "more": 1}],
        [{CUSTOMER: 7}],
        [{CUSTOMER: "x", "unheard_of": 1}],
    ],
    ids=["no row", "null", "no key", "a gap", "one too many", "a number", "an unknown column"],
)
def test_what_feast_refuses_or_converts_is_left_to_it(stores, rows):
    found = []
    for store in stores:
        try:
            found.append(repr(store.get_online_features(["customer_billing:payment_method"], rows).to_dict()))
        except Exception as refused:  # noqa: BLE001 - whatever Feast raises
            found.append(repr(refused))
    assert found[0] == found[1]


def test_request_data_that_is_missing_is_refused_by_feast(home, stores):
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match="observed_at_us"):
        stores[0].get_online_features(stores[0].get_feature_service(BEHAVIOR_SERVICE), [{CUSTOMER: home.ids[0]}])


@pytest.mark.parametrize("service", SERVICES)
def test_the_scorers_rows_and_numbers_are_those_of_feasts_answer(home, stores, service):
    ours, stock = (OnlineFeatureReader(store, service) for store in stores)
    ids = everybody(home)
    for now in (NOW, NOW + timedelta(days=40), FRESH + timedelta(days=TTL_DAYS), NOW + timedelta(days=95)):
        found, expected = ours.read_batch(ids, now), stock.read_batch(ids, now)
        assert [repr(row) for row in found.rows] == [repr(row) for row in expected.rows]
        assert repr(ours.read(ids, now)) == repr(found.rows)
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        columns = zip(*(row.values for row in found.rows), strict=True)
        named = {feature.name: column for feature, column in zip(ours.features, columns, strict=True)}
        np.testing.assert_array_equal(found.vectors, encode_features(ours.features, named))
        assert found.vectors.dtype == np.float64
        assert found.vectors.flags.c_contiguous


def test_feasts_stores_are_read_through_feast_and_ours_are_not(home, stores):
    for store, by_plan in zip(stores, (True, False), strict=True):
        service = store.get_feature_service(CORE_SERVICE)
        reader = OnlineFeatureReader(store, CORE_SERVICE)
        assert (reader._by_plan.read([home.ids[0]], NOW) is not None) is by_plan
        assert FeastReader(store, service).read([home.ids[0]], NOW).values["tenure_months"]


def test_each_customer_has_the_status_and_quality_that_the_data_deserve(home, stores):
    reader = OnlineFeatureReader(stores[0], BEHAVIOR_SERVICE)
    rows = {row.customer_id: row for row in reader.read([*home.ids, UNKNOWN], NOW)}
    found = {name: (row.status, row.quality, row.as_of) for name, row in rows.items()}
    assert found.pop(UNKNOWN) == ("unknown", "partial", None)
    assert found.pop("EXPIRED-1") == ("expired", "partial", OLD)
    assert found.pop("STALE-1") == ("present", "stale", STALE)
    assert found.pop("WITHDRAWN-1")[0] == "withdrawn"
    assert found.pop("INCOMPLETE-1")[0] == "missing"
    assert found.pop("NEWCOMER-1") == ("present", "partial", FRESH)
    assert set(found.values()) == {("present", "full", FRESH)}
    assert rows["STALE-1"].stale == ("customer_contract", "customer_services", "customer_billing")
    assert rows["INCOMPLETE-1"].missing == ("contract_type",)
    # Nothing of theirs was ever delivered: the windows are gaps, the first bill that is still to come is none.
    absent = rows["NEWCOMER-1"].absent
    assert {"usage_data_mb_30d", "tickets_90d", "late_payments_90d"} <= set(absent)
    assert not {"total_charges_usd", "days_since_login", "months_to_renewal"} & set(absent)
    states = [(view.view.removeprefix("customer_"), view.status) for view in rows["NEWCOMER-1"].views]
    snapshot, events = ("contract", "services", "billing"), ("usage", "support", "payments")
    assert states == [*((name, "fresh") for name in snapshot), *((name, "unknown") for name in events)]
    assert "NEWCOMER-1" in SILENT


def test_many_threads_read_what_one_reads(home, stores):
    reader = OnlineFeatureReader(stores[0], BEHAVIOR_SERVICE)
    expected = {row.customer_id: repr(row) for row in reader.read(home.ids, NOW)}
    features = stores[0].get_feature_service(CORE_SERVICE)
    tenures = dict(zip(home.ids, reader.read(home.ids, NOW), strict=True))

    def read(seed):
        rng = random.Random(seed)
        for _ in range(15):
            ids = rng.choices(home.ids, k=rng.choice([1, 2, 30]))
            assert [repr(row) for row in reader.read_batch(ids, NOW).rows] == [expected[each] for each in ids]
            answer = stores[0].get_online_features(features, rows_of(CORE_SERVICE, ids)).to_dict()
            assert answer["tenure_months"] == [tenures[each].values[2] for each in ids]
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))
