"""Offline table rows of a snapshot version: values, and withdrawals of former customers. Pure.

All rows together follow one rule: at any instant the newest date known by then determines the values. A customer in the
last known version of that date who has not left has the values in it; all other customers have none. A withdrawal is a
row whose stored features are all null, so that the newest row of a customer is always the valid one.
See docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

import pandas as pd

from feature_repo.contract import CUSTOMER, STORED
from feature_repo.raw.snapshots.publication import SnapshotManifest
from feature_repo.raw.snapshots.timing import NULLABLE, feature_rows, midnight, staying, withdrawal_rows

Reader = Callable[[SnapshotManifest], pd.DataFrame]


def offline_rows(manifest: SnapshotManifest, history: Sequence[SnapshotManifest], read: Reader) -> pd.DataFrame:
    """Return the rows that ``manifest`` adds to the offline table.

    There is at most one row per customer and pair of timestamps.

    Parameters
    ----------
    manifest
        The version to add.
    history
        All versions in the order of publication; those after ``manifest`` are ignored, so that the result does not
        depend on when it is built.
    read
        Returns a version's rows.

    Returns
    -------
    pd.DataFrame
        Columns as :func:`feature_repo.raw.snapshots.timing.feature_rows`, in pandas' nullable types. Values have the
        version's own timestamps; leavers, vanished customers and those a correction removed are withdrawn at the
        extract's date. The declared snapshot keeps the values of its leavers (its features lie a label window before
        its labels) and withdraws them at its date, known with the same lag.
    """
    earlier = [each for each in history if each.sequence < manifest.sequence]
    snapshot = read(manifest)
    here, stay = frozenset(snapshot[CUSTOMER]), staying(snapshot)
    replaced = [each for each in earlier if each.snapshot_date == manifest.snapshot_date]
    removed = frozenset(read(replaced[-1])[CUSTOMER]) - here if replaced else frozenset()
    at, known_at = midnight(manifest.snapshot_date), extract_known_at(manifest)
    gone: defaultdict[tuple[datetime, datetime], frozenset[str]] = defaultdict(frozenset)
    gone[at, known_at] |= (here - stay) | removed
    if manifest.time == "declared":
        values = feature_rows(snapshot, manifest.event_at, manifest.created_at)
        gone[manifest.event_at, manifest.created_at] |= removed
        # An older version may have withdrawn customers at the date (left, or missing in it): their values are repeated.
        seen = frozenset[str]().union(*(read(each)[CUSTOMER] for each in replaced))
        always = stay.intersection(*(staying(read(each)) for each in replaced))
        again = snapshot[snapshot[CUSTOMER].isin((seen & stay) - always)]
        values = pd.concat([values, feature_rows(again, at, known_at)], ignore_index=True)
    else:
        values = feature_rows(snapshot[snapshot[CUSTOMER].isin(stay)], manifest.event_at, manifest.created_at)
    known, known_later = _before(manifest, earlier)
    for before in (*known, *known_later):
        # A correction of the month before may be known after this version: its additions are withdrawn at that instant.
        gone[at, max(known_at, before.created_at)] |= staying(read(before)) - here
    if (after := _after(manifest, earlier)) is not None:
        gone[after.event_at, manifest.created_at] |= stay - frozenset(read(after)[CUSTOMER])
    typed = values.astype({feature.name: NULLABLE[feature.dtype] for feature in STORED})
    return pd.concat([typed, withdrawal_rows(gone)], ignore_index=True)


def extract_known_at(manifest: SnapshotManifest) -> datetime:
    """Return when the extract was known; for the declared snapshot with the same lag as its values."""
    if manifest.late:
        return manifest.created_at
    return manifest.created_at + (midnight(manifest.snapshot_date) - manifest.event_at)


def _before(
    manifest: SnapshotManifest, earlier: Sequence[SnapshotManifest]
) -> tuple[list[SnapshotManifest], list[SnapshotManifest]]:
    """Return the previous date's last version known by ``manifest``, and its versions known later."""
    dates = [each.snapshot_date for each in earlier if each.snapshot_date < manifest.snapshot_date]
    versions = [each for each in earlier if dates and each.snapshot_date == max(dates)]
    known = [each for each in versions if each.created_at <= manifest.created_at]
    return known[-1:], [each for each in versions if each.created_at > manifest.created_at]


def _after(manifest: SnapshotManifest, earlier: Sequence[SnapshotManifest]) -> SnapshotManifest | None:
    """Return the last version of the next date that was published before ``manifest``, if any."""
    dates = [each.snapshot_date for each in earlier if each.snapshot_date > manifest.snapshot_date]
    return next((each for each in reversed(earlier) if dates and each.snapshot_date == min(dates)), None)
