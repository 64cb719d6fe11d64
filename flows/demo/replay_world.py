"""Replay of a simulated world: each month's extract and events are ingested in order of arrival."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pandas as pd

from configs.settings import Settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.raw.simulator.manifest import MONTH_DAYS, World, available_at
from feature_repo.raw.snapshots.origin import WORLD_FILE
from feature_repo.raw.snapshots.publication import published_snapshots
from flows.steps.ingest_events import ingest_events
from flows.steps.ingest_snapshot import SnapshotIngestion, ingest_snapshot

_LATER: Final = timedelta(minutes=1)
_REPLACED: Final = 1


@dataclass
class ReplayedWorld:
    """Result of a replay: landings in order, counts of events by outcome, and corrected extracts."""

    landings: list[SnapshotIngestion] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    corrections: int = 0

    @property
    def rows(self) -> int:
        """Rows of all extracts in the version first published."""
        return sum(landing.manifest.rows for landing in self.landings)


def simulated_world(folder: Path, *, customers: int, months: int, seed: int, newest: date) -> World:
    """Return the world with these parameters below ``folder``; simulates it if it does not exist.

    The last extract of a new world is of ``newest``; an existing world keeps its dates, so that a second run finds its
    published snapshots.
    """
    from feature_repo.raw.simulator.simulate import simulate

    out = folder / f"world-{customers}x{months}-seed{seed}"
    if (out / WORLD_FILE).is_file():
        return World.load(out)
    # Without the file written last it is incomplete, left by a killed run.
    shutil.rmtree(out, ignore_errors=True)
    start = newest - timedelta(days=MONTH_DAYS * (months - 1))
    return simulate(out, customers, months, seed, start, jsonl=False)


def replay_world(settings: Settings, world: World) -> ReplayedWorld:
    """Ingest extracts, events and corrections in order of arrival, each at its instant of arrival.

    Published snapshots and deliveries stay unchanged. Raises as :func:`flows.steps.ingest_snapshot.ingest_snapshot` and
    :func:`flows.steps.ingest_events.ingest_events`.
    """
    done = ReplayedWorld()
    known = {manifest.snapshot_date: manifest for manifest in published_snapshots(settings.home)}
    for place, snapshot in enumerate(world.snapshots):
        arrived = available_at(snapshot)
        corrected = snapshot in known and known[snapshot].version > _REPLACED
        # A month with a published correction is not published again in its first version.
        csv = world.out / _correction(world, snapshot) if corrected else world.extract(snapshot)
        done.landings.append(ingest_snapshot(settings, csv, snapshot, ingested_at=arrived))
        # The first extract defines the customers: events before it can be admitted only afterwards.
        for observed in world.observation_dates[0 if place == 0 else place + 1 : place + 2]:
            delivery = ingest_events(settings, world.events(observed), now=arrived).delivery
            done.deliveries += 1
            done.events += Counter(admitted=delivery.admitted, **delivery.quarantined)
        for correction in world.corrections:
            if correction.arrives_after == snapshot:
                path = world.out / correction.file
                ingest_snapshot(settings, path, correction.corrects, ingested_at=arrived + _LATER, replace=True)
                done.corrections += 1
    return done


def true_hazard(world: World, keys: pd.DataFrame) -> pd.Series:
    """Return each row's true churn probability, (n,) float64; NaN for rows that are not in the world.

    ``keys``: customer_id and observed_at, n rows. It is known in a simulation only: the best possible score, and the
    reference for a model's figures.
    """
    truth = pd.concat([pd.read_parquet(world.truth(observed)) for observed in world.observation_dates])
    columns = [CUSTOMER, OBSERVED_AT]
    joined = keys[columns].merge(truth[[*columns, "hazard"]], how="left", on=columns, validate="one_to_one")
    return joined["hazard"]


def _correction(world: World, snapshot: date) -> str:
    return next(correction.file for correction in world.corrections if correction.corrects == snapshot)
