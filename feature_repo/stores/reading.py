"""Online features of customers, read through Feast: values, ages, and whether each may be used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from feature_repo.contract import CUSTOMER, OBSERVED_AT_US, REQUEST_DATA, TTL_DAYS, features_of
from feature_repo.stores.refusals import StoreUnavailableError
from feature_repo.stores.typed import as_python

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger(__name__)

Status = Literal["present", "unknown", "expired", "withdrawn", "missing"]


@dataclass(frozen=True)
class OnlineRow:
    """The features of one customer.

    ``values`` follows the service's contract order, None where null. ``status``: *present* (may be scored),
    *unknown* (no such customer), *expired* (older than the view's TTL), *withdrawn* (left, vanished from the extract
    or removed by a correction: every stored value is null), *missing* (a value is null that the contract does not
    allow to be; ``missing`` names them). ``as_of`` is the oldest event timestamp among the
    views, None for an unknown customer.
    """

    customer_id: str
    values: tuple[Any, ...]
    status: Status
    as_of: datetime | None
    missing: tuple[str, ...] = ()


class OnlineFeatures:
    """A feature service, opened once and read many times."""

    def __init__(self, store: FeatureStore, service: str) -> None:
        self.features = features_of(service)
        self._store = store
        self._request_data = REQUEST_DATA.get(service, ())
        # Looking a service up costs milliseconds a call: the object is kept.
        self._service = store.get_feature_service(service)

    def another(self, service: str) -> OnlineFeatures:
        """Open ``service`` on the same store: each store has connections and a thread of its own that never end."""
        self._store.refresh_registry()
        return OnlineFeatures(self._store, service)

    @property
    def contract_hash(self) -> str:
        """The hash that the service was registered with."""
        return str(self._service.tags.get("contract_hash", ""))

    def read(self, customer_ids: Sequence[str], now: datetime) -> list[OnlineRow]:
        """Return one row an id, in the order given; ``now`` (UTC) decides what has expired.

        Raises
        ------
        StoreUnavailableError
            If the store can't be reached or fails.
        """
        if not customer_ids:
            return []
        try:
            answer = self._store.get_online_features(
                features=self._service,
                entity_rows=[{CUSTOMER: each, **request_data(self._request_data, now)} for each in customer_ids],
            ).to_dict(include_event_timestamps=True)
        except Exception as broken:
            # Whatever the client of whichever store raises means one thing to the caller. The text may hold an
            # address or a key, so it goes to the log alone, and there only by its type.
            log.error("online store failed: %s", type(broken).__name__)  # noqa: TRY400 - no traceback, see above
            raise StoreUnavailableError(
                "the online feature store did not answer", "check that it runs; the request can be repeated"
            ) from broken
        columns = [as_python(feature, answer[feature.name]) for feature in self.features]
        ages = [answer[f"{feature.name}__ts"] for feature in self.features if not feature.derived]
        return [
            self._row(customer_id, tuple(values), min(stamps), max(stamps), now)
            for customer_id, values, stamps in zip(
                customer_ids, zip(*columns, strict=True), zip(*ages, strict=True), strict=True
            )
        ]

    def _row(self, customer_id: str, values: tuple[Any, ...], oldest: int, newest: int, now: datetime) -> OnlineRow:
        # Feast marks a customer it does not know in several ways, one of them a null with event time 0.
        if newest == 0:
            return OnlineRow(customer_id, values, "unknown", None)
        as_of = datetime.fromtimestamp(oldest, UTC) if oldest else None
        stored = [value for feature, value in zip(self.features, values, strict=True) if not feature.derived]
        missing = tuple(
            feature.name
            for feature, value in zip(self.features, values, strict=True)
            if value is None and not feature.nullable
        )
        # Whole seconds are all that Redis keeps of an event timestamp, and all that the feature build writes.
        # Feast enforces a TTL offline only; online an old value comes back as if it were fresh.
        if as_of is not None and now - as_of > timedelta(days=TTL_DAYS):
            return OnlineRow(customer_id, values, "expired", as_of)
        if all(value is None for value in stored):
            return OnlineRow(customer_id, values, "withdrawn", as_of)
        return OnlineRow(customer_id, values, "missing" if missing else "present", as_of, missing)


def request_data(names: Sequence[str], observed_at: datetime) -> dict[str, int]:
    """Return what a service needs beside the customer, as :data:`feature_repo.contract.REQUEST_DATA` names it.

    Raises ValueError for an instant without a time zone, KeyError for a name that nobody gives.
    """
    if observed_at.tzinfo is None:
        raise ValueError(f"{observed_at} has no time zone: instants are UTC")
    # Integer arithmetic: a float of today's microseconds has no room for the last digits.
    given = {OBSERVED_AT_US: (observed_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)}
    return {name: given[name] for name in names}
