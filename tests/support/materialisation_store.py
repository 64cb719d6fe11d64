"""A small feature store for tests of materialisation: one append-only table, three views of it, every type."""

from __future__ import annotations

import contextlib
import io
import math
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.repo_config import RepoConfig
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)
from feast.value_type import ValueType
from redis import Redis

ENGINE = "feature_repo.stores.engine.ColumnarComputeEngine"
TTL_DAYS = 30
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCALARS = {
    "flag": (pa.bool_(), Bool),
    "small": (pa.int32(), Int32),
    "count": (pa.int64(), Int64),
    "ratio": (pa.float32(), Float32),
    "amount": (pa.float64(), Float64),
    "text": (pa.string(), String),
    "blob": (pa.binary(), Bytes),
    "since": (pa.timestamp("us", "UTC"), UnixTimestamp),
}
LISTS = {
    "flags": (pa.list_(pa.bool_()), Array(Bool)),
    "smalls": (pa.list_(pa.int32()), Array(Int32)),
    "counts": (pa.list_(pa.int64()), Array(Int64)),
    "ratios": (pa.list_(pa.float32()), Array(Float32)),
    "amounts": (pa.list_(pa.float64()), Array(Float64)),
    "texts": (pa.list_(pa.string()), Array(String)),
    "blobs": (pa.list_(pa.binary()), Array(Bytes)),
}
NUMBERS = {"number": (pa.int64(), Int64), "name": (pa.string(), String)}
"""The view that most tests write and read."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        *((name, arrow) for name, (arrow, _) in {**SCALARS, **LISTS, **NUMBERS}.items()),
        ("event", pa.timestamp("us", "UTC")),
        ("created", pa.timestamp("us", "UTC")),
    ]
)
EXTREMES = [
    {"id": "a", "flag": True, "small": -(2**31), "count": -(2**63), "ratio": -0.0, "amount": -0.0, "text": "x"},
    {"id": "b", "flag": False, "small": 2**31 - 1, "count": 2**63 - 1, "ratio": 1e-45, "amount": 5e-324, "text": ""},
    {"id": "ä 😀", "flag": True, "small": 0, "count": 0, "ratio": math.inf, "amount": math.nan, "text": "ä 😀"},
    {
        "id": "d" * 300,
        "flag": False,
        "small": -1,
        "count": -1,
        "ratio": math.nan,
        "amount": -math.inf,
        "text": "y" * 300,
    },
]
"""Every scalar that is easy to get wrong; no null, since Feast rounds integers beside one."""


def rows(*given: dict) -> pa.Table:
    """Return a table of the world's schema; what a row leaves out is null, its times are noon."""
    full = [dict.fromkeys(SCHEMA.names) | {"event": NOON, "created": NOON} | row for row in given]
    return pa.Table.from_pylist(full, SCHEMA)


class World:
    """A folder with a table and a registry; ``online`` is the store's configuration, ``engine`` the batch engine's."""

    def __init__(self, folder: Path, online: dict, engine: dict | None = None):
        self.folder, self.parts = folder, 0
        (folder / "offline" / "table").mkdir(parents=True, exist_ok=True)
        self.online = online
        self.store = self.open(engine or {"type": ENGINE})
        customer = Entity(name="customer", join_keys=["id"], value_type=ValueType.STRING)
        source = FileSource(
            name="table", path="offline/table/*.parquet", timestamp_field="event", created_timestamp_column="created"
        )
        self.views = {
            name: FeatureView(
                name=name,
                entities=[customer],
                source=source,
                ttl=timedelta(days=TTL_DAYS),
                schema=[
                    Field(name="id", dtype=String),
                    *(Field(name=name, dtype=dtype) for name, (_, dtype) in columns.items()),
                ],
            )
            for name, columns in {"scalars": SCALARS, "lists": LISTS, "numbers": NUMBERS}.items()
        }
        self.store.apply([customer, *self.views.values()])

    def open(self, engine: dict) -> FeatureStore:
        return FeatureStore(
            config=RepoConfig(
                project="world",
                provider="local",
                repo_path=str(self.folder),
                registry={"registry_type": "sql", "path": f"sqlite:///{self.folder / 'registry.db'}"},
                offline_store={"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(self.folder)},
                online_store=self.online,
                batch_engine=engine,
                entity_key_serialization_version=3,
            )
        )

    def add(self, *given: dict) -> None:
        """Append rows to the table, as one part."""
        self.add_table(rows(*given))

    def add_table(self, table: pa.Table) -> None:
        self.parts += 1
        pq.write_table(table, self.folder / "offline" / "table" / f"{self.parts:04d}.parquet")

    def materialize(self, end: datetime = NOON, views: list[str] | None = None) -> None:
        """Take the plain incremental way."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.store.materialize_incremental(end_date=end, feature_views=views)

    def watermarks(self) -> set[datetime | None]:
        """Return the views' watermarks as the registry holds them."""
        self.store.refresh_registry()
        return {view.most_recent_end_time for view in self.store.list_feature_views()}

    def numbers(self, *ids: str) -> list[int | None]:
        """Read ``numbers:number`` online."""
        read = self.store.get_online_features(["numbers:number"], [{"id": name} for name in ids])
        return read.to_dict()["number"]


def sqlite(folder: Path) -> dict:
    return {"type": "sqlite", "path": str(folder / "online.db")}


def redis(port: int, database: int, **more) -> dict:
    return {"type": "redis", "connection_string": f"127.0.0.1:{port},db={database}", **more}


def everything(online: dict) -> dict:
    """Return all that an online store holds, byte for byte."""
    if online["type"] == "redis":
        address, database = online["connection_string"].split(",")
        with Redis(port=int(address.rpartition(":")[2]), db=int(database.removeprefix("db="))) as client:
            return {key: client.hgetall(key) for key in client.scan_iter()}
    with contextlib.closing(sqlite3.connect(online["path"])) as connection:
        names = "world_scalars", "world_lists", "world_numbers"
        return {name: set(connection.execute(f"SELECT * FROM {name}")) for name in names}  # noqa: S608 - names of ours
