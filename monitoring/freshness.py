"""How old are the values that we answer with? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from feature_repo.clocks import KNOWN_AHEAD_MAX

State = Literal["fresh", "stale", "unknown"]


@dataclass(frozen=True)
class Age:
    """One kind of values: the newest instant among them (ISO 8601, UTC), its age in hours, and whether that is fine.

    ``newest`` is None where nothing is known, ``age_h`` also where the newest instant is wrong: it lies in the future.
    """

    name: str
    newest: str | None
    age_h: float | None
    status: State


def ages(newest: Mapping[str, datetime | None], now: datetime, max_h: float) -> list[Age]:
    """Return how old each kind of values is at ``now`` (UTC); stale above ``max_h`` hours.

    Parameters
    ----------
    newest
        Name -> the newest instant, None where it is not known. An instant after ``now`` has age 0, for clocks differ,
        and none beyond :data:`feature_repo.clocks.KNOWN_AHEAD_MAX`.
    """
    return [_age(name, instant, now, max_h) for name, instant in newest.items()]


def _age(name: str, instant: datetime | None, now: datetime, max_h: float) -> Age:
    if instant is None:
        return Age(name, None, None, "unknown")
    hours = max((now - instant).total_seconds() / 3600, 0.0)
    if instant - now > KNOWN_AHEAD_MAX:
        return Age(name, instant.isoformat(), None, "unknown")
    return Age(name, instant.isoformat(), hours, "stale" if hours > max_h else "fresh")
