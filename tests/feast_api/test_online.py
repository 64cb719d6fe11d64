"""Online features: what materialisation brings, how it is read, and what is said of values that are not there."""

from __future__ import annotations

import asyncio

import pandas as pd
import pytest
from feast import FeatureView, Field, FileSource
from feast.errors import FeatureViewNotFoundException
from feast.types import Float64

from feature_repo.files.parquet_tables import append_table
from tests.support.feast_shop import NOW, STAMPS, TTL, ago

REFS = ["visits:visits", "visits:spend", "visits:days", "visits:note"]


def read(shop, refs, *keys, **more):
    rows = [
        {"account_id": key} | {name: values[place] for name, values in more.items()} for place, key in enumerate(keys)
    ]
    return shop.store.get_online_features(features=refs, entity_rows=rows).to_dict()


@pytest.fixture
def online(shop):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    return shop


def test_what_was_materialised_is_read(online):
    found = read(online, REFS, 1, 2, 4)
    assert found["visits"] == [2, 7, 4]
    assert found["spend"] == [4.0, None, 8.0]
    assert found["days"] == [[], None, [4]]
    assert found["note"] == [None, "only", "late"]
    assert found["account_id"] == [1, 2, 4]


def test_a_key_that_nothing_is_known_of_is_null(online):
    assert read(online, REFS, 99)["visits"] == [None]


def test_a_value_older_than_the_time_to_live_is_not_brought_online(online):
    assert read(online, REFS, 3)["visits"] == [None]


def test_online_is_what_history_says_of_now(online):
    asked = pd.DataFrame({"account_id": [1, 2, 3, 4, 99], "event_timestamp": NOW})
    past = online.store.get_historical_features(asked, REFS).to_arrow()
    found = read(online, REFS, *asked["account_id"])
    assert {name: past[name].to_pylist() for name in ("visits", "spend", "days", "note")} == {
        name: found[name] for name in ("visits", "spend", "days", "note")
    }


def test_statuses_and_timestamps_tell_what_the_values_are(online):
    rows = [{"account_id": key} for key in (1, 99)]
    answer = online.store.get_online_features(features=["visits:visits"], entity_rows=rows)
    frame = answer.to_df(include_event_timestamps=True)
    assert frame["visits__ts"].tolist()[0] == int(ago(24).timestamp())


def test_rows_of_one_call_may_name_a_key_twice(online):
    assert read(online, ["visits:visits"], 1, 2, 1)["visits"] == [2, 7, 2]


def test_a_mapping_of_lists_is_as_good_as_a_list_of_rows(online):
    found = online.store.get_online_features(features=["visits:visits"], entity_rows={"account_id": [1, 2]})
    assert found.to_dict()["visits"] == [2, 7]


@pytest.mark.parametrize("name", ["spend_v1", "rates_v1"])
def test_a_service_gives_its_features(online, name):
    service = online.store.get_feature_service(name)
    rows = [{"account_id": 1} | ({"factor": 10.0} if name == "rates_v1" else {})]
    found = online.store.get_online_features(features=service, entity_rows=rows).to_dict()
    assert found["spend"] == [4.0]
    assert {name: found[name] for name in ("a_visit", "scaled") if name in found} == (
        {"a_visit": [2.0], "scaled": [40.0]} if name == "rates_v1" else {}
    )


def test_an_on_demand_view_gives_online_what_it_gives_for_the_past(online):
    refs = ["rates:a_visit", "rates:scaled"]
    asked = pd.DataFrame({"account_id": [1, 2, 4], "event_timestamp": NOW, "factor": [10.0, 1.0, 0.5]})
    past = online.store.get_historical_features(asked, refs).to_arrow()
    found = read(online, refs, 1, 2, 4, factor=[10.0, 1.0, 0.5])
    assert (found["a_visit"], found["scaled"]) == (past["a_visit"].to_pylist(), past["scaled"].to_pylist())


def test_full_names_are_view_and_feature(online):
    found = online.store.get_online_features(
        features=["visits:visits"], entity_rows=[{"account_id": 1}], full_feature_names=True
    ).to_dict()
    assert found == {"account_id": [1], "visits__visits": [2]}


