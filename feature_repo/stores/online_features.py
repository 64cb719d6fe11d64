"""Online feature reader: values, ages, model vectors and status of customers.

Used by the service and the parity check; writes nothing. See docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from feature_repo.contract import features_of
from feature_repo.stores.errors import store_failure
from feature_repo.stores.feature_store import close_store
from feature_repo.stores.freshness import Freshness, RowAge, load_freshness
from feature_repo.stores.online_read.rows import OnlineBatch, OnlineRow, RowBuilder, RowStatus
from feature_repo.stores.online_read.service_columns import FeastReader, ServiceColumns, request_data

if TYPE_CHECKING:
    from feast import FeatureStore

__all__ = ["OnlineBatch", "OnlineFeatureReader", "OnlineRow", "RowStatus", "request_data"]

log = logging.getLogger(__name__)

_AGES_MAX: Final = 10_000


class OnlineFeatureReader:
    """Reader of one feature service, opened once and read many times, also by several threads.

    Parameters
    ----------
    store
        Feast's store, as :func:`feature_repo.stores.feature_store.open_feature_store` returns it.
    service
        A feature service of the contract that is registered.
    freshness
        The policy; by default that of configs/freshness.toml.

    Raises
    ------
    FreshnessError
        If the policy can't be read or does not fit the feature views.

    Examples
    --------
    Values become available by three steps: rows of the offline table, registration, materialisation.

    >>> import tempfile
    >>> from datetime import UTC, datetime, timedelta
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from configs.settings import load_settings
    >>> from feature_repo.contract import CORE_SERVICE, SOURCE, STORED
    >>> from feature_repo.files.parquet_tables import append_table
    >>> from feature_repo.raw.snapshots.timing import feature_rows
    >>> from feature_repo.stores.feature_store import open_feature_store
    >>> from feature_repo.stores.materialize import materialize
    >>> from feature_repo.stores.online_features import OnlineFeatureReader
    >>> from feature_repo.stores.registration import apply
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> numbers = {"bool": False, "int64": 3, "float64": 20.0}
    >>> values = {each.name: [each.categories[0] if each.categories else numbers[each.dtype]] for each in STORED}
    >>> snapshot = pd.DataFrame({"customer_id": ["7590-VHVEG"], **values})
    >>> at = datetime(2024, 1, 1, tzinfo=UTC)
    >>> _ = append_table(settings.home, SOURCE, "january", feature_rows(snapshot, at, at))
    >>> _ = apply(settings)
    >>> materialize(settings, at + timedelta(days=1)).customers
    1

    Each read has one row per id, in the order of the ids.

    >>> reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    >>> [row.status for row in reader.read(["7590-VHVEG", "0000-NOONE"], at + timedelta(days=2))]
    ['present', 'unknown']
    >>> reader.read_batch(["7590-VHVEG"], at + timedelta(days=2)).vectors.shape
    (1, 19)
    >>> reader.read(["7590-VHVEG"], at + timedelta(days=100))[0].status
    'expired'
    >>> reader.close()
    """

    def __init__(self, store: FeatureStore, service: str, freshness: Freshness | None = None) -> None:
        from feature_repo.stores.online_read.plan_reader import PlannedReader

        self.features = features_of(service)
        self._store = store
        self._freshness = load_freshness() if freshness is None else freshness
        self._ages: dict[tuple[str, ...], dict[tuple[Hashable, ...], RowAge]] = {}
        self._serving = RowBuilder(self.features, self._freshness)
        # A look-up of the service costs milliseconds per call: the object is kept.
        self._service = store.get_feature_service(service)
        self._by_plan = PlannedReader(store, self._service, self.features)
        self._through_feast = FeastReader(store, self._service)

    def for_service(self, service: str) -> OnlineFeatureReader:
        """Return a reader of ``service`` on the same store: each store has its own connections and thread."""
        self._store.refresh_registry()
        return OnlineFeatureReader(self._store, service, self._freshness)

    def close(self) -> None:
        """End the store's own thread, for every service that was opened on it; reads keep working."""
        close_store(self._store)

    @property
    def contract_hash(self) -> str:
        """The contract hash that the service was registered with."""
        return str(self._service.tags.get("contract_hash", ""))

    def read(self, customer_ids: Sequence[str], now: datetime) -> list[OnlineRow]:
        """Return one row per id, in the given order; ages are those at ``now`` (UTC).

        Parameters
        ----------
        customer_ids
            n ids, none or several; an id may occur twice.
        now
            The instant of the read, tz-aware; ages and the windows' observation date are computed at it.

        Returns
        -------
        list[OnlineRow]
            n rows, one also for an unknown customer.

        Raises
        ------
        StoreUnavailableError
            If the store can't be reached or fails.
        """
        return self._rows(customer_ids, self._columns(customer_ids, now), now) if customer_ids else []

    def read_batch(self, customer_ids: Sequence[str], now: datetime) -> OnlineBatch:
        """Return the rows of :meth:`read` and their vectors, for the scorer.

        Returns
        -------
        OnlineBatch
            n rows, and (n, f) float64 in contract order.

        Raises
        ------
        StoreUnavailableError
            If the store can't be reached or fails.
        """
        if not customer_ids:
            return OnlineBatch([], np.empty((0, len(self.features))))
        columns = self._columns(customer_ids, now)
        return OnlineBatch(self._rows(customer_ids, columns, now), self._serving.vectors(columns.values))

    def _columns(self, customer_ids: Sequence[str], now: datetime) -> ServiceColumns:
        try:
            return self._by_plan.read(customer_ids, now) or self._through_feast.read(customer_ids, now)
        except Exception as broken:
            # The client's text may hold an address or a key: neither the error nor the log repeats it.
            failure = store_failure(broken)
            log.error("online store failed: %s: %s", type(broken).__name__, failure.message)  # noqa: TRY400 - see above
            raise failure from broken

    def _rows(self, customer_ids: Sequence[str], columns: ServiceColumns, now: datetime) -> list[OnlineRow]:
        known = self._ages.setdefault(columns.views, {})
        if len(known) > _AGES_MAX:
            known.clear()
        ages = []
        for stamps in columns.stamps:
            # Customers of one delivery have the same age, mostly that of the last read.
            age = known.get(stamps)
            if age is None or not age.since < now <= age.until:
                age = known[stamps] = self._freshness.age(columns.views, list(map(columns.instant, stamps)), now)
            ages.append(age)
        return self._serving.rows(customer_ids, columns.values, ages)
