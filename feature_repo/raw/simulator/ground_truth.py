"""Ground truth per observation date: leaving probabilities, outcomes and offer effects.

Written by the simulator to evaluate models; real data has no such table.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT

HAZARD: Final = "hazard"
OFFER_EFFECT: Final = "offer_effect"
SCHEMA: Final = pa.schema(
    [
        (CUSTOMER, pa.string()),
        (OBSERVED_AT, pa.timestamp("us", "UTC")),
        (HAZARD, pa.float64()),
        (LABEL, pa.bool_()),
        (OFFER_EFFECT, pa.float64()),
    ]
)
"""One row per customer who is active at ``observed_at``. ``hazard``: the probability to leave within 30 days, which
the outcome was drawn with. ``churned``: the outcome; null where the 30 days are not simulated (the last month) or the
customer vanished in them. ``offer_effect``: by how much a retention offer would lower the log-odds."""


def write_truth(
    path: Path,
    customers: NDArray[np.bytes_],
    observed_at: datetime,
    hazard: NDArray[np.float64],
    churned: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    offer_effect: NDArray[np.float64],
) -> None:
    """Write the truth of one observation date, ``(n,)`` arrays; ``unknown`` marks outcomes to leave null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [
        pa.array(customers.astype("U"), pa.string()),
        pa.array(np.full(len(customers), int(observed_at.timestamp()) * 1_000_000)).cast(SCHEMA.field(1).type),
        pa.array(hazard),
        pa.array(churned, mask=unknown),
        pa.array(offer_effect),
    ]
    pq.write_table(pa.table(columns, schema=SCHEMA), path, store_schema=False, use_dictionary=[OBSERVED_AT])
