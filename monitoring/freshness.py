"""Age of the served values, judged against the freshness limit. Pure.

Used by the monitoring report and the data-age step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from feature_repo.clocks import KNOWN_AHEAD_MAX

State = Literal["fresh", "stale", "unknown"]


@dataclass(frozen=True)
class DataAge:
    """Age of one kind of values: its newest instant (ISO 8601, UTC), the age in hours, and the status.

    ``newest`` is None where nothing is known; ``age_h`` is also None where the newest instant lies in the future beyond
    the allowed clock difference. The status is "unknown" in both cases.
    """

    name: str
    newest: str | None
    age_h: float | None
    status: State


def ages(newest: Mapping[str, datetime | None], now: datetime, max_h: float) -> list[DataAge]:
    """Return the age of each kind of values at ``now`` (UTC); stale above ``max_h`` hours.

    Parameters
    ----------
    newest
        Name -> the newest instant, None where it is not known. An instant after ``now`` has age 0, because clocks
        differ; one more than :data:`feature_repo.clocks.KNOWN_AHEAD_MAX` after it has no age.
    """
    return [_age(name, instant, now, max_h) for name, instant in newest.items()]


def _age(name: str, instant: datetime | None, now: datetime, max_h: float) -> DataAge:
    if instant is None:
        return DataAge(name, None, None, "unknown")
    hours = max((now - instant).total_seconds() / 3600, 0.0)
    if instant - now > KNOWN_AHEAD_MAX:
        return DataAge(name, instant.isoformat(), None, "unknown")
    return DataAge(name, instant.isoformat(), hours, "stale" if hours > max_h else "fresh")
