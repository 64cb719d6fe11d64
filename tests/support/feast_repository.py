"""A small Feast repository of its own in a folder, on this project's offline store or on Feast's."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from feast import FeatureStore
from feast.repo_config import RepoConfig

from feature_repo.files.parquet_tables import append_table

READ_ONLY = Path("/sys" if sys.platform == "linux" else "/System")
"""A folder of the operating system in which nobody, root included, can make a file."""
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    """Return an instant so many hours after the start."""
    return START + timedelta(hours=hours)


def open_world(home, objects, offline=None) -> FeatureStore:
    """Return a store with ``objects`` registered (none: as it was left).

    ``offline`` overrides the offline store's configuration.
    """
    home.mkdir(parents=True, exist_ok=True)
    config = {
        "project": "world",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{home / 'registry.db'}"},
        "offline_store": {"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(home), **(offline or {})},
        "online_store": {"type": "sqlite", "path": str(home / "online.db")},
        "entity_key_serialization_version": 3,
    }
    if offline and offline.get("type") in {"duckdb", "dask"}:
        config["offline_store"] = offline
    store = FeatureStore(config=RepoConfig(repo_path=home, **config))
    if objects:
        store.apply(objects)
    return store


def part(home, table, name, rows, key_type=None, **types):
    """Write rows (key, event, created, values as a dict) as one part of a table."""
    columns = {
        "customer_id": pa.array([row[0] for row in rows], key_type or pa.string()),
        "event_timestamp": pa.array([row[1] for row in rows], pa.timestamp("us", "UTC")),
        "created_timestamp": pa.array([row[2] for row in rows], pa.timestamp("us", "UTC")),
    }
    for column, kind in types.items():
        columns[column] = pa.array([row[3][column] for row in rows], kind)
    return append_table(home, table, name, pa.table(columns))


def entities(*rows, **more):
    """Return an entity frame of (key, instant) rows."""
    frame = pd.DataFrame({"customer_id": [row[0] for row in rows], "event_timestamp": [row[1] for row in rows]})
    return frame.assign(**more)
