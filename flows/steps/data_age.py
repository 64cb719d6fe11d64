"""How old the values are that everything answers with: extracts, events, the online copy, and what was not landed.

Loads nothing that a model is made or served with: this is looked at often.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from configs.settings import Settings
from feature_repo.raw.events.deliveries import deliveries
from feature_repo.raw.snapshots.offline_rows import extract_known_at
from feature_repo.raw.snapshots.publication import Manifest, history
from feature_repo.stores.errors import StoreUnavailableError, refusals
from feature_repo.stores.feature_store import open_store
from feature_repo.stores.online_watermark import copied_until
from flows.steps.inbox import oldest
from monitoring.freshness import Age, ages

INBOX: Final = "inbox"
"""What :func:`data_ages` calls the age of the oldest thing that was not landed."""

log = logging.getLogger(__name__)


def data_ages(settings: Settings, now: datetime) -> list[Age]:
    """Return how old at ``now`` the newest snapshot's values, the newest events and the online store's copy are.

    Events are left out where none were delivered; the age of the copy is unknown where the online store does not
    answer, which the log says. The last is how long the oldest thing lies in the inbox, left out where that is empty.
    Raises RegistryUnavailableError if the registry does not answer.
    """
    values = [manifest.event_at for manifest in known_extracts(settings.home, now)]
    newest: dict[str, datetime | None] = {"snapshot": max(values, default=None)}
    if known := known_deliveries(settings.home, now):
        newest["events"] = max(known)
    with refusals(settings):
        store = open_store(settings)
        try:
            newest["online store"] = copied_until(settings, store, now)
        except StoreUnavailableError as away:
            log.warning("the age of the online copy is unknown: %s", away.message)
            newest["online store"] = None
    found = ages(newest, now, settings.monitoring.freshness_max_h)
    since = oldest(settings.home)
    # What came after `now` was not there; a time after the clock is wrong, and no reason to leave it out.
    if since is None or now < since <= datetime.now(UTC):
        return found
    return [*found, *ages({INBOX: since}, now, settings.monitoring.inbox_max_h)]


def known_extracts(home: Path, now: datetime) -> list[Manifest]:
    """Return the versions whose extract was known at ``now``, in the order of publication."""
    return [manifest for manifest in history(home) if extract_known_at(manifest) <= now]


def known_deliveries(home: Path, now: datetime) -> list[datetime]:
    """Return when the deliveries of events up to ``now`` came."""
    return [each.known_at for each in deliveries(home) if each.known_at is not None and each.known_at <= now]
