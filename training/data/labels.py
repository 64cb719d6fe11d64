"""Churn labels, computed from the published snapshots; not stored.

See docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd

from configs.settings import DataSettings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT, TTL_DAYS
from feature_repo.raw.snapshots.offline_rows import Reader, extract_known_at
from feature_repo.raw.snapshots.publication import SnapshotManifest, read_snapshot, snapshot_history
from feature_repo.raw.snapshots.timing import label_rows, scored_at, staying

log = logging.getLogger(__name__)


def load_labels(home: Path, settings: DataSettings) -> pd.DataFrame:
    """Return the labels of all published snapshots, one row per label, oldest first.

    Columns: customer_id, observed_at (datetime64[us, UTC]), churned (bool). The declared first snapshot holds its own
    labels. Each later snapshot labels the customers of the previous one who had not left, observed at the instant at
    which they could first be scored. Only customers known at that instant are labelled: none that a correction added
    afterwards, and for a month whose file came late only those of the month before. Two snapshots give no labels if
    their distance differs from the label window by more than ``label_window_tolerance_days``: their labels would be of
    another window. Nor does a date at which all known values had expired. Empty (with these columns) where nothing is
    published.

    Parameters
    ----------
    home
        The home.
    settings
        Label window, its tolerance and the delivery lag.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from training.data.labels import load_labels
    >>> labels = load_labels(Path(tempfile.mkdtemp()), load_settings().data)
    >>> labels.columns.tolist(), len(labels)
    (['customer_id', 'observed_at', 'churned'], 0)
    """
    return label_history(snapshot_history(home), lambda manifest: read_snapshot(home, manifest), settings)


def label_history(every: Sequence[SnapshotManifest], read: Reader, settings: DataSettings) -> pd.DataFrame:
    """Return the labels of the versions ``every`` (in order of publication); see :func:`load_labels`."""
    live = {manifest.snapshot_date: manifest for manifest in every}
    parts = []
    earlier: SnapshotManifest | None = None
    for _, manifest in sorted(live.items()):
        if manifest.time == "declared":
            declared = _declared(every)
            parts.append(label_rows(read(manifest), declared.created_at, set(read(declared)[CUSTOMER])))
        elif earlier is not None and _one_window(earlier, manifest, settings):
            observed_at = _observed_at(every, earlier.snapshot_date, settings)
            if (known := _known_at(every, earlier.snapshot_date, observed_at)) is not None:
                # Customers known at that instant, and not known today to have left by then.
                observed = staying(read(known)) & staying(read(earlier))
                parts.append(label_rows(read(manifest), observed_at, observed))
        earlier = manifest
    if not parts:
        return pd.DataFrame(columns=[CUSTOMER, OBSERVED_AT, LABEL])
    return pd.concat(parts, ignore_index=True)


def _declared(every: Sequence[SnapshotManifest]) -> SnapshotManifest:
    """Return the version of the declared snapshot that determines its observation date.

    Publishing it again as declared moves that date by a microsecond; a correction after the next month does not.
    """
    return [manifest for manifest in every if manifest.time == "declared" and not manifest.late][-1]


def _observed_at(every: Sequence[SnapshotManifest], as_of: date, settings: DataSettings) -> datetime:
    """Return when the customers of ``as_of`` could first be scored; later settings do not move it."""
    first = next(manifest for manifest in every if manifest.snapshot_date == as_of)
    if first.time == "declared":
        return extract_known_at(_declared(every))
    # For a late file, the instant at which it was due: customers were scored then, on the values known.
    return scored_at(as_of, settings.delivery_lag_hours) if first.late else first.created_at


def _known_at(every: Sequence[SnapshotManifest], as_of: date, instant: datetime) -> SnapshotManifest | None:
    """Return the version of the newest date up to ``as_of`` known at ``instant``; None if expired."""
    known = [manifest for manifest in every if manifest.snapshot_date <= as_of and manifest.created_at <= instant]
    newest = max(known, key=lambda manifest: (manifest.snapshot_date, manifest.version))
    if instant - newest.event_at > timedelta(days=TTL_DAYS):
        log.warning("what was known on %s had expired: no labels of that date", instant.date())
        return None
    return newest


def _one_window(earlier: SnapshotManifest, later: SnapshotManifest, settings: DataSettings) -> bool:
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
