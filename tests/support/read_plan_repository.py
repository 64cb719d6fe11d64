"""A small Feast repository whose views show what can be read by plan and what can't."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RepoConfig
from feast.types import Array, Float64, Int64, String, UnixTimestamp

SQLITE = "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"
NOW = datetime.now(UTC).replace(microsecond=0)
SOURCE = FileSource(name="rows", path="rows.parquet", timestamp_field="event_timestamp")
KEYS = {"customer_id": String, "site_id": Int64}
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
site = Entity(name="site", join_keys=["site_id"], value_type=ValueType.INT64)


def view(name, *entities, ttl=timedelta(days=30), **fields):
    keys = [Field(name=each.join_key, dtype=KEYS[each.join_key]) for each in entities]
    schema = [*keys, *(Field(name=field, dtype=kind) for field, kind in fields.items())]
    return FeatureView(name=name, entities=list(entities), schema=schema, source=SOURCE, ttl=ttl)


bills = view("bills", customer, amount=Float64, paid_on=UnixTimestamp, items=Array(String))
calls = view("calls", customer, ttl=timedelta(0), calls=Int64)
sites = view("sites", site, visits=Int64)
visits = view("visits", customer, site, seen=Int64)
prices = view("prices", price=Float64)
twins = view("twins", customer, amount=Float64)
rate = RequestSource(name="rate", schema=[Field(name="rate", dtype=Int64)])


@on_demand_feature_view(sources=[bills, rate], schema=[Field(name="scaled", dtype=Float64)], mode="python")
def scaled(inputs):
    assert "calls" not in inputs  # what was not declared is kept from the function
    pairs = zip(inputs["amount"], inputs["rate"], strict=True)
    return {"scaled": [None if amount is None else amount * rate for amount, rate in pairs]}


@on_demand_feature_view(sources=[bills], schema=[Field(name="doubled", dtype=Float64)], mode="pandas")
def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
    found = pd.DataFrame()
    found["doubled"] = inputs["amount"] * 2
    return found


@on_demand_feature_view(sources=[bills], schema=[Field(name="single", dtype=Float64)], mode="python", singleton=True)
def single(inputs):
    return {"single": inputs["amount"]}


scaled.infer_features = doubled.infer_features = single.infer_features = lambda: None
both = FeatureService(name="both", features=[bills, calls, scaled])
OBJECTS = [customer, site, bills, calls, sites, visits, prices, twins, scaled, doubled, single, both]


def opened(folder, *, online=None, **registry) -> FeatureStore:
    """Register everything on a SQLite store of ours (or another ``online`` store) in this folder."""
    config = {
        "project": "plan",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}"} | registry,
        "online_store": online or {"type": SQLITE, "path": str(folder / "online.db")},
        "entity_key_serialization_version": 3,
    }
    pd.DataFrame(
        {
            "customer_id": ["a"],
            "site_id": [1],
            "event_timestamp": [NOW],
            "amount": [1.0],
            "calls": [1],
            "visits": [1],
            "seen": [1],
            "price": [1.0],
            "paid_on": [NOW],
            "items": [["x"]],
        }
    ).to_parquet(folder / "rows.parquet")
    store = FeatureStore(config=RepoConfig(repo_path=folder, **config))
    store.apply(OBJECTS)
    return store


def write(store, name, *rows, at=NOW):
    """Write rows (dicts) into a view with Feast's own writer."""
    frame = pd.DataFrame([{"event_timestamp": at, **row} for row in rows])
    store.write_to_online_store(name, frame)
