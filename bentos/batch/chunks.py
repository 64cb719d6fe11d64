"""Read the features of a chunk of customers at one instant and report which of them can't be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.bundle import Bundle
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.stores.customers import present_in
from feature_repo.stores.historical_features import get_historical_features

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True)
class Chunk:
    """The customers of one chunk that are still active.

    ``present`` (m,) which of the requested ids they are; ``ids`` (n,) and ``features`` (n, f) in the service's order;
    ``scorable`` (n,) whether each value that the model needs is usable; ``withdrawn`` number of customers left out;
    ``refused`` reason -> number of customers not scorable.
    """

    present: NDArray[np.bool_]
    ids: NDArray[np.object_]
    features: pd.DataFrame
    scorable: NDArray[np.bool_]
    withdrawn: int
    refused: Counter[str]


def read_chunk(store: FeatureStore, bundle: Bundle, ids: Sequence[str], now: datetime) -> Chunk:
    """Return the features of ``ids`` as known at ``now`` (UTC), by the point-in-time join."""
    keys = pd.DataFrame({CUSTOMER: list(ids)}).assign(**{OBSERVED_AT: pd.Timestamp(now)})
    service = bundle.manifest.service
    features = get_historical_features(store, keys, service)
    here = present_in(features, service)
    features = features[here].reset_index(drop=True)
    bad = bundle.invalid_reason(features)
    unscorable = np.asarray(bad.any(axis=1), dtype=np.bool_)
    refused = Counter("no usable value for " + ", ".join(features.columns[row]) for row in bad[unscorable])
    return Chunk(
        present=here,
        ids=keys[CUSTOMER].to_numpy(dtype=object)[here],
        features=features,
        scorable=~unscorable,
        withdrawn=int((~here).sum()),
        refused=refused,
    )
