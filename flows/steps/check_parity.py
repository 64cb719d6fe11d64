"""Online/offline parity check on the data of the home. See docs/decisions/0017-windows-at-read-time.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pandas as pd

from configs.errors import ChurnError
from configs.privacy import pseudonym
from configs.settings import Settings
from feature_repo.contract import (
    ACTIVITY_SOURCE,
    BY_NAME,
    CORE_SERVICE,
    CUSTOMER,
    EVENT_TIMESTAMP,
    OBSERVED_AT,
    SERVICES_OF,
    VIEWS,
    features_of,
    reads_activity,
)
from feature_repo.files.duckdb_session import offline_limits, session
from feature_repo.files.parquet_tables import table_files
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.customers import offline_files
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.freshness import at_the_contract
from feature_repo.stores.historical_features import get_historical_features
from feature_repo.stores.online_features import OnlineFeatureReader
from monitoring.parity import ParityCounts

if TYPE_CHECKING:
    from feast import FeatureStore

CHUNK_CUSTOMERS: Final = 5_000


class ParityBrokenError(ChurnError):
    """The online store returns other values than the point-in-time join."""

    error = "parity_broken"


def check_parity(
    settings: Settings,
    now: datetime,
    *,
    customers_max: int | None = None,
    progress: Callable[[int], object] = lambda _customers: None,
) -> dict[str, ParityCounts]:
    """Compare online and offline values of customers, both read through Feast.

    Parameters
    ----------
    settings
        The home and the stores.
    now
        The instant of both reads, tz-aware UTC.
    customers_max
        Limits them to a sample, evenly spread over the sorted ids; None: every customer.
    progress
        Called with the number of customers compared.

    Returns
    -------
    dict
        Service -> result, for every registered version that is read online; for those that read events, where events
        were delivered.

    Raises
    ------
    NothingToMaterializeError
        If the offline table has no rows.
    StoreUnavailableError, NothingRegisteredError and the like
        If a store can't be read.
    StorageError
        If a file of the offline tables can't be read, or is no regular file.

    Examples
    --------
    A customer whose values were materialised:

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from configs.settings import load_settings
    >>> from feature_repo.contract import SOURCE, STORED
    >>> from feature_repo.files.parquet_tables import append_table
    >>> from feature_repo.raw.snapshots.timing import feature_rows
    >>> from feature_repo.stores.materialize import materialize
    >>> from feature_repo.stores.registration import apply
    >>> from flows.steps.check_parity import check_parity
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> numbers = {"bool": False, "int64": 3, "float64": 20.0}
    >>> values = {each.name: [each.categories[0] if each.categories else numbers[each.dtype]] for each in STORED}
    >>> snapshot = pd.DataFrame({"customer_id": ["7590-VHVEG"], **values})
    >>> at, now = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    >>> _ = append_table(settings.home, SOURCE, "january", feature_rows(snapshot, at, at))
    >>> _ = apply(settings)
    >>> _ = materialize(settings, now)
    >>> {service: (counts.holds, counts.cells) for service, counts in check_parity(settings, now).items()}
    {'churn_core_v1': (True, 19)}
    """
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        found = {}
        for service in _services(settings, store):
            features = features_of(service)
            # Values are compared: a stricter policy of the online reader is no difference.
            reader = OnlineFeatureReader(store, service, at_the_contract())
            found[service] = ParityCounts()
            for ids in _chunks(_customers(settings, now), customers_max):
                keys = pd.DataFrame({CUSTOMER: ids}).assign(**{OBSERVED_AT: pd.Timestamp(now)})
                frame = get_historical_features(store, keys, service)
                columns = [to_python_values(feature, frame[feature.name].tolist()) for feature in features]
                found[service].add(features, list(zip(*columns, strict=True)), reader.read(ids, now))
                progress(len(ids))
    return found


def _services(settings: Settings, store: FeatureStore) -> list[str]:
    """Return the registered services that are read online, in the contract's order; the newest core if none is."""
    registered = {service.name for service in store.list_feature_services()} or {CORE_SERVICE}
    offline = {view.name for view in VIEWS if not view.online}
    delivered = bool(table_files(settings.home, ACTIVITY_SOURCE))
    return [
        name
        for name, features in SERVICES_OF.items()
        if name in registered
        and not any(BY_NAME[feature].view in offline for feature in features)
        and (delivered or not reads_activity(name))
    ]


def report(settings: Settings, found: dict[str, ParityCounts]) -> list[str]:
    """Return a line per compared service.

    Raises
    ------
    ParityBrokenError
        If a value differs; names the features, the number of customers per feature, and pseudonyms of some.
    """
    lines = []
    for service, parity in found.items():
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(parity.statuses.items()))
        lines.append(
            f"{service}: {parity.customers} customers, {parity.cells} values, "
            f"{parity.differing.total()} differ online ({statuses})"
        )
    broken = [parity for parity in found.values() if not parity.holds]
    if broken:
        # The behavioural service includes the core's features: each is listed once, with its larger count.
        differing: Counter[str] = Counter()
        for parity in broken:
            differing |= parity.differing
        names = ", ".join(f"{name} ({count})" for name, count in differing.most_common())
        key = settings.privacy.pseudonym_key.get_secret_value()
        sample = ", ".join(pseudonym(customer_id, key) for customer_id in broken[0].sample)
        raise ParityBrokenError(
            f"{'; '.join(lines)}. Features that differ: {names or 'none, no customer was compared'}"
            + (f". For example {sample}" if sample else ""),
            "run: churn materialize, then this again; if it stays: churn materialize --overwrite-newer, which writes "
            "over a later event timestamp too; if it stays even then, a transform or a writer is at fault",
        )
    return lines


def _customers(settings: Settings, now: datetime) -> list[str]:
    """Return every customer of the offline table up to ``now``, sorted."""
    with session(offline_limits(settings)) as connection:
        rows = connection.execute(
            f"SELECT DISTINCT {CUSTOMER} FROM read_parquet($files, hive_partitioning = false) "  # noqa: S608 - names of ours
            f"WHERE {EVENT_TIMESTAMP} <= $now ORDER BY 1",
            {"files": offline_files(settings), "now": now},
        ).fetchall()
    return [row[0] for row in rows]


def _chunks(ids: list[str], customers_max: int | None) -> Iterator[list[str]]:
    step = 1 if customers_max is None else max(1, -(-len(ids) // customers_max))
    taken = ids[::step]
    for start in range(0, len(taken), CHUNK_CUSTOMERS):
        yield taken[start : start + CHUNK_CUSTOMERS]
