"""A small world to learn from, in memory: simulated customers, their features, a model and its bundle."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from bentos.bundle import Bundle, Manifest
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL, OBSERVED_AT, SERVICES_OF, STORED, features_of
from feature_repo.definition_hash import contract_hash
from feature_repo.raw.snapshots.publication import land_raw, live_version, publish_snapshot, published_snapshots
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import snapshot_observation
from feature_repo.stores.casting import to_dataframe
from feature_repo.transforms import derive
from tests.support.single_extract import simulate_snapshot, write_csv
from training.data.training_set import TrainingSet
from training.model.estimator import BlendedChurnClassifier, HyperParameters

ROWS = 400
OBSERVED = datetime(2026, 1, 1, 6, tzinfo=UTC)
REASONS = '[[reason]]\ncode = "SHORT_TENURE"\n'


@functools.cache
def _snapshot(customers: int, seed: int) -> pd.DataFrame:
    return normalise(simulate_snapshot(customers, seed))


def simulated(customers: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """A published snapshot of simulated customers."""
    return _snapshot(customers, seed).copy()


def features_of_snapshot(snapshot: pd.DataFrame) -> pd.DataFrame:
    """Model inputs straight from a snapshot, without a store."""
    columns = {feature.name: snapshot[feature.name].tolist() for feature in STORED}
    return to_dataframe(features_of(CORE_SERVICE), columns | derive(columns))


def training_set(snapshot: pd.DataFrame, observed_at: datetime = OBSERVED) -> TrainingSet:
    """The snapshot as labelled observations of one date."""
    keys = snapshot[[CUSTOMER, LABEL]].reset_index(drop=True)
    keys.insert(1, OBSERVED_AT, pd.Timestamp(observed_at))
    keys[OBSERVED_AT] = keys[OBSERVED_AT].astype("datetime64[us, UTC]")
    return TrainingSet(keys, features_of_snapshot(snapshot), CORE_SERVICE, contract_hash(CORE_SERVICE))


@functools.cache
def fitted_model(customers: int = ROWS, seed: int = 7) -> BlendedChurnClassifier:
    """The blend, fitted on simulated customers with few rounds."""
    snapshot = simulated(customers, seed)
    return BlendedChurnClassifier(HyperParameters(rounds=30), seed).fit(
        features_of_snapshot(snapshot), snapshot[LABEL].to_numpy(dtype=bool)
    )


def manifest(**changes: object) -> Manifest:
    """The manifest of a bundle that was not saved yet."""
    values = {
        "model_version": "20260101T060000",
        "service": CORE_SERVICE,
        "contract_hash": contract_hash(CORE_SERVICE),
        "features": SERVICES_OF[CORE_SERVICE],
        "threshold": 0.25,
        "threshold_policy": "fixed for tests",
        "tree_weight": HyperParameters().tree_weight,
        "calibration": (1.0, 0.0),
        "metrics": {"roc_auc": 0.84},
        "time": "declared",
        "snapshots": ("2026-01-01.v1",),
        "git_commit": "none",
        "created_at": "2026-01-01T06:00:00+00:00",
        "files": {},
    }
    return Manifest(**(values | changes))


def small_bundle(**changes: object) -> Bundle:
    """The bundle of :func:`fitted_model`, unsaved; ``changes`` go into its manifest."""
    linear, trees = fitted_model().parts()
    return Bundle(manifest(**changes), linear, trees, REASONS)


def saved(home: Path, **changes: object) -> tuple[Bundle, Path]:
    """The bundle and the folder that it was saved in."""
    bundle = small_bundle(**changes).save(home)
    return bundle, home / "bundles" / bundle.digest


def labels_of(snapshot: pd.DataFrame) -> np.ndarray:
    return snapshot[LABEL].to_numpy(dtype=bool)


def publish_month(home: Path, day: date, churn: Mapping[str, str], *, replace: bool = False) -> None:
    """Publish a snapshot of the customers named in ``churn`` ("Yes" or "No"), from a CSV, without the gate."""
    rows = simulate_snapshot(len(churn), seed=3).assign(customerID=list(churn), Churn=list(churn.values()))
    csv = home.parent / f"{day}-{len(churn)}.csv"
    write_csv(rows, csv)
    live, now = live_version(home, day), datetime(2026, 6, 1, tzinfo=UTC)
    seen = snapshot_observation(
        day,
        now,
        first=not published_snapshots(home) or published_snapshots(home)[0].snapshot_date >= day,
        version=live.version + 1 if live else 1,
        label_window_days=30,
        delivery_lag_hours=6,
    )
    publish_snapshot(
        home,
        day,
        normalise(rows),
        pd.DataFrame(),
        raw=land_raw(home, csv, day),
        time=seen.time,
        event_at=seen.event_at,
        created_at=seen.created_at,
        ingested_at=now,
        replace=replace,
        extra_files={"gate.json": b"{}"},
    )


def two_months(customers: int, *, poisoned: bool = False, seed: int = 7) -> TrainingSet:
    """Two observation dates of half the customers each; ``poisoned`` turns every label of the older one."""
    rows = training_set(simulated(customers, seed))
    older = np.arange(customers) < customers // 2
    dates = pd.Series(np.where(older, pd.Timestamp(OBSERVED), pd.Timestamp(OBSERVED) + pd.Timedelta(days=30)))
    churned = rows.churned.to_numpy(dtype=bool)
    keys = rows.keys.assign(
        **{
            OBSERVED_AT: pd.to_datetime(dates, utc=True).astype("datetime64[us, UTC]"),
            LABEL: np.where(older & poisoned, ~churned, churned),
        }
    )
    return TrainingSet(keys, rows.features, rows.service, rows.contract_hash)
