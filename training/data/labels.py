"""Labels of all published snapshots, computed from them: nothing is stored twice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd

from configs.settings import DataSettings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT, TTL_DAYS
from feature_repo.raw.snapshots.offline_rows import Reader, extract_known_at
from feature_repo.raw.snapshots.publication import Manifest, history, read_snapshot
from feature_repo.raw.snapshots.timing import label_rows, scored_at, staying

log = logging.getLogger(__name__)


def load_labels(home: Path, settings: DataSettings) -> pd.DataFrame:
    """Return customer_id, observed_at (datetime64[us, UTC]) and churned (bool), one row a label, oldest first.

    The declared first snapshot labels itself; each later one labels the customers of the one before who had not
    left, as of the instant at which they could first be scored. Labelled is only who was known at that instant: not
    whom a correction added afterwards, and of a month whose file came late only who stood in the month before. Two
    snapshots whose distance is not the label window, give or take ``label_window_tolerance_days``, give no labels:
    theirs would be of another window. Nor do dates at which all known values had expired. Empty (with these columns)
    where nothing is published.
    """
    return label_history(history(home), lambda manifest: read_snapshot(home, manifest), settings)


def label_history(every: Sequence[Manifest], read: Reader, settings: DataSettings) -> pd.DataFrame:
    """Return the labels that the versions ``every``, in the order of publication, give: see :func:`load_labels`."""
    live = {manifest.snapshot_date: manifest for manifest in every}
    parts = []
    earlier: Manifest | None = None
    for _, manifest in sorted(live.items()):
        if manifest.time == "declared":
            declared = _declared(every)
            parts.append(label_rows(read(manifest), declared.created_at, set(read(declared)[CUSTOMER])))
        elif earlier is not None and _one_window(earlier, manifest, settings):
            observed_at = _observed_at(every, earlier.snapshot_date, settings)
            if (known := _known_at(every, earlier.snapshot_date, observed_at)) is not None:
                # Who was known then, and had not left by what we know now.
                observed = staying(read(known)) & staying(read(earlier))
                parts.append(label_rows(read(manifest), observed_at, observed))
        earlier = manifest
    if not parts:
        return pd.DataFrame(columns=[CUSTOMER, OBSERVED_AT, LABEL])
    return pd.concat(parts, ignore_index=True)


def _declared(every: Sequence[Manifest]) -> Manifest:
    """Return the version of the declared snapshot that its observation date belongs to.

    Declaring it anew moves that date a microsecond; a correction after the next month has come does not.
    """
    return [manifest for manifest in every if manifest.time == "declared" and not manifest.late][-1]


def _observed_at(every: Sequence[Manifest], as_of: date, settings: DataSettings) -> datetime:
    """Return when the customers of ``as_of`` could first be scored: what later settings say does not move it."""
    first = next(manifest for manifest in every if manifest.snapshot_date == as_of)
    if first.time == "declared":
        return extract_known_at(_declared(every))
    # Of a late file, when it should have come: the customers were scored then, on what was known.
    return scored_at(as_of, settings.delivery_lag_hours) if first.late else first.created_at


def _known_at(every: Sequence[Manifest], as_of: date, instant: datetime) -> Manifest | None:
    """Return the version of the newest date, up to ``as_of``, that was known at ``instant``; None if too old."""
    known = [manifest for manifest in every if manifest.snapshot_date <= as_of and manifest.created_at <= instant]
    newest = max(known, key=lambda manifest: (manifest.snapshot_date, manifest.version))
    if instant - newest.event_at > timedelta(days=TTL_DAYS):
        log.warning("what was known on %s had expired: no labels of that date", instant.date())
        return None
    return newest


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
