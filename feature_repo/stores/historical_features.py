"""Historical features: values as they were known at past instants, read through Feast.

Used by training, monitoring and parity. See docs/decisions/0012-point-in-time-join.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from configs.errors import ChurnError
from feature_repo.contract import CUSTOMER, EVENT_TIMESTAMP, OBSERVED_AT, OBSERVED_AT_US, features_of, request_data_of
from feature_repo.stores.casting import to_dataframe

if TYPE_CHECKING:
    from feast import FeatureStore

ROW = "label_row"


class RowsLostError(ChurnError):
    """The point-in-time join returned other rows than those requested."""

    error = "rows_lost"


def get_historical_features(store: FeatureStore, keys: pd.DataFrame, service: str) -> pd.DataFrame:
    """Join the features of a service to customers, as true and known at each row's instant.

    Parameters
    ----------
    store
        Feast's store, as :func:`feature_repo.stores.feature_store.open_feature_store` returns it.
    keys
        ``customer_id`` and ``observed_at`` (datetime64, UTC), n rows; a pair may recur.
    service
        A registered feature service of the contract.

    Returns
    -------
    pd.DataFrame
        ``(n, features of the service)``, rows in the given order, columns in contract order, types as in
        :func:`feature_repo.stores.casting.to_dataframe`; null where nothing was known, or it had expired.

    Raises
    ------
    RowsLostError
        If the store dropped, merged or doubled a row.

    Examples
    --------
    A customer whose values arrived on 6 January:

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from configs.settings import load_settings
    >>> from feature_repo.contract import CORE_SERVICE, SOURCE, STORED
    >>> from feature_repo.files.parquet_tables import append_table
    >>> from feature_repo.raw.snapshots.timing import feature_rows
    >>> from feature_repo.stores.feature_store import close_store, open_feature_store
    >>> from feature_repo.stores.historical_features import get_historical_features
    >>> from feature_repo.stores.registration import apply
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> numbers = {"bool": False, "int64": 3, "float64": 20.0}
    >>> values = {each.name: [each.categories[0] if each.categories else numbers[each.dtype]] for each in STORED}
    >>> snapshot = pd.DataFrame({"customer_id": ["7590-VHVEG"], **values})
    >>> true_at, known_at = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 6, tzinfo=UTC)
    >>> _ = append_table(settings.home, SOURCE, "january", feature_rows(snapshot, true_at, known_at))
    >>> _ = apply(settings)

    On 5 January the values were true and not yet known:

    >>> keys = pd.DataFrame({"customer_id": ["7590-VHVEG"] * 2, "observed_at": ["2024-01-05", "2024-01-07"]})
    >>> store = open_feature_store(settings)
    >>> features = get_historical_features(store, keys, CORE_SERVICE)
    >>> features["tenure_months"].tolist()
    [nan, 3.0]
    >>> close_store(store)
    """
    wanted = features_of(service)
    entities = pd.DataFrame(
        {
            CUSTOMER: keys[CUSTOMER].to_numpy(),
            EVENT_TIMESTAMP: pd.to_datetime(keys[OBSERVED_AT].to_numpy(), utc=True).as_unit("us"),
            # Each row carries its number through the join.
            ROW: range(len(keys)),
        }
    )
    if OBSERVED_AT_US in request_data_of(service):
        entities[OBSERVED_AT_US] = entities[EVENT_TIMESTAMP].astype("int64")
    job = store.get_historical_features(entity_df=entities, features=store.get_feature_service(service))
    joined = job.to_arrow().to_pandas().sort_values(ROW, kind="stable")
    if joined[ROW].to_list() != list(range(len(keys))):
        raise RowsLostError(
            f"the point-in-time join returned {len(joined)} rows for {len(keys)} asked for",
            "the offline store drops or merges rows: only the configured one may be used",
        )
    return to_dataframe(wanted, {feature.name: joined[feature.name].to_list() for feature in wanted})
