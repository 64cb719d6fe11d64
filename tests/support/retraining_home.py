"""A home with months of a small base, ready to be trained on: published without the gate, built, registered."""

from __future__ import annotations

import functools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from configs.settings import Settings, load_settings
from feature_repo.raw.snapshots.publication import snapshot_history
from feature_repo.raw.snapshots.timing import arrival
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from tests.support.monthly_extracts import instant, month, next_month, publish_rows
from tests.support.single_extract import simulate_snapshot
from training.registry import version_of

CUSTOMERS, MONTHS = 900, 3
SMALL = {"trials": 1, "folds": 2, "tuning_timeout_s": 60}
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def settings_of(home: Path) -> Settings:
    """Settings of a home that trains in a second; a few hundred rows are enough to judge by."""
    found = load_settings(home=home)
    training = found.training.model_copy(update=SMALL)
    promotion = found.promotion.model_copy(update={"bootstrap_replicates": 500})
    return found.model_copy(update={"training": training, "promotion": promotion})


@functools.cache
def extracts(customers: int = CUSTOMERS, months: int = MONTHS + 2, seed: int = 3) -> tuple[pd.DataFrame, ...]:
    """Raw extracts, one a month: who left is gone in the next one, and some join."""
    found = [simulate_snapshot(customers, seed)]
    for number in range(1, months):
        found.append(next_month(found[-1], number, joiners=customers // 10))
    return tuple(found)


def land(settings: Settings, number: int, extract: pd.DataFrame) -> None:
    """Publish an extract for its month, on the day it is of, and build what Feast reads."""
    home, day = settings.home, month(number)
    at = instant(day) + timedelta(hours=5)
    when = arrival(
        snapshot_history(home),
        day,
        at,
        label_window_days=settings.data.label_window_days,
        delivery_lag_hours=settings.data.delivery_lag_hours,
    )
    publish_rows(home, day, extract, when, at, home.parent / f"extract-{number}.csv")
    build_features(settings)


def make(home: Path, months: int = MONTHS) -> Settings:
    """Make the home anew."""
    settings = settings_of(home)
    for number in range(months):
        land(settings, number, extracts()[number])
    apply(settings)
    # MLflow's tables are made once, before the home is copied; no run is in them.
    assert version_of(settings, "champion") is None
    return settings


def copy(made: Settings, home: Path) -> Settings:
    """Copy a home, so that each test may change its own."""
    shutil.copytree(made.home, home)
    return settings_of(home)


def seeded(settings: Settings, seed: int) -> Settings:
    """Other settings, hence another fingerprint and another model of the same data."""
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
