"""Labels of all published snapshots, computed from them: nothing is stored twice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from feature_repo.raw.publication import Manifest, published, read_snapshot
from training.snapshot import label_rows, scored_at


def load_labels(home: Path, delivery_lag_hours: float) -> pd.DataFrame:
    """Return customer_id, observed_at (datetime64[us, UTC]) and churned (bool), one row a label, oldest first.

    The declared first snapshot labels itself; each later one labels the customers observed in the one before.
    Empty (with these columns) where nothing is published.
    """
    parts = []
    earlier: tuple[Manifest, pd.DataFrame] | None = None
    for manifest in published(home):
        snapshot = read_snapshot(home, manifest)
        if manifest.time == "declared":
            parts.append(label_rows(snapshot, manifest.created_at, None))
        elif earlier is not None:
            before, rows = earlier
            parts.append(label_rows(snapshot, scored_at(before.snapshot_date, delivery_lag_hours), rows))
        earlier = (manifest, snapshot)
    if not parts:
        return pd.DataFrame(columns=[CUSTOMER, OBSERVED_AT, LABEL])
    return pd.concat(parts, ignore_index=True)
