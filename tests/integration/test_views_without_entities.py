"""A view without entities is one row: it gets online, and is read, like any other."""

import contextlib
import io
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, String
from redis import Redis

from tests.support.materialisation_store import ENGINE, NOON

HOUR = timedelta(hours=1)


@pytest.fixture(params=["sqlite", "redis"])
def online(request, tmp_path):
    if request.param == "sqlite":
        return {
            "type": "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore",
            "path": str(tmp_path / "online.db"),
        }
    port = request.getfixturevalue("redis_server")
    with Redis(port=port, db=7) as client:
        client.flushdb()
    return {
        "type": "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
        "connection_string": f"127.0.0.1:{port},db=7",
    }


def opened(folder, online, engine):
    return FeatureStore(
        config=RepoConfig(
            project="whole",
            provider="local",
            repo_path=str(folder),
            registry={"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}"},
            offline_store={"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(folder)},
            online_store=online,
            batch_engine={"type": engine},
            entity_key_serialization_version=3,
        )
    )


@pytest.mark.parametrize("engine", [ENGINE, "local"])
def test_it_is_materialised_and_read(online, engine, tmp_path):
    store = opened(tmp_path, online, engine)
    source = FileSource(
        name="rates", path="offline/rates/*.parquet", timestamp_field="event", created_timestamp_column="created"
    )
    rate = FeatureView(
        name="rate", entities=[], schema=[Field(name="x", dtype=Float64)], source=source, ttl=timedelta(days=30)
    )
    customer = Entity(name="customer", join_keys=["id"], value_type=ValueType.STRING)
    own = FeatureView(
        name="own",
        entities=[customer],
        schema=[Field(name="id", dtype=String), Field(name="y", dtype=Float64)],
        source=source,
        ttl=timedelta(days=30),
    )
    stamp = pa.timestamp("us", "UTC")
    rows = pa.table(
        {
            "id": ["a", "b", "a"],
            "x": [1.0, 2.0, 3.0],
            "y": [1.0, 2.0, 3.0],
            "event": pa.array([NOON - HOUR, NOON, NOON - 2 * HOUR], stamp),
            "created": pa.array([NOON - HOUR, NOON + (HOUR if engine == ENGINE else -HOUR), NOON - 2 * HOUR], stamp),
        }
    )
    (tmp_path / "offline" / "rates").mkdir(parents=True)
    pq.write_table(rows, tmp_path / "offline" / "rates" / "1.parquet")
    store.apply([customer, source, rate, own])

    def read():
        whole = store.get_online_features(["rate:x"], [{}]).to_dict()["x"]
        beside = store.get_online_features(["rate:x", "own:y"], [{"id": "a"}, {"id": "b"}]).to_dict()
        return whole, beside["x"], beside["y"]

    def materialize(end):
        with contextlib.redirect_stdout(io.StringIO()):
            store.materialize(NOON - timedelta(days=1), end)

    materialize(NOON)
    if engine == ENGINE:
        # The row of noon came an hour later.
        assert read() == ([1.0], [1.0, 1.0], [1.0, None])
        materialize(NOON + HOUR)
    assert read() == ([2.0], [2.0, 2.0], [1.0, 2.0])
