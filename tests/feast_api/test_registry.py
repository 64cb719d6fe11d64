"""The registry: what was registered comes back, what is inferred is read from the home, and all can be made again."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.errors import EntityNotFoundException, FeatureViewNotFoundException
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String

from feature_repo.files.parquet_tables import append_table
from feature_repo.stores.point_in_time.parquet_source import SourceColumnError
from tests.support.feast_shop import NOW, STAMPS, TTL, ago, objects


def test_everything_registered_is_listed(shop):
    store = shop.reopen()
    names = {
        "entities": store.list_entities(),
        "views": store.list_feature_views(),
        "on demand": store.list_on_demand_feature_views(),
        "services": store.list_feature_services(),
        "sources": store.list_data_sources(),
    }
    assert {kind: sorted(each.name for each in listed if each.name != "__dummy") for kind, listed in names.items()} == {
        "entities": ["account", "shop"],
        "views": ["standing", "visits"],
        "on demand": ["rates"],
        "services": ["rates_v1", "spend_v1"],
        "sources": ["balance_rows", "question", "visit_push", "visit_rows"],
    }


def test_owners_tags_and_descriptions_come_back(shop):
    store = shop.reopen()
    view = store.get_feature_view("visits")
    (visits,) = [field for field in view.features if field.name == "visits"]
    assert (view.owner, view.tags, view.description) == (
        "crm@shop.example",
        {"refreshed": "daily"},
        "What an account did",
    )
    assert (visits.tags, visits.description) == ({"unit": "visits"}, "Visits of the week")
    assert (view.ttl, store.get_feature_view("standing").ttl) == (TTL, timedelta(0))
    assert (store.get_entity("account").owner, store.get_entity("account").tags) == (
        "crm@shop.example",
        {"pii": "yes"},
    )
    assert store.get_feature_service("spend_v1").owner == "crm@shop.example"


def test_objects_are_found_by_their_tags(shop):
    assert [view.name for view in shop.store.list_feature_views(tags={"refreshed": "daily"})] == ["visits"]
    assert shop.store.list_feature_views(tags={"refreshed": "never"}) == []


def test_no_path_of_the_machine_is_registered_for_a_source(shop):
    assert {
        source.name: source.path for source in shop.store.list_data_sources() if isinstance(source, FileSource)
    } == {
        "visit_rows": "offline/visits/*.parquet",
        "balance_rows": "offline/balances",
    }


def specs(store):
    return {
        (type(each).__name__, each.name): each.to_proto().spec.SerializeToString(deterministic=True)
        for each in (*store.list_feature_views(), *store.list_feature_services(), *store.list_entities())
    }


def test_registering_the_same_again_changes_nothing_and_a_change_only_itself(shop):
    before = specs(shop.store)
    shop.store.apply(objects())
    assert specs(shop.store) == before
    changed = objects()
    (view,) = [each for each in changed if each.name == "standing"]
    view.tags = {"of": "money"}
    shop.store.apply(changed)
    after = specs(shop.store)
    assert {name for name in before if before[name] != after[name]} == {("FeatureView", "standing")}


def test_what_is_deleted_is_gone_and_can_be_made_again(shop):
    shop.store.delete_feature_view("standing")
    with pytest.raises(FeatureViewNotFoundException):
        shop.store.get_feature_view("standing")
    shop.store.apply(objects())
    assert shop.store.get_feature_view("standing").ttl == timedelta(0)


def test_what_is_not_there_is_named(shop):
    with pytest.raises(EntityNotFoundException, match="nowhere"):
        shop.store.get_entity("nowhere")


def test_after_a_teardown_everything_can_be_registered_and_served_again(shop):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    shop.store.teardown()
    again = shop.reopen()
    again.apply(objects())
    again.materialize(start_date=NOW - TTL, end_date=NOW)
    found = again.get_online_features(features=["visits:visits"], entity_rows=[{"account_id": 1}]).to_dict()
    assert found["visits"] == [2]


def test_the_registry_can_be_dumped_with_its_python_views(shop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Feast's own, at each dump
        dumped = shop.store.registry.to_dict(project=shop.store.project)
    (view,) = dumped["onDemandFeatureViews"]
    assert (view["spec"]["name"], view["spec"]["mode"]) == ("rates", "python")
    assert [each["spec"]["name"] for each in dumped["featureViews"]] == ["standing", "visits"]


@pytest.mark.parametrize("path", ["offline/scores/*.parquet", "offline/scores", "offline/**/scores.parquet"])
def test_keys_times_and_fields_that_were_left_out_are_read_from_the_home(shop, path):
    columns = {"account_id": [1], "at": pa.array([ago(3)], pa.timestamp("us", "UTC")), "score": [0.5], "days": [[1, 2]]}
    append_table(shop.home, "scores", "scores", pa.table(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of an entity without a type
        key = Entity(name="scored", join_keys=["account_id"])
    source = FileSource(name="scores", path=path)
    view = FeatureView(name="scores", entities=[key], source=source)
    shop.store.apply([key, source, view])
    known = shop.store.get_feature_view("scores")
    assert known.batch_source.timestamp_field == "at"
    assert {field.name: field.dtype for field in known.schema} == {
        "account_id": Int64,
        "score": Float64,
        "days": Array(Int64),
    }
    asked = pd.DataFrame({"account_id": [1], "event_timestamp": [NOW]})
    assert shop.store.get_historical_features(asked, ["scores:score"]).to_arrow()["score"].to_pylist() == [0.5]


def test_an_on_demand_view_that_is_written_online_finds_its_key_in_the_home(shop):
    visits = shop.store.get_feature_view("visits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        key = Entity(name="account", join_keys=["account_id"])

    @on_demand_feature_view(
        sources=[visits],
        entities=[key],
        schema=[Field(name="doubled", dtype=Float64)],
        mode="pandas",
        write_to_online_store=True,
    )
    def doubled(df):
        import pandas as pd

        return pd.DataFrame({"doubled": df["spend"] * 2})

    shop.store.apply([key, visits, doubled])
    known = shop.store.get_on_demand_feature_view("doubled")
    assert [(field.name, field.dtype) for field in known.entity_columns] == [("account_id", Int64)]


UNREADABLE = {
    "is a URL": FileSource(name="far", path="s3://bucket/rows", **STAMPS),
    "the format DeltaFormat": FileSource(name="delta", path="offline/rows", file_format=DeltaFormat(), **STAMPS),
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_a_source_that_no_home_can_hold_is_refused_by_name(shop, why):
    source = UNREADABLE[why]
    fields = [Field(name="account_id", dtype=Int64), Field(name="word", dtype=String)]
    view = FeatureView(name="far", entities=[shop.store.get_entity("account")], schema=fields, source=source)
    shop.store.apply([source, view])
    asked = pd.DataFrame({"account_id": [1], "event_timestamp": [NOW]})
    with pytest.raises(SourceColumnError, match=why):
        shop.store.get_historical_features(asked, ["far:word"]).to_arrow()
    with pytest.raises(SourceColumnError, match=why):
        shop.store._get_provider().validate_data_source(shop.store.config, source)
