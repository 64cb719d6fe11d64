"""Late labels: leavers who remain listed as customers for one more month."""

from __future__ import annotations

import numpy as np

from feature_repo.raw.simulator.drift import LABEL_DELAY_SHARE, Drift
from feature_repo.raw.simulator.extract import Extract


class LateLabels:
    """Delay the label of some leavers by one extract under ``label_delay``; else do nothing.

    Holds the delayed leavers from one extract to the next.
    """

    def __init__(self, drift: Drift) -> None:
        self._drift = drift
        self._untold: Extract | None = None

    def listed(self, extract: Extract, month: int, rng: np.random.Generator) -> Extract:
        """Return the extract as issued: some leavers still customers, those delayed last month now leavers."""
        if not self._drift.since("label_delay", month):
            return extract
        untold = extract.left & (rng.random(len(extract)) < LABEL_DELAY_SHARE)
        issued = extract.with_labels(extract.left & ~untold)
        if self._untold is not None:
            # Customers who have returned in the meantime are listed once, as customers.
            again = np.isin(self._untold.number, extract.number)
            issued = issued.with_old_labels(self._untold.take(~again))
        self._untold = extract.take(untold)
        return issued
