"""What views share a search, what the answer's columns are, and what can't be asked."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String

from feature_repo.files.duckdb_session import Limits
from feature_repo.stores.point_in_time.entity_df import EntityRowsError
from feature_repo.stores.point_in_time.historical_query import HistoricalQuery
from feature_repo.stores.point_in_time.parquet_source import SourceColumnError
from tests.support.feast_repository import at, entities, part

CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
SOURCE = FileSource(
    name="t", path="offline/t", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
)
FIELDS = [Field(name="customer_id", dtype=String), Field(name="n", dtype=Int64)]


class NoOnDemandViews:
    def list_on_demand_feature_views(self, *_, **__):
        return []

    def list_all_feature_views(self, *_, **__):
        return []


def view(name, ttl_hours=0, feature="n"):
    fields = [FIELDS[0], Field(name=feature, dtype=Int64)]
    ttl = timedelta(hours=ttl_hours)
    return FeatureView(name=name, entities=[CUSTOMER], schema=fields, source=SOURCE, ttl=ttl)


def query(home, *views, full=True):
    for each in views:  # what the registry would have inferred
        each.entity_columns = [FIELDS[0]]
    part(home, "t", "1", [("a", at(0), at(2), {"n": 1}), ("b", at(3), at(3), {"n": 2})], n=pa.int64())
    refs = [f"{each.name}:{each.features[0].name}" for each in views]
    return HistoricalQuery(Limits(home, 512, 2), NoOnDemandViews(), "world", list(views), refs, full)


def test_views_of_one_source_share_a_search_and_the_longest_age(tmp_path):
    short, long, forever = view("short", 1), view("long", 5), view("forever")
    (join,) = query(tmp_path, short, long)._joins
    assert join.ttl_us == 5 * 3_600_000_000
    (join,) = query(tmp_path, short, forever)._joins
    assert join.ttl_us is None
    table = query(tmp_path, short, long).at(entities(("a", at(4)), ("b", at(4)))).to_arrow()
    assert (table["short__n"].to_pylist(), table["long__n"].to_pylist()) == ([None, 2], [1, 2])


def test_what_is_known_without_running(tmp_path):
    job = query(tmp_path, view("usage")).at(entities(("a", at(4)), ("b", at(2)), row=[1, 2]))
    assert job.to_reader().schema.names == ["customer_id", "event_timestamp", "row", "usage__n"]
    assert (job.metadata.keys, job.metadata.min_event_timestamp) == (["customer_id", "row"], at(2))


def test_a_range_needs_a_start_where_values_live_for_ever(tmp_path):
    with pytest.raises(EntityRowsError, match="start_date"):
        query(tmp_path, view("forever")).over(None, at(5))
    ranged = query(tmp_path, view("long", 4)).over(None, at(5)).to_arrow()
    assert ranged.select(["customer_id", "long__n"]).to_pylist() == [{"customer_id": "b", "long__n": 2}]


def test_names_that_clash_and_columns_that_lack_are_named(tmp_path):
    with pytest.raises(EntityRowsError, match="two views have a feature called n"):
        query(tmp_path, view("one"), view("two"), full=False).at(entities(("a", at(1))))
    with pytest.raises(SourceColumnError, match="nowhere"):
        query(tmp_path, view("one", feature="nowhere"))
