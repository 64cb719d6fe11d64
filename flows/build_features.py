"""Turn published snapshots into the rows that Feast reads."""

from __future__ import annotations

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import SOURCE
from feature_repo.raw.publication import published, read_snapshot, versions
from feature_repo.stores.offline_files import append
from training.snapshot import feature_rows


class NothingPublishedError(ChurnError):
    """There is no snapshot to build features from."""

    error = "nothing_published"


def build_features(settings: Settings) -> list[str]:
    """Append every published version that Feast's source lacks; return the parts of all, oldest first.

    A replaced version stays: what was known then must be known again when an old date is asked for. Parts are
    immutable and named after date and version, so that a run killed anywhere is completed by the next.
    """
    parts = []
    for live in published(settings.home):
        for manifest in versions(settings.home, live.snapshot_date):
            part = f"{manifest.snapshot_date.isoformat()}.v{manifest.version}"
            rows = feature_rows(read_snapshot(settings.home, manifest), manifest.event_at, manifest.created_at)
            append(settings.home, SOURCE, part, rows)
            parts.append(part)
    if not parts:
        raise NothingPublishedError(
            f"no snapshot is published in {settings.home}", "run: churn ingest --csv PATH --as-of DATE"
        )
    return parts
