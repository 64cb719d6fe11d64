"""A small shop on this project's stores, for what Feast's public API promises: accounts, visits, balances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RequestSource,
    ValueType,
)
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RepoConfig
from feast.types import Array, Float64, Int64, String

from feature_repo.files.parquet_tables import append_table

NOW = datetime.now(UTC).replace(microsecond=0)
STAMPS = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}
TTL = timedelta(days=10)
KINDS = ["sqlite", "redis"]
PROJECT = "shop"


def ago(hours: float) -> datetime:
    """Return the instant so many hours before the tests began."""
    return NOW - timedelta(hours=hours)


VISITS = [
    # account, event, created, visits, spend, days, note
    (1, ago(48), ago(47), 1, 1.5, [1, 2], "first"),
    (1, ago(48), ago(40), 11, 1.5, [1, 2], "corrected"),
    (1, ago(24), ago(20), 2, 4.0, [], None),
    (2, ago(30), ago(30), 7, None, None, "only"),
    (3, ago(300), ago(300), 9, 9.0, [9], "expired"),
    (4, ago(10), ago(5), 4, 8.0, [4], "late"),
]
"""What each account did, told when it arrived: a correction, nulls, an empty list, an expired row, a late one."""
BALANCES = [(1, "north", ago(30), 10.0), (1, "south", ago(30), 20.0), (2, "north", ago(30), 30.0)]


def objects() -> list[object]:
    """Return new definitions: Feast completes them in place, so each registration has its own."""
    account = Entity(
        name="account",
        join_keys=["account_id"],
        value_type=ValueType.INT64,
        owner="crm@shop.example",
        tags={"pii": "yes"},
    )
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
    rows = FileSource(name="visit_rows", path="offline/visits/*.parquet", **STAMPS)
    push = PushSource(name="visit_push", batch_source=rows)
    balances = FileSource(name="balance_rows", path="offline/balances", **STAMPS)
    visits = FeatureView(
        name="visits",
        entities=[account],
        schema=[
            Field(name="account_id", dtype=Int64),
            Field(name="visits", dtype=Int64, description="Visits of the week", tags={"unit": "visits"}),
            Field(name="spend", dtype=Float64),
            Field(name="days", dtype=Array(Int64)),
            Field(name="note", dtype=String),
        ],
        source=push,
        ttl=TTL,
        owner="crm@shop.example",
        tags={"refreshed": "daily"},
        description="What an account did",
    )
    standing = FeatureView(
        name="standing",
        entities=[account, shop],
        schema=[
            Field(name="account_id", dtype=Int64),
            Field(name="shop_id", dtype=String),
            Field(name="balance", dtype=Float64),
        ],
        source=balances,
        ttl=timedelta(0),
    )
    question = RequestSource(name="question", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(
        sources=[visits, question],
        schema=[Field(name="a_visit", dtype=Float64), Field(name="scaled", dtype=Float64)],
        mode="python",
    )
    def rates(inputs):
        pairs = list(zip(inputs["spend"], inputs["visits"], strict=True))
        return {
            "a_visit": [None if spend is None or not visits else spend / visits for spend, visits in pairs],
            "scaled": [
                None if spend is None else spend * factor
                for (spend, _), factor in zip(pairs, inputs["factor"], strict=True)
            ],
        }

    rates.infer_features = lambda: None
    logs = LoggingConfig(destination=FileLoggingDestination(path="logs/spend"))
    plain = FeatureService(
        name="spend_v1", features=[visits[["spend", "visits"]]], logging_config=logs, owner="crm@shop.example"
    )
    computed = FeatureService(name="rates_v1", features=[visits[["spend"]], rates])
    return [account, shop, rows, push, balances, visits, standing, question, rates, plain, computed]


def fill(home: Path) -> None:
    """Write the offline tables of a home."""
    instant = pa.timestamp("us", "UTC")
    names = ["account_id", "event_timestamp", "created_timestamp", "visits", "spend", "days", "note"]
    kinds = [pa.int64(), instant, instant, pa.int64(), pa.float64(), pa.list_(pa.int64()), pa.string()]
    append_table(home, "visits", "first", _table(VISITS, names, kinds))
    names = ["account_id", "shop_id", "event_timestamp", "balance", "created_timestamp"]
    kinds = [pa.int64(), pa.string(), instant, pa.float64(), instant]
    append_table(home, "balances", "first", _table([(*row, row[2]) for row in BALANCES], names, kinds))


def _table(rows, names, kinds) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        {name: pa.array(list(column), kind) for name, kind, column in zip(names, kinds, columns, strict=True)}
    )


def configuration(home: Path, kind: str, redis_port: int | None = None) -> dict[str, object]:
    """Return feature_store.yaml's content for the product's own four classes; Redis database 11."""
    online = {"type": "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore", "path": str(home / "online.db")}
    if kind == "redis":
        online = {
            "type": "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
            "connection_string": f"127.0.0.1:{redis_port},db=11",
        }
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{home / 'registry.db'}", "cache_ttl_seconds": 60},
        "offline_store": {"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(home)},
        "online_store": online,
        "batch_engine": {"type": "feature_repo.stores.engine.ColumnarComputeEngine"},
        "entity_key_serialization_version": 3,
    }


def open_shop(home: Path, kind: str, redis_port: int | None = None) -> FeatureStore:
    """Open the store of a home; its repository is another folder, as with a clone and a home of its own."""
    repository = home.parent / "repository"
    repository.mkdir(exist_ok=True)
    return FeatureStore(config=RepoConfig(repo_path=repository, **configuration(home, kind, redis_port)))
