"""A customer base that can be scored and watched: extracts published by hand, features built, a champion promoted."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd

from bentos.bundle import Bundle
from bentos.decisions.reason_codes import PATH as REASON_CODES
from bentos.rollout.rollout import promote
from configs.settings import Settings, load_settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT, SOURCE
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.changes import snapshot_changes
from feature_repo.raw.snapshots.publication import SnapshotManifest, land_raw, publish_snapshot, snapshot_history
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import arrival, feature_rows
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from monitoring.quality_report import GateResult, gate_to_json
from tests.support.single_extract import simulate_snapshot, write_csv
from tests.support.small_model import fitted_model, manifest
from training.data.heldout import save_heldout
from training.data.labels import load_labels

FIRST = date(2026, 1, 31)
CUSTOMERS = 700
GATE = gate_to_json(GateResult(passed=True, rows=CUSTOMERS, blank_totals=0, quarantined=(), checks=()))


def day(month: int) -> date:
    """The date of an extract, month 0 is the first."""
    return FIRST + timedelta(days=30 * month)


def scored(month: int) -> datetime:
    """When the customers of a month are scored."""
    return datetime.combine(day(month), time(6), UTC)


def deliver(settings: Settings, month: int, extract: pd.DataFrame) -> SnapshotManifest:
    """Publish a raw extract as that of a month, without the gate, and build the features."""
    home, limits = settings.home, settings.data
    csv = home.parent / f"{month}.csv"
    write_csv(extract, csv)
    snapshot = normalise(extract)
    at = scored(month) - timedelta(hours=1)
    seen = arrival(
        snapshot_history(home),
        day(month),
        at,
        label_window_days=limits.label_window_days,
        delivery_lag_hours=limits.delivery_lag_hours,
    )
    moved = snapshot_changes(snapshot, None, (), named=None)
    published = publish_snapshot(
        home,
        day(month),
        snapshot,
        pd.DataFrame(),
        raw=land_raw(home, csv, day(month)),
        time=seen.time,
        event_at=seen.event_at,
        created_at=seen.created_at,
        ingested_at=at,
        replace=True,
        extra_files={"gate.json": GATE.encode(), "movements.json": moved.to_json().encode()},
    ).manifest
    build_features(settings)
    apply(settings)
    return published


def first_extract(customers: int = CUSTOMERS, seed: int = 7) -> pd.DataFrame:
    return simulate_snapshot(customers, seed)


def add(settings: Settings, name: str, rows: pd.DataFrame, known: datetime) -> None:
    """Append rows (as of a snapshot) to the offline table, true and known at an instant."""
    append_table(settings.home, SOURCE, name, feature_rows(rows, known, known))


def bundle(home: Path, **changes: object) -> Bundle:
    """A model of the first extract's customers, saved; ``changes`` go into its manifest."""
    linear, trees = fitted_model(CUSTOMERS).parts()
    return Bundle(manifest(**changes), linear, trees, REASON_CODES.read_text("utf-8")).save(home)


def crown(settings: Settings, champion: Bundle, month: int) -> None:
    """Make a bundle the champion, measured on the newest labels that were known in a month."""
    labels = load_labels(settings.home, settings.data)
    known = labels[labels[OBSERVED_AT] <= scored(month)]
    newest = known[known[OBSERVED_AT] == known[OBSERVED_AT].max()]
    save_heldout(settings.home, champion.digest, newest[[CUSTOMER, OBSERVED_AT, LABEL]])
    promote(settings.home, champion.digest, who="tests", why="a champion", now=scored(month))


def world(home: Path) -> Settings:
    """A home with one extract, and a champion measured on the bootstrap's labels."""
    settings = load_settings(home=home)
    settings = settings.model_copy(update={"batch": settings.batch.model_copy(update={"chunk_customers": 200})})
    deliver(settings, 0, first_extract())
    crown(settings, bundle(home), 0)
    return settings
