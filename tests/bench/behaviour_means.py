"""Print the simulator's CLASS_MEANS for its present behaviours: `python tests/bench/behaviour_means.py`.

log mean exp(b) of each class, over months 3 to 14 of a world without drift. The means in use decide who leaves, so
that run it again until they stay the same.
"""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import numpy as np

from feature_repo.raw.simulator import hazard
from feature_repo.raw.simulator.drift import Drift
from feature_repo.raw.simulator.event_writer import EventWriter
from feature_repo.raw.simulator.simulate import FIRST_MONTH, WorldHistory, _seconds

CUSTOMERS = 40_000
MONTHS = 10
ROUNDS = 3


def once(seed):
    sums, counts = np.zeros(hazard.CLASS_MEANS.shape), np.zeros(hazard.CLASS_MEANS.shape)
    spread = []
    with tempfile.TemporaryDirectory() as folder, EventWriter(Path(folder), jsonl=False) as post:
        history = WorldHistory(Path(folder), CUSTOMERS, MONTHS, seed, date(2025, 1, 31), Drift("none", 1), post)
        for month in range(FIRST_MONTH, MONTHS):
            history.step(month)
            b = hazard.behaviour_log_factor(history.here, _seconds(history._day(month)))
            place = hazard.behaviour_class(history.here)
            np.add.at(sums, place, np.exp(b))
            np.add.at(counts, place, 1)
            spread.append(b.std())
    return np.log(sums / np.maximum(counts, 1)), np.mean(spread)


if __name__ == "__main__":
    for attempt in range(ROUNDS):
        means, spread = once(attempt)
        hazard.CLASS_MEANS[:] = means
        print(np.round(means, 3).tolist(), "standard deviation of b:", round(float(spread), 3))
