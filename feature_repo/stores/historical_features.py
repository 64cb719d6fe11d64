"""Historical features: values as they were known at past instants, read through Feast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from configs.errors import ChurnError
from feature_repo.contract import CUSTOMER, EVENT_TIMESTAMP, OBSERVED_AT, OBSERVED_AT_US, REQUEST_DATA, features_of
from feature_repo.stores.casting import to_dataframe

if TYPE_CHECKING:
    from feast import FeatureStore

ROW = "label_row"


class RowsLostError(ChurnError):
    """The point-in-time join returned other rows than those requested."""

    error = "rows_lost"


def get_historical_features(store: FeatureStore, keys: pd.DataFrame, service: str) -> pd.DataFrame:
    """Join the features of ``service`` to customers, as true and known at each row's instant.

    Parameters
    ----------
    keys
        ``customer_id`` and ``observed_at`` (datetime64, UTC), n rows; a pair may recur.

    Returns
    -------
    pd.DataFrame
        ``(n, features of the service)``, rows in the given order, columns in contract order, types as in
        :func:`feature_repo.stores.casting.to_dataframe`; null where nothing was known, or it had expired.

    Raises
    ------
    RowsLostError
        If the store dropped, merged or doubled a row.
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
    if OBSERVED_AT_US in REQUEST_DATA.get(service, ()):
        entities[OBSERVED_AT_US] = entities[EVENT_TIMESTAMP].astype("int64")
    job = store.get_historical_features(entity_df=entities, features=store.get_feature_service(service))
    joined = job.to_arrow().to_pandas().sort_values(ROW, kind="stable")
    if joined[ROW].to_list() != list(range(len(keys))):
        raise RowsLostError(
            f"the point-in-time join returned {len(joined)} rows for {len(keys)} asked for",
            "the offline store drops or merges rows: only the configured one may be used",
        )
    return to_dataframe(wanted, {feature.name: joined[feature.name].to_list() for feature in wanted})
