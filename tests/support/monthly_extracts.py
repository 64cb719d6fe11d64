"""Months of a small base, published by hand: who is in each extract, who left, when it came.

Each version's rows carry its own number as tenure, so that a value says which version it is from.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import DataSettings, load_settings
from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL
from feature_repo.raw.snapshots.offline_rows import offline_rows
from feature_repo.raw.snapshots.publication import SnapshotManifest, land_raw, publish_snapshot, snapshot_history
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import Observation, arrival
from tests.support.single_extract import simulate_snapshot, write_csv

LIMITS: DataSettings = load_settings().data
FIRST = date(2026, 1, 31)
MONTH = timedelta(days=30)
LAG = timedelta(hours=LIMITS.delivery_lag_hours)
Values = int | None


def instant(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def month(number: int) -> date:
    return FIRST + number * MONTH


def scored(number: int) -> datetime:
    """When the customers of a month are scored; -1 is the declared bootstrap's own observation date."""
    return instant(month(number)) + LAG


def _when(every: list[SnapshotManifest], day: date, at: datetime):
    return arrival(
        every,
        day,
        at,
        label_window_days=LIMITS.label_window_days,
        delivery_lag_hours=LIMITS.delivery_lag_hours,
    )


@dataclass
class Feed:
    """Publications in memory, as the home would hold them."""

    every: list[SnapshotManifest] = field(default_factory=list)
    frames: dict[int, pd.DataFrame] = field(default_factory=dict)
    parts: list[pd.DataFrame] = field(default_factory=list)

    def publish(self, day: date, churned: Mapping[str, bool], at: datetime) -> SnapshotManifest:
        """Publish the next version of a date: customers and whether each left."""
        when = _when(self.every, day, at)
        number = len(self.every) + 1
        rows = _rows().head(len(churned)).assign(**{CUSTOMER: list(churned), LABEL: list(churned.values())})
        made = SnapshotManifest(
            snapshot_date=day,
            version=1 + sum(each.snapshot_date == day for each in self.every),
            sequence=number,
            time=when.time,
            event_at=when.event_at,
            created_at=when.created_at,
            late=when.late,
            source_name="",
            source_sha256="",
            rows=len(rows),
            quarantined_rows=0,
            churn_rate=0.0,
            schema_version=1,
            digest="",
            ingested_at=at,
            replaces=None,
            path="",
        )
        self.every.append(made)
        self.frames[number] = rows.assign(tenure_months=number)
        self.parts.append(offline_rows(made, self.every, self.read))
        return made

    def read(self, manifest: SnapshotManifest) -> pd.DataFrame:
        return self.frames[manifest.sequence]

    def known(self) -> list[tuple[str, datetime, datetime, Values]]:
        """All offline rows: customer, event and created timestamp, tenure (None: withdrawn)."""
        rows = pd.concat(self.parts, ignore_index=True)
        instants = ([each.to_pydatetime() for each in rows[name]] for name in (EVENT_TIMESTAMP, CREATED_TIMESTAMP))
        tenure = [None if pd.isna(each) else int(each) for each in rows["tenure_months"]]
        return list(zip(rows[CUSTOMER], *instants, tenure, strict=True))


@functools.cache
def _rows() -> pd.DataFrame:
    return normalise(simulate_snapshot(50, seed=3))


def point_in_time(rows: list[tuple[str, datetime, datetime, Values]], customer: str, at: datetime) -> Values:
    """The join by brute force: the newest of what was true and known by ``at``; None where that is nothing."""
    seen = [(event, created, tenure) for who, event, created, tenure in rows if who == customer]
    known = [each for each in seen if max(each[:2]) <= at]
    return max(known, key=lambda each: each[:2])[2] if known else None


def deliver(home: Path, day: date, churn: Mapping[str, str], at: datetime | None = None) -> SnapshotManifest:
    """Publish customers ("Yes": left) on disk, from a CSV without the gate; by default it comes on its date."""
    at = at or instant(day) + timedelta(hours=5)
    every = snapshot_history(home)
    when = _when(every, day, at)
    rows = simulate_snapshot(len(churn), seed=3).assign(
        customerID=list(churn), Churn=list(churn.values()), tenure=str(len(every) + 1), TotalCharges="100"
    )
    return publish_rows(home, day, rows, when, at, home.parent / f"{len(every)}.csv")


def publish_rows(
    home: Path, day: date, rows: pd.DataFrame, when: Observation, at: datetime, csv: Path
) -> SnapshotManifest:
    """Write raw rows to a CSV and publish it for its date, without the gate."""
    write_csv(rows, csv)
    return publish_snapshot(
        home,
        day,
        normalise(rows),
        pd.DataFrame(),
        raw=land_raw(home, csv, day),
        time=when.time,
        event_at=when.event_at,
        created_at=when.created_at,
        late=when.late,
        ingested_at=at,
        replace=True,
        extra_files={"gate.json": b"{}"},
    ).manifest


def next_month(extract: pd.DataFrame, seed: int, joiners: int = 0) -> pd.DataFrame:
    """The raw extract a month later: who left is gone, the others are a month older and may leave, some join."""
    rng = np.random.default_rng(seed)
    stayed = extract[extract["Churn"] == "No"].copy()
    stayed["tenure"] = (stayed["tenure"].astype(int) + 1).astype(str)
    total = stayed["tenure"].astype(int) * stayed["MonthlyCharges"].astype(float)
    stayed["TotalCharges"] = total.map("{:.2f}".format)
    stayed["Churn"] = np.where(rng.random(len(stayed)) < _hazard(stayed), "Yes", "No")
    fresh = simulate_snapshot(max(1, joiners), seed=1000 + seed).head(joiners)
    return pd.concat([stayed, fresh[~fresh["customerID"].isin(stayed["customerID"])]], ignore_index=True)


def _hazard(rows: pd.DataFrame) -> np.ndarray:
    monthly = (rows["Contract"] == "Month-to-month").to_numpy()
    fibre = (rows["InternetService"] == "Fiber optic").to_numpy()
    return np.clip(0.02 + 0.2 * monthly + 0.15 * (monthly & fibre), 0, 1)
