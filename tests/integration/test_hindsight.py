"""No value that had not arrived: a request for one is refused, and where nothing else is left it is told."""

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String

from feature_repo.stores.offline import AsofOfflineStore, HindsightError
from tests.support.feast_repository import at, entities, open_world, part


@pytest.fixture
def store(tmp_path):
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(
        name="usage",
        path="offline/usage/*.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    fields = [Field(name="customer_id", dtype=String), Field(name="n", dtype=Int64)]
    part(tmp_path, "usage", "1", [("a", at(0), at(48), {"n": 1}), ("b", at(0), at(0), {"n": 2})], n=pa.int64())
    return open_world(
        tmp_path, [customer, source, FeatureView(name="usage", entities=[customer], schema=fields, source=source)]
    )


def test_history_that_was_loaded_later_is_told(store, caplog):
    asked = store.get_historical_features(entities(("a", at(24))), ["usage:n"], filter_by_created_timestamp=False)
    assert asked.to_df()["n"].isna().all()
    assert "usage: values of 1 of 1 entity rows were created after the rows' instants" in caplog.text


@pytest.mark.parametrize("rows", [[("a", at(48))], [("a", at(24)), ("b", at(24))], [("nobody", at(24))]])
def test_nothing_is_told_of_what_is_found_or_never_was(store, caplog, rows):
    store.get_historical_features(entities(*rows), ["usage:n"]).to_df()
    assert not caplog.records


def test_a_request_for_hindsight_is_refused(store):
    with pytest.raises(HindsightError, match="not known at the rows' instants"):
        AsofOfflineStore.get_historical_features(
            store.config, [], [], None, store.registry, "world", filter_by_created_timestamp=False
        )
