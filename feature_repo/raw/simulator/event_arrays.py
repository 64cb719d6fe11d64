"""Events as numeric arrays per block of customers; arrival times and corrections. No files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.events import PAYLOAD

TYPES: Final = tuple(PAYLOAD)
USAGE_DAY, OPENED, CLOSED, PAYMENT, LOGIN, CHANGE = (
    TYPES.index(name) for name in ("usage_day", "ticket_opened", "ticket_closed", "payment", "login", "plan_change")
)
LATE_SHARE: Final = 0.015
"""Share of events that arrive days after the rest."""
LATE_DAYS_MAX: Final = 20
CORRECTED_SHARE: Final = 0.008
"""Share of usage days and payments that are delivered wrong and corrected later."""
RETRACTED_SHARE: Final = 0.2
"""Share of corrections that withdraw the event altogether."""
CORRECTION_DAYS_MAX: Final = 12
LAG_DAYS_MAX: Final = LATE_DAYS_MAX + CORRECTION_DAYS_MAX + 2
"""Upper bound of the days from occurrence to arrival, for events and revisions."""
_LAG_MEAN_S: Final = 4500.0
_LAG_MAX_S: Final = 86_400
_DAY_S: Final = 86_400
_PLACE_BITS: Final = 24
_EARLY_S: Final = 6 * 3600
"""Seconds from midnight to the hour at which a month is scored."""

Numbers = NDArray[np.int64]


@dataclass
class EventArrays:
    """``n`` events as ``(n,)`` arrays.

    ``row`` is the customer's row in its block, ``kind`` the index in :data:`TYPES`, instants are whole seconds since
    1970, ``first`` and ``second`` the payload numbers in the order of the type, ``ticket`` the ticket's number (0
    where there is none), ``key`` the number behind the event id.
    """

    row: Numbers
    kind: NDArray[np.int8]
    occurred_s: Numbers
    arrived_s: Numbers
    first: Numbers
    second: Numbers
    ticket: Numbers
    key: NDArray[np.uint64]
    revision: NDArray[np.int8]
    retracted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the rows of an index or a mask."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def concat(cls, parts: Sequence[EventArrays]) -> EventArrays:
        """Return the concatenation of the parts."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def event_arrays(
    row: Numbers, kind: int, occurred_s: Numbers, first: Numbers | None = None, second: Numbers | None = None
) -> EventArrays:
    """Return events of one type without ids and arrival times: these are 0."""
    none = np.zeros(len(row), np.int64)
    return EventArrays(
        row=row,
        kind=np.full(len(row), kind, np.int8),
        occurred_s=occurred_s,
        arrived_s=none,
        first=none if first is None else first,
        second=none if second is None else second,
        ticket=none,
        key=np.zeros(len(row), np.uint64),
        revision=np.zeros(len(row), np.int8),
        retracted=np.zeros(len(row), bool),
    )


def deliver_events(rng: np.random.Generator, true: EventArrays, key_from: int, closed_until_s: int = 0) -> EventArrays:
    """Assign ids and arrival times, deliver some events wrong first, and sort by arrival.

    Parameters
    ----------
    rng
        The block's generator.
    true
        The true events; changed in place. Those with ``retracted`` never happened: they are delivered and withdrawn
        later.
    key_from
        The first event's number; the others follow.
    closed_until_s
        When the month before was scored, seconds since 1970: an event that would arrive by then is delayed by six
        hours.
    """
    n = len(true)
    true.key = np.uint64(key_from) + np.arange(n, dtype=np.uint64)
    lag = np.minimum(rng.standard_exponential(n, np.float32) * _LAG_MEAN_S, _LAG_MAX_S).astype(np.int64)
    chance = rng.random(n, np.float32)
    late = np.flatnonzero(chance < LATE_SHARE)
    lag[late] += _days(rng, len(late), LATE_DAYS_MAX)
    true.arrived_s = true.occurred_s + lag
    true.arrived_s += np.where(true.arrived_s <= closed_until_s, _EARLY_S, 0)
    numeric = (true.kind == USAGE_DAY) | (true.kind == PAYMENT)
    wrong = np.flatnonzero((numeric & (chance > 1 - CORRECTED_SHARE)) | true.retracted)
    mended = true.take(wrong)
    mended.revision = np.ones(len(wrong), np.int8)
    mended.arrived_s = mended.arrived_s + _days(rng, len(wrong), CORRECTION_DAYS_MAX)
    true.retracted = np.zeros(n, bool)
    true.first = true.first.copy()
    right = true.first[wrong]
    mistaken = np.rint(right * (0.5 + 2 * rng.random(len(wrong)))).astype(np.int64)
    mistaken += mistaken == right
    true.first[wrong] = np.where(mended.retracted, right, mistaken)
    every = EventArrays.concat([true, mended])
    # The index makes all keys different, so that any sorting algorithm gives the same order.
    return every.take(np.argsort((every.arrived_s << _PLACE_BITS) + np.arange(len(every))))


def retract_events(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Return a random mask ``(count,)`` of delivered events that never happened."""
    return rng.random(count, np.float32) < CORRECTED_SHARE * RETRACTED_SHARE


def _days(rng: np.random.Generator, count: int, most: int) -> Numbers:
    return rng.integers(_DAY_S, most * _DAY_S, count)