def test_two_keys_are_one_entity(online):
    rows = [
        {"account_id": 1, "shop_id": "north"},
        {"account_id": 1, "shop_id": "south"},
        {"account_id": 2, "shop_id": "x"},
    ]
    assert online.store.get_online_features(features=["standing:balance"], entity_rows=rows).to_dict()["balance"] == [
        10.0,
        20.0,
        None,
    ]


async def awaited(store, refs, *keys):
    try:
        answer = await store.get_online_features_async(features=refs, entity_rows=[{"account_id": key} for key in keys])
        return answer.to_dict()
    finally:
        await store.close()


def test_an_asynchronous_read_gives_the_same(online):
    """Feast's SQLite store has none and says so."""
    if online.kind == "sqlite":
        with pytest.raises(NotImplementedError):
            asyncio.run(awaited(online.store, REFS, 1))
    else:
        for _ in range(2):  # each in an event loop of its own
            assert asyncio.run(awaited(online.store, REFS, 1, 2)) == read(online, REFS, 1, 2)


def test_what_is_not_registered_is_named(online):
    with pytest.raises(FeatureViewNotFoundException, match="nowhere"):
        read(online, ["nowhere:visits"], 1)


def test_incremental_runs_move_the_watermark_and_bring_what_is_newer(shop):
    shop.store.materialize_incremental(end_date=ago(25))
    assert read(shop, ["visits:visits"], 1, 2)["visits"] == [11, 7]
    shop.store.materialize_incremental(end_date=ago(15))
    assert read(shop, ["visits:visits"], 1, 2)["visits"] == [2, 7]
    spans = shop.store.get_feature_view("visits").materialization_intervals
    assert [end for _, end in spans] == [ago(25), ago(15)]


def test_a_row_that_arrives_late_comes_with_the_next_incremental_run(shop):
    shop.store.materialize_incremental(end_date=ago(7))
    assert read(shop, ["visits:visits"], 4)["visits"] == [None]
    shop.store.materialize_incremental(end_date=ago(1))
    assert read(shop, ["visits:visits"], 4)["visits"] == [4]


def test_one_view_alone_is_materialised(shop):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW, feature_views=["standing"])
    assert read(shop, ["visits:visits"], 1)["visits"] == [None]
    rows = [{"account_id": 1, "shop_id": "north"}]
    assert shop.store.get_online_features(features=["standing:balance"], entity_rows=rows).to_dict()["balance"] == [
        10.0
    ]


def test_a_view_without_entities_has_one_row_for_all(shop):
    columns = {"event_timestamp": [ago(30), ago(3)], "created_timestamp": [ago(30), ago(3)], "rate": [1.0, 2.0]}
    append_table(shop.home, "rates", "first", pd.DataFrame(columns))
    source = FileSource(name="rate_rows", path="offline/rates/*.parquet", **STAMPS)
    view = FeatureView(name="market", entities=[], schema=[Field(name="rate", dtype=Float64)], source=source, ttl=TTL)
    shop.store.apply([source, view])
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    assert shop.store.get_online_features(features=["market:rate"], entity_rows=[{}]).to_dict()["rate"] == [2.0]
    asked = pd.DataFrame({"event_timestamp": [ago(20), ago(1)]})
    found = shop.store.get_historical_features(asked, ["market:rate"]).to_arrow()
    assert found["rate"].to_pylist() == [1.0, 2.0]


def test_on_demand_features_keep_their_full_names(online):
    rows = [{"account_id": 1, "factor": 10.0}]
    refs = ["visits:spend", "rates:a_visit", "rates:scaled"]
    found = online.store.get_online_features(features=refs, entity_rows=rows, full_feature_names=True).to_dict()
    assert {name: found[name] for name in ("visits__spend", "rates__a_visit", "rates__scaled")} == {
        "visits__spend": [4.0],
        "rates__a_visit": [2.0],
        "rates__scaled": [40.0],
    }
