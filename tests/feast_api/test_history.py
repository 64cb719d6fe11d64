"""Historical features: what was known at an instant, by views, services and on-demand views."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from feast.errors import FeatureViewNotFoundException, RequestDataNotFoundInEntityDfException

from feature_repo.stores.offline import AsofOfflineStore, HindsightError
from tests.support.feast_shop import ago

CASES = {
    "not yet arrived": (1, ago(47.5), None),
    "arrived": (1, ago(47), 1),
    "before its correction arrived": (1, ago(41), 1),
    "its correction": (1, ago(40), 11),
    "a newer value that is under way": (1, ago(21), 11),
    "the newer value": (1, ago(20), 2),
    "as old as the time to live": (3, ago(60), 9),
    "older than the time to live": (3, ago(59.9), None),
    "an unknown key": (99, ago(0), None),
}


def asked(*rows, **more):
    keys, instants = zip(*rows, strict=True)
    return pd.DataFrame({"account_id": keys, "event_timestamp": instants}).assign(**more)


@pytest.mark.parametrize("why", CASES)
def test_what_was_known(shop, why):
    key, at, visits = CASES[why]
    found = shop.store.get_historical_features(asked((key, at)), ["visits:visits"]).to_arrow()
    assert found["visits"].to_pylist() == [visits]


def test_all_features_of_a_row_are_of_one_row(shop):
    found = shop.store.get_historical_features(
        asked((1, ago(1)), (2, ago(1))), ["visits:visits", "visits:spend", "visits:days", "visits:note"]
    ).to_arrow()
    assert found.select(["visits", "spend", "days", "note"]).to_pylist() == [
        {"visits": 2, "spend": 4.0, "days": [], "note": None},
        {"visits": 7, "spend": None, "days": None, "note": "only"},
    ]


def test_a_service_is_its_features(shop):
    service = shop.store.get_feature_service("spend_v1")
    by_service = shop.store.get_historical_features(asked((1, ago(1))), service).to_arrow()
    by_name = shop.store.get_historical_features(asked((1, ago(1))), ["visits:spend", "visits:visits"]).to_arrow()
    assert by_service.sort_by("account_id").to_pylist() == by_name.to_pylist()


def test_full_names_are_view_and_feature(shop):
    service = shop.store.get_feature_service("rates_v1")
    found = shop.store.get_historical_features(
        asked((1, ago(1)), factor=2.0), service, full_feature_names=True
    ).to_arrow()
    # Feast answers the inputs of on-demand views too.
    named = {"visits__spend", "rates__a_visit", "rates__scaled"}
    assert named <= set(found.column_names)
    assert not {"spend", "a_visit", "scaled"} & set(found.column_names)


def test_an_on_demand_view_is_computed_from_the_row_and_the_request(shop):
    found = shop.store.get_historical_features(
        asked((1, ago(1)), (2, ago(1)), factor=[10.0, 1.0]),
        ["visits:visits", "visits:spend", "rates:a_visit", "rates:scaled"],
    ).to_arrow()
    assert (found["a_visit"].to_pylist(), found["scaled"].to_pylist()) == ([2.0, None], [40.0, None])


def test_request_data_that_is_missing_is_named(shop):
    with pytest.raises(RequestDataNotFoundInEntityDfException, match="factor"):
        shop.store.get_historical_features(asked((1, ago(1))), ["rates:scaled"]).to_arrow()


def test_two_keys_are_one_join(shop):
    rows = asked((1, ago(1)), (1, ago(1)), (2, ago(1)), (2, ago(1)), shop_id=["north", "south", "north", "south"])
    found = shop.store.get_historical_features(rows, ["standing:balance", "visits:visits"]).to_arrow()
    assert found["balance"].to_pylist() == [10.0, 20.0, 30.0, None]
    assert found["visits"].to_pylist() == [2, 2, 7, 7]


def test_without_entity_rows_every_key_of_the_range(shop):
    found = shop.store.get_historical_features(None, ["visits:visits"], start_date=ago(60), end_date=ago(0)).to_arrow()
    assert dict(zip(found["account_id"].to_pylist(), found["visits"].to_pylist(), strict=True)) == {1: 2, 2: 7, 4: 4}


def test_nothing_is_read_before_the_job_is_asked_and_then_all_forms_agree(shop):
    job = shop.store.get_historical_features(asked((1, ago(1)), (4, ago(1))), ["visits:visits"])
    assert job.to_arrow()["visits"].to_pylist() == job.to_df()["visits"].tolist() == [2, 4]
    assert job.metadata.keys == ["account_id"]
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (ago(1), ago(1))


def test_what_is_not_registered_is_named(shop):
    with pytest.raises(FeatureViewNotFoundException, match="nowhere"):
        shop.store.get_historical_features(asked((1, ago(1))), ["nowhere:visits"])


def test_types_are_those_that_were_declared(shop):
    found = shop.store.get_historical_features(
        asked((99, ago(1))), ["visits:visits", "visits:spend", "visits:days", "visits:note"]
    )
    schema = found.to_arrow().schema
    kinds = {"visits": pa.int64(), "spend": pa.float64(), "days": pa.list_(pa.int64()), "note": pa.string()}
    assert {name: schema.field(name).type for name in kinds} == kinds


def test_hindsight_is_refused_by_name(shop):
    rows = asked((1, ago(47.5)))
    with pytest.raises(HindsightError):
        AsofOfflineStore.get_historical_features(
            shop.store.config,
            [shop.store.get_feature_view("visits")],
            ["visits:visits"],
            rows,
            shop.store.registry,
            "shop",
            filter_by_created_timestamp=False,
        )
