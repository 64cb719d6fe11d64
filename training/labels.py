"""Labels of all published snapshots, computed from them: nothing is stored twice."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

import pandas as pd

from configs.settings import DataSettings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from feature_repo.raw.publication import Manifest, published, read_snapshot, versions
from training.snapshot import label_rows, scored_at

log = logging.getLogger(__name__)


def load_labels(home: Path, settings: DataSettings) -> pd.DataFrame:
    """Return customer_id, observed_at (datetime64[us, UTC]) and churned (bool), one row a label, oldest first.

    The declared first snapshot labels itself; each later one labels the customers observed in the one before, as
    that was known when they could first be scored (a customer whom a later correction added was not). Two snapshots
    whose distance is not the label window, give or take ``label_window_tolerance_days``, give no labels: theirs
    would be of another window. Empty (with these columns) where nothing is published.
    """
    parts = []
    earlier: Manifest | None = None
    for manifest in published(home):
        snapshot = read_snapshot(home, manifest)
        if manifest.time == "declared":
            parts.append(label_rows(snapshot, manifest.created_at, None))
        elif earlier is not None and _one_window(earlier, manifest, settings):
            observed_at = scored_at(earlier.snapshot_date, settings.delivery_lag_hours)
            parts.append(label_rows(snapshot, observed_at, read_snapshot(home, _known_at(home, earlier, observed_at))))
        earlier = manifest
    if not parts:
        return pd.DataFrame(columns=[CUSTOMER, OBSERVED_AT, LABEL])
    return pd.concat(parts, ignore_index=True)


def _one_window(earlier: Manifest, later: Manifest, settings: DataSettings) -> bool:
    days = (later.snapshot_date - earlier.snapshot_date).days
    fits = abs(days - settings.label_window_days) <= settings.label_window_tolerance_days
    if not fits:
        log.warning(
            "snapshots %s and %s are %d days apart and give no labels: the window is %d days",
            earlier.snapshot_date,
            later.snapshot_date,
            days,
            settings.label_window_days,
        )
    return fits


def _known_at(home: Path, live: Manifest, instant: datetime) -> Manifest:
    """Return the version of ``live``'s date that was known at ``instant``: the last to arrive until then."""
    known = [version for version in versions(home, live.snapshot_date) if version.created_at <= instant]
    return known[-1] if known else live
