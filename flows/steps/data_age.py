"""Age of the data that predictions are based on: extracts, events, online values, and waiting files.

Used by the freshness and monitoring flows; imports no library of model training or serving, as it runs often. See
docs/decisions/0021-drift.md.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from configs.settings import Settings
from feature_repo.raw.events.deliveries import deliveries
from feature_repo.raw.snapshots.offline_rows import extract_known_at
from feature_repo.raw.snapshots.publication import SnapshotManifest, snapshot_history
from feature_repo.stores.errors import StoreUnavailableError, translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.online_watermark import copied_until
from flows.steps.inbox import oldest
from monitoring.freshness import DataAge, ages

INBOX: Final = "inbox"
"""Name of the age of the oldest file in the inbox in :func:`data_ages`."""

log = logging.getLogger(__name__)


def data_ages(settings: Settings, now: datetime) -> list[DataAge]:
    """Return the age at ``now`` of the newest snapshot's values, the newest events and the online values.

    Events are omitted if none were delivered; the age of the online values is unknown if the online store does not
    respond, which is logged. The last entry is the time since the oldest file came to the inbox, omitted if that is
    empty.

    Raises
    ------
    RegistryUnavailableError
        If the registry does not respond.
    """
    values = [manifest.event_at for manifest in known_extracts(settings.home, now)]
    newest: dict[str, datetime | None] = {"snapshot": max(values, default=None)}
    if known := known_deliveries(settings.home, now):
        newest["events"] = max(known)
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        try:
            newest["online store"] = copied_until(settings, store, now)
        except StoreUnavailableError as away:
            log.warning("the age of the online copy is unknown: %s", away.message)
            newest["online store"] = None
    found = ages(newest, now, settings.monitoring.freshness_max_h)
    since = oldest(settings.home)
    # Arrivals after `now` don't count; a time after the clock is an error and must stay visible.
    if since is None or now < since <= datetime.now(UTC):
        return found
    return [*found, *ages({INBOX: since}, now, settings.monitoring.inbox_max_h)]


def known_extracts(home: Path, now: datetime) -> list[SnapshotManifest]:
    """Return the versions whose extract was known at ``now``, in the order of publication.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from flows.steps.data_age import known_extracts
    >>> known_extracts(Path(tempfile.mkdtemp()), datetime(2026, 1, 1, tzinfo=UTC))
    []
    """
    return [manifest for manifest in snapshot_history(home) if extract_known_at(manifest) <= now]


def events_until(home: Path, now: datetime) -> datetime | None:
    """Return the instant up to which events are known at ``now``: the newest one of the deliveries up to then.

    A delivery of old events alone, such as a late correction, does not move it. None if no event is known.
    """
    return max(
        (
            min(each.occurred_until, each.known_at)
            for each in deliveries(home)
            if each.known_at is not None and each.occurred_until is not None and each.known_at <= now
        ),
        default=None,
    )


def known_deliveries(home: Path, now: datetime) -> list[datetime]:
    """Return the arrival instants of the deliveries of events up to ``now``."""
    return [each.known_at for each in deliveries(home) if each.known_at is not None and each.known_at <= now]
