"""Columns of a feature service from one online read, and the reader that uses Feast's SDK."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from feature_repo.contract import (
    ACTIVITY_VIEWS,
    BEHAVIOR,
    BY_NAME,
    CUSTOMER,
    OBSERVED_AT_US,
    TILES,
    VIEWS,
    request_data_of,
)
from feature_repo.stores.casting import to_python_values

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class ServiceColumns:
    """Columns of n customers.

    ``values``: feature -> n values of the contract's types, None where null; it may hold more than the service's
    features. ``stamps``: a tuple per customer, with one event timestamp for each of ``views``, in the store's own form;
    ``instant`` converts it to a datetime (UTC, whole seconds), or None where the view holds nothing.
    """

    values: Mapping[str, Sequence[Any]]
    views: tuple[str, ...]
    stamps: Sequence[tuple[Hashable, ...]]
    instant: Callable[[Any], datetime | None]


class FeastReader:
    """Reader for any online store, through Feast's SDK."""

    def __init__(self, store: FeatureStore, service: FeatureService) -> None:
        self._store = store
        self._request_data = request_data_of(service.name)
        refs = [f"{view.name}:{feature.name}" for view in service.feature_view_projections for feature in view.features]
        self._names = [ref.split(":")[1] for ref in refs]
        # Windows have no timestamp: those of the views that they are computed from are requested as well.
        beside = {view.name: next(f.name for f in TILES if f.view == view.name) for view in ACTIVITY_VIEWS}
        windows = any(BY_NAME[name].view == BEHAVIOR.name for name in self._names)
        self._refs = refs + [f"{view}:{name}" for view, name in beside.items() if windows]
        stored = {BY_NAME[name].view: name for name in self._names if not BY_NAME[name].derived}
        stored |= beside if windows else {}
        self._stamped = {view.name: stored[view.name] for view in VIEWS if view.name in stored}

    def read(self, customer_ids: Sequence[str], now: datetime) -> ServiceColumns:
        """Return the columns; raises the errors of the store."""
        answer = self._store.get_online_features(
            features=self._refs,
            entity_rows=[{CUSTOMER: each, **request_data(self._request_data, now)} for each in customer_ids],
        ).to_dict(include_event_timestamps=True)
        return ServiceColumns(
            values={name: to_python_values(BY_NAME[name], answer[name]) for name in self._names},
            views=tuple(self._stamped),
            stamps=list(zip(*(map(_instant, answer[f"{name}__ts"]) for name in self._stamped.values()), strict=True)),
            instant=lambda stamp: stamp,
        )


def _instant(seconds: int) -> datetime | None:
    # Feast marks unknown values in several ways, one of them a null with event time 0.
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def request_data(names: Sequence[str], observed_at: datetime) -> dict[str, int]:
    """Return the request data ``names`` of a service at ``observed_at``.

    The names are those of :func:`feature_repo.contract.request_data_of`. Raises ValueError for an instant without a
    time zone, KeyError for an unknown name.
    """
    if observed_at.tzinfo is None:
        raise ValueError(f"{observed_at} has no time zone: instants are UTC")
    # Integer arithmetic: a float of seconds is not exact to the microsecond.
    given = {OBSERVED_AT_US: (observed_at - _EPOCH) // _MICROSECOND}
    return {name: given[name] for name in names}
