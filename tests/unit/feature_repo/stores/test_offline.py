"""What the store says of sources, and the little it does to instants on the way in."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from feast import FileSource
from feast.repo_config import RepoConfig

from feature_repo.stores.offline import AsofOfflineStore, _naive_as_utc, _utc
from feature_repo.stores.point_in_time.parquet_source import SourceColumnError, micros
from tests.support.feast_repository import at, part


def config(home):
    store = {"type": "feature_repo.stores.offline.AsofOfflineStore", "home": "."}
    registry = {"registry_type": "sql", "path": "sqlite://"}
    return RepoConfig(
        project="p",
        provider="local",
        registry=registry,
        offline_store=store,
        repo_path=home,
        entity_key_serialization_version=3,
    )


def source(path):
    return FileSource(name="t", path=path, timestamp_field="event_timestamp")


def pulled(home, column):
    return AsofOfflineStore.pull_all_from_table_or_query(
        config(home), source("offline/t"), ["customer_id"], [column], "event_timestamp"
    )


def test_the_home_is_relative_to_the_repository(tmp_path):
    part(tmp_path, "t", "1", [("a", at(0), at(0), {"n": 1})], n=pa.int64())
    assert pulled(tmp_path, "n").to_arrow()["n"].to_pylist() == [1]
    with pytest.raises(SourceColumnError, match="no column nowhere"):
        pulled(tmp_path, "nowhere").to_arrow()


def test_a_sources_columns_are_its_files(tmp_path):
    part(tmp_path, "t", "1", [("a", at(0), at(0), {"n": 1})], n=pa.int64())
    names = AsofOfflineStore().get_table_column_names_and_types_from_data_source(config(tmp_path), source("offline/t"))
    assert dict(names)["n"] == "int64"


def test_a_relative_source_may_be_empty_yet_and_an_absolute_one_is_warned_of(tmp_path, caplog):
    AsofOfflineStore().validate_data_source(config(tmp_path), source("offline/nothing"))
    assert not caplog.records
    AsofOfflineStore().validate_data_source(config(tmp_path), source(str(tmp_path / "nothing.parquet")))
    assert "does not exist" in caplog.text
    part(tmp_path, "t", "1", [("a", at(0), at(0), {"n": 1})], n=pa.int64())
    caplog.clear()
    AsofOfflineStore().validate_data_source(config(tmp_path), source(f"{tmp_path}/offline/t/*.parquet"))
    assert not caplog.records


def test_feasts_own_stores_ask_a_source_as_before(tmp_path):
    part(tmp_path, "t", "1", [("a", at(0), at(0), {"n": 1})], n=pa.int64())
    other = config(tmp_path).model_copy(update={"offline_config": {"type": "dask"}})
    other._offline_store = None
    assert dict(source("offline/t").get_table_column_names_and_types(other))["n"] == "int64"
    with pytest.raises(FileNotFoundError):
        source("offline/t/*.parquet").get_table_column_names_and_types(other)


def test_instants_without_a_zone_are_utc():
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the case
    aware = datetime(2026, 1, 1, tzinfo=UTC)
    assert (_utc(naive), _utc(None), micros(naive)) == (aware, None, micros(aware))
    table = pa.table({"t": pa.array([naive], pa.timestamp("us")), "n": [1]})
    fitted = _naive_as_utc(table, pa.schema([("t", pa.timestamp("us", "UTC")), ("n", pa.int64())]))
    assert (fitted["t"].to_pylist(), fitted["n"].to_pylist()) == ([aware], [1])
