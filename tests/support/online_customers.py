"""Customers of every kind in both offline tables, to be written online and read back, by this project and by Feast."""

from __future__ import annotations

import contextlib
import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from feast import FeatureStore
from feast.repo_config import RepoConfig

from configs.settings import Settings, load_settings
from feature_repo.contract import (
    ACTIVITY_SOURCE,
    ACTIVITY_VIEWS,
    CREATED_TIMESTAMP,
    CUSTOMER,
    EVENT_TIMESTAMP,
    SOURCE,
    STORED,
    TILES,
)
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import feature_rows
from feature_repo.stores.feature_store import REPO_PATH, repo_config
from feature_repo.stores.registration import apply
from tests.support.single_extract import simulate_snapshot

CUSTOMERS = 60
NOW = datetime.now(UTC)
FRESH = NOW.replace(microsecond=0) - timedelta(days=2)
STALE = FRESH - timedelta(days=70)
OLD = FRESH - timedelta(days=120)
SPECIAL = {
    "EXPIRED-1": {},
    "STALE-1": {},
    "WITHDRAWN-1": dict.fromkeys(feature.name for feature in STORED),
    "INCOMPLETE-1": {"contract_type": None},
    "NEWCOMER-1": {"tenure_months": 0, "total_charges_usd": None},
    "Žoë_ö.1": {"total_charges_usd": -0.0, "monthly_charges_usd": 1e-300},
}
"""Customer -> what differs from an ordinary one."""
STAMPED = {"EXPIRED-1": OLD, "STALE-1": STALE}
SILENT = ("NEWCOMER-1", "WITHDRAWN-1")
"""Of whom no event was ever delivered."""


@dataclass(frozen=True)
class Home:
    """A home with both tables and the definitions registered; nothing is online yet."""

    settings: Settings
    ids: tuple[str, ...]


def build(folder: Path) -> Home:
    settings = load_settings(home=folder)
    snapshot = normalise(simulate_snapshot(500, seed=5)).head(CUSTOMERS)
    plain = snapshot.head(1)
    append_table(folder, SOURCE, "plain", feature_rows(snapshot, FRESH, FRESH))
    for name, changes in SPECIAL.items():
        at = STAMPED.get(name, FRESH)
        row = plain.assign(
            **{CUSTOMER: name, **{key: pd.Series([value], plain.index) for key, value in changes.items()}}
        )
        append_table(folder, SOURCE, name.encode().hex(), feature_rows(row, at, at))
    ids = (*snapshot[CUSTOMER], *SPECIAL)
    rng = random.Random(3)
    for name, at in {"fresh": FRESH, "stale": STALE, "old": OLD}.items():
        those = [each for each in ids if STAMPED.get(each, FRESH) == at and each not in SILENT]
        append_table(folder, ACTIVITY_SOURCE, name, activity(those, at, rng))
    apply(settings)
    return Home(settings, ids)


def activity(customers, at: datetime, rng: random.Random) -> pa.Table:
    """Rows of the activity table, as a delivery at that instant leaves them; some tiles are empty, some negative."""
    today = int(at.timestamp()) // 86_400

    def row(customer):
        known = {tile.name: int(at.timestamp()) * 1_000_000 for tile in TILES if tile.dtype == "int64"}
        lists = {}
        for view in ACTIVITY_VIEWS:
            for tile in TILES:
                if tile.view == view.name and tile.dtype == "int64_list":
                    if tile.name.endswith(("_on", "_since")):
                        days = sorted(rng.sample(range(today - 89, today + 1), rng.choice([0, 1, 7, 60])))
                        lists[tile.name] = days
                    else:
                        lists[tile.name] = [rng.choice([-700, 0, 3, 90_000]) for _ in days]
        return {CUSTOMER: customer, **lists, **known, EVENT_TIMESTAMP: at, CREATED_TIMESTAMP: at}

    instant = pa.timestamp("us", "UTC")
    kinds = {"int64_list": pa.list_(pa.int64()), "int64": pa.int64()}
    tiles = [(tile.name, kinds[tile.dtype]) for tile in TILES]
    schema = pa.schema([(CUSTOMER, pa.string()), *tiles, (EVENT_TIMESTAMP, instant), (CREATED_TIMESTAMP, instant)])
    return pa.Table.from_pylist([row(each) for each in customers], schema)


def opened(home: Home, online: dict, *, stock: bool = False) -> FeatureStore:
    """Open the home on another online store; ``stock``: on Feast's own classes, readers and writers."""
    config = repo_config(home.settings) | {"online_store": online}
    if stock:
        short = "redis" if "Redis" in online["type"] else "sqlite"
        config |= {"online_store": online | {"type": short}, "batch_engine": {"type": "local"}}
    return FeatureStore(config=RepoConfig(repo_path=REPO_PATH, **config))


def bring_online(store: FeatureStore) -> None:
    """Materialise everything, as it went in life: what has expired by now was fresh once."""
    with contextlib.redirect_stdout(io.StringIO()):
        for end in (OLD, NOW):
            store.materialize(start_date=end - timedelta(days=92), end_date=end)
