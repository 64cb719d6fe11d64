"""Turn published snapshots into the rows that Feast reads."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import SOURCE
from feature_repo.files.parquet_tables import append, table_pattern
from feature_repo.raw.snapshots.offline_rows import offline_rows
from feature_repo.raw.snapshots.publication import history, read_snapshot

KEPT: Final = 4
"""Snapshots in memory at once: a version, its neighbours, and the one it replaces."""


class NothingPublishedError(ChurnError):
    """There is no snapshot to build features from."""

    error = "nothing_published"


def build_features(settings: Settings) -> list[str]:
    """Append every published version that Feast's source lacks; return the parts of all, oldest date first.

    A replaced version stays: what was known then must be known again when an old date is asked for. Parts are
    immutable and named after date and version, and say nothing that was published after them, so that a run killed
    anywhere is completed by the next.
    """
    every = history(settings.home)
    if not every:
        raise NothingPublishedError(
            f"no snapshot is published in {settings.home}", "run: churn ingest --csv PATH --as-of DATE"
        )
    read = lru_cache(KEPT)(lambda manifest: read_snapshot(settings.home, manifest))
    there = {path.stem for path in settings.home.glob(table_pattern(SOURCE))}
    parts = []
    for manifest in sorted(every, key=lambda each: (each.snapshot_date, each.version)):
        part = f"{manifest.snapshot_date.isoformat()}.v{manifest.version}"
        if part not in there:
            append(settings.home, SOURCE, part, offline_rows(manifest, every, read))
        parts.append(part)
    return parts
