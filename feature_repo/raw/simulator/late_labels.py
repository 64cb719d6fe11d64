"""Labels that come late: leavers who stay listed as customers for one month more."""

from __future__ import annotations

import numpy as np

from feature_repo.raw.simulator.drift import LABEL_DELAY_SHARE, Drift
from feature_repo.raw.simulator.extract import Extract


class LateLabels:
    """Remembers from one extract to the next whose leaving was not told; does nothing under other scenarios."""

    def __init__(self, drift: Drift) -> None:
        self._drift = drift
        self._untold: Extract | None = None

    def listed(self, extract: Extract, month: int, rng: np.random.Generator) -> Extract:
        """Return the extract as it is issued: some leavers not told, those of the month before told now."""
        if not self._drift.since("label_delay", month):
            return extract
        untold = extract.left & (rng.random(len(extract)) < LABEL_DELAY_SHARE)
        issued = extract.relabelled(extract.left & ~untold)
        if self._untold is not None:
            # Who has come back in the meantime is listed once, as the customer that they are.
            again = np.isin(self._untold.number, extract.number)
            issued = issued.behind(self._untold.take(~again))
        self._untold = extract.take(untold)
        return issued
