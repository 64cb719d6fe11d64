"""Record the CPU times of an A/A canary on a loaded machine, for the test of the rule that ends canaries.

Two processes that never rest lie beside the one that answers; callers ask from several threads, as the service's do.
Champion and challenger are the same bundle. Writes one line an answer, in the order of the answers:
``<model>,<microseconds>``, model "h" for the champion (the holder) and "c" for the challenger.

    python tests/bench/cpu_times.py OUT.csv
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bentos.churn.metrics import ServiceMetrics
from bentos.churn.trials.canary import Canary, CanaryShare
from bentos.churn.trials.trial_counts import TrialCounter
from bentos.prediction.model import load_model
from bentos.rollout.paired_times import ArmName
from bentos.rollout.pointer import Rollout
from configs.settings import load_settings
from feature_repo.contract import CUSTOMER
from tests.bench.serving.world import customers
from tests.support.serving_home import bundle_at, fill_stores
from tests.support.single_extract import simulate_snapshot, write_csv

ANSWERS = 4000
CALLERS = 4
BUSY = 2


class Recorded(TrialCounter):
    """Counts, and keeps each time."""

    def __init__(self, home: Path, trial: Rollout) -> None:
        super().__init__(home, trial, ServiceMetrics())
        self.lines: list[str] = []

    def took(self, arm: ArmName, seconds: float) -> None:
        super().observe_seconds(arm, seconds)
        self.lines.append(f"{'h' if arm == 'champion' else 'c'},{seconds * 1e6:.0f}")


def spin() -> None:
    """Use a core."""
    while True:
        pass


def record(folder: Path) -> list[str]:
    """Return the lines of an A/A canary that answers for half of the customers."""
    settings = load_settings(home=folder)
    snapshot, _ = customers(300)
    fill_stores(settings, snapshot)
    csv = folder / "customers.csv"
    write_csv(simulate_snapshot(400, seed=3), csv)
    bundle = bundle_at(folder, csv)
    model = load_model(settings, folder / "bundles" / bundle.digest, None)
    counting = Recorded(folder, Rollout(bundle.digest, "a", challenger=bundle.digest, mode="canary", share=0.5))
    trial = Canary(model, counting, customers=CanaryShare(bundle.digest, 0.5), reasons_max=3, limit_s=600)
    ids = [str(each) for each in snapshot[CUSTOMER]]

    def ask(number: int) -> None:
        chance = random.Random(number)
        while len(counting.lines) < ANSWERS:
            trial.predict(model, [chance.choice(ids)], datetime.now(UTC))

    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(BUSY)]
    for process in busy:
        process.start()
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(ask, range(CALLERS)))
    finally:
        for process in busy:
            process.kill()
    return counting.lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        lines = record(Path(folder))
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
