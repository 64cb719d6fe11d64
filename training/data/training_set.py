"""The training set: labels joined through Feast to the features known at their observation dates.

See docs/decisions/0012-point-in-time-join.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT, features_of
from feature_repo.definition_hash import contract_hash, same_contract
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features

if TYPE_CHECKING:
    from feast import FeatureStore


class TrainingSetError(ChurnError):
    """The training set can't be built: labels are missing or duplicated, or features have no value."""

    error = "training_set_invalid"


@dataclass(frozen=True)
class TrainingSet:
    """Labelled observations: keys, features, and the contract of their feature service.

    Parameters
    ----------
    keys
        customer_id, observed_at (UTC), churned (bool), one row per label, in the labels' order.
    features
        The same rows, one column per feature of ``service`` in contract order (types as
        :func:`feature_repo.stores.casting.to_dataframe` returns them).
    service, contract_hash
        The feature service, and the hash of its contract.

    Examples
    --------
    >>> import pandas as pd
    >>> from training.data.training_set import TrainingSet
    >>> at = pd.Timestamp("2026-01-01", tz="UTC")
    >>> keys = pd.DataFrame({"customer_id": ["A"], "observed_at": [at], "churned": [True]})
    >>> TrainingSet(keys, pd.DataFrame({"tenure_months": [1.0]}), "churn_core_v1", "cd" * 32).churned.tolist()
    [True]
    """

    keys: pd.DataFrame
    features: pd.DataFrame
    service: str
    contract_hash: str

    @property
    def churned(self) -> pd.Series:
        """The label, bool, n rows."""
        return self.keys[LABEL]

    def __len__(self) -> int:
        return len(self.keys)


def load_training_set(settings: Settings, labels: pd.DataFrame, service: str) -> TrainingSet:
    """Join ``labels`` to ``service`` at each label's observation date, through Feast alone.

    Parameters
    ----------
    labels
        customer_id, observed_at (datetime64[us, UTC]), churned (bool); no duplicate (customer, date).

    Raises
    ------
    TrainingSetError
        If there are no labels, a (customer, date) is duplicated, or a label found no features (unknown customer, or
        values that had expired by then); or the service is registered with another contract.
    RowsLostError
        If the join changed the rows.
    """
    if labels.empty:
        raise TrainingSetError("there are no labels to train on", "run: churn ingest --csv PATH --as-of DATE")
    doubled = int(labels.duplicated([CUSTOMER, OBSERVED_AT]).sum())
    if doubled:
        raise TrainingSetError(f"{doubled} labels are given twice for one customer and date", "publish labels once")
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        if not same_contract(service, str(store.get_feature_service(service).tags.get("contract_hash", ""))):
            raise TrainingSetError(
                f"feature service {service} is registered with another contract than this code has", "run: churn apply"
            )
        features = historical_features(store, labels, service)
    return TrainingSet(labels.reset_index(drop=True), features, service, contract_hash(service))


def historical_features(store: FeatureStore, labels: pd.DataFrame, service: str) -> pd.DataFrame:
    """Return the features of ``service`` as known at each row's ``observed_at``, rows in the same order.

    Raises
    ------
    TrainingSetError
        For a null that the contract does not allow.
    """
    frame = get_historical_features(store, labels, service)
    _refuse_unknown(frame, [feature.name for feature in features_of(service) if not feature.nullable])
    return frame


def _refuse_unknown(frame: pd.DataFrame, required: Sequence[str]) -> None:
    missing = frame[list(required)].isna()
    rows = int(missing.any(axis=1).sum())
    if rows:
        names = ", ".join(missing.columns[missing.any()])
        raise TrainingSetError(
            f"{rows} of {len(frame)} labels have no value at their observation date for {names}",
            "run: churn build-features; or the values had expired by then",
        )
