"""world.json, the manifest of a simulated world: its arguments, and its files with their sha256."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, Self

from feature_repo.files.atomic_writes import write_file
from feature_repo.raw.simulator.errors import SimulationError
from feature_repo.raw.snapshots.origin import WORLD_FILE

VERSION: Final = 1
DELIVERY_LAG_HOURS: Final = 6
"""An extract of D, and the events up to it, are available at D 06:00 UTC, when the month is scored."""
MONTH_DAYS: Final = 30


@dataclass(frozen=True)
class Correction:
    """A corrected extract: the month that it corrects, and the snapshot date after which it arrives."""

    file: str
    corrects: date
    arrives_after: date


@dataclass(frozen=True)
class World:
    """A simulated world on disk.

    ``snapshots`` are the extracts' dates, oldest first; ``files`` maps each file's path relative to ``out`` to its
    sha256 (hex). ``prices_usd`` is the price list by service; ``price_level_percent`` its level per month.
    """

    out: Path
    seed: int
    customers: int
    months: int
    start: date
    drift: str
    drift_month: int
    jsonl: bool
    snapshots: tuple[date, ...]
    corrections: tuple[Correction, ...]
    prices_usd: dict[str, float]
    price_level_percent: tuple[int, ...]
    calibrated_from: str
    calibrated_from_sha256: str
    files: dict[str, str]
    monthly_churn: float | None = None
    delivery_lag_hours: int = DELIVERY_LAG_HOURS
    version: int = VERSION
    simulated: bool = True

    @property
    def observation_dates(self) -> tuple[date, ...]:
        """The dates with a truth and an event file: the declared bootstrap's and the extracts'."""
        return (self.start - timedelta(days=MONTH_DAYS), *self.snapshots)

    def extract(self, snapshot: date) -> Path:
        """Return the path of a month's extract (CSV)."""
        return self.out / extract_name(snapshot)

    def events(self, observed: date) -> Path:
        """Return the path of the events (Parquet) that arrived since the last observation, up to this one."""
        return self.out / f"{events_name(observed)}.parquet"

    def lines(self, observed: date) -> Path:
        """Return the path of the same events as JSON lines; the file exists only if :attr:`jsonl`."""
        return self.out / f"{events_name(observed)}.jsonl"

    def truth(self, observed: date) -> Path:
        """Return the path of the truth (Parquet) of an observation date."""
        return self.out / truth_name(observed)

    def save(self) -> None:
        """Write world.json. It must be written last: a world that has one is complete."""
        told = {key: value for key, value in asdict(self).items() if key != "out"}
        write_file(self.out / WORLD_FILE, (json.dumps(told, default=str, indent=1, sort_keys=True) + "\n").encode())

    @classmethod
    def load(cls, out: Path) -> Self:
        """Read the world.json of a folder.

        Raises
        ------
        SimulationError
            If there is none (an interrupted simulation leaves none), or it has another version.
        """
        hint = "simulate into an empty folder: churn simulate --out DIR"
        try:
            told: dict[str, Any] = json.loads((out / WORLD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SimulationError(f"{out}: no {WORLD_FILE}, so no whole simulated world", hint) from None
        if told.get("version") != VERSION:
            raise SimulationError(f"{out}: a world of version {told.get('version')}, not {VERSION}", hint)
        told["snapshots"] = tuple(date.fromisoformat(day) for day in told["snapshots"])
        told["start"] = date.fromisoformat(told["start"])
        told["price_level_percent"] = tuple(told["price_level_percent"])
        told["corrections"] = tuple(
            Correction(each["file"], date.fromisoformat(each["corrects"]), date.fromisoformat(each["arrives_after"]))
            for each in told["corrections"]
        )
        return cls(out=out, **told)


def available_at(day: date) -> datetime:
    """Return the instant at which a date's extract is available, UTC."""
    return datetime.combine(day, time(DELIVERY_LAG_HOURS), UTC)


def extract_name(snapshot: date) -> str:
    """Return an extract's path, relative to the world's folder."""
    return f"months/{snapshot}/telco.csv"


def correction_name(snapshot: date, number: int) -> str:
    """Return the path of a month's corrected extract."""
    return f"corrections/{snapshot}.{number}.csv"


def events_name(snapshot: date) -> str:
    """Return the path of a month's events without its suffix."""
    return f"events/{snapshot}"


def truth_name(observed: date) -> str:
    """Return the path of an observation date's truth."""
    return f"truth/{observed}.parquet"
