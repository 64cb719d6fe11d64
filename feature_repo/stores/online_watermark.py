"""Watermark of the online store: the instant up to which it holds the offline values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from configs.settings import Settings
from feature_repo.contract import CORE_SERVICE, SERVICES_OF, family_of
from feature_repo.stores.customers import newest_customers
from feature_repo.stores.errors import NothingToMaterializeError
from feature_repo.stores.freshness import at_the_contract
from feature_repo.stores.online_features import OnlineFeatureReader

if TYPE_CHECKING:
    from feast import FeatureStore

_SAMPLE: Final = 100


def copied_until(settings: Settings, store: FeatureStore, now: datetime) -> datetime | None:
    """Return the instant up to which all views were copied, as known at ``now`` (UTC); None if unknown.

    A watermark states what was requested and not what is stored. So one after ``now`` does not count; and if the
    customers of the newest extract are older online than they were offline at the watermark, the result is their newest
    event timestamp online. A view whose table has no file was never materialised, and is ignored.

    Raises
    ------
    StoreUnavailableError, RegistryUnavailableError, NothingRegisteredError
        If a store can't be read.
    """
    ends: list[list[datetime]] = [
        [end for _, end in view.materialization_intervals] for view in store.list_feature_views() if view.online
    ]
    known = [max((end for end in each if end <= now), default=None) for each in ends if each]
    if not known:
        return None
    watermark = None if None in known else min(end for end in known if end is not None)
    try:
        expected = newest_customers(settings, watermark or now, _SAMPLE)
    except NothingToMaterializeError:
        return watermark
    if not expected:
        return watermark
    rows = OnlineFeatureReader(store, _registered_core(store), at_the_contract()).read(list(expected), now)
    found = [row.as_of for row in rows if row.as_of is not None]
    if watermark and found and max(found) >= max(expected.values()):
        return watermark
    return max((at for at in found if at <= now), default=None)


def _registered_core(store: FeatureStore) -> str:
    """Return the newest registered version of the core service: code may have a newer one than the registry."""
    registered = {service.name for service in store.list_feature_services()}
    core = family_of(CORE_SERVICE)[0]
    found = [name for name in SERVICES_OF if name in registered and family_of(name)[0] == core]
    return max(found, key=family_of, default=CORE_SERVICE)
