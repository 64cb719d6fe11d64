"""Customer behaviour in one month of 30 days, simulated per block of customers. No files.

Generates the events, and updates the windows of :class:`~feature_repo.raw.simulator.population.Population`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.drift import OUTAGE_DAYS, OUTAGE_RESOLUTION_FACTOR, OUTAGE_TICKETS
from feature_repo.raw.simulator.event_arrays import (
    CHANGE,
    CLOSED,
    LOGIN,
    OPENED,
    PAYMENT,
    USAGE_DAY,
    EventArrays,
    event_arrays,
    retract_events,
)
from feature_repo.raw.simulator.manifest import MONTH_DAYS
from feature_repo.raw.simulator.population import Population
from feature_repo.raw.simulator.profile import AUTOMATIC, FIBRE

_DAY_S: Final = 86_400
MONTH_S: Final = MONTH_DAYS * _DAY_S
METERED: Final = 85
"""Of 256 days, those whose usage is metered: ten per month on average. Other days are not delivered."""
MOOD_KEPT: Final = 0.7
MOOD_ON_USAGE: Final = 0.4
MOOD_ON_TICKETS: Final = -0.6
MOOD_ON_LOGINS: Final = 0.4
DAY_SPREAD: Final = 0.4
TICKETS_MEAN: Final = 0.22
LOGINS_MEAN: Final = 1.4
LATE_CHANCE: Final = (0.16, 0.04)
"""Share of payments after the due date: manual, automatic."""
RESOLUTION_HOURS: Final = 20
RESOLUTION_SPREAD: Final = 0.9
RESOLUTION_HOURS_MAX: Final = 15 * 24
DAYS_LATE_MAX: Final = 14

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Month:
    """The month of a block: its start, and each customer's presence in it.

    ``start_s`` is in seconds since 1970; ``from_s`` and ``until_s`` are ``(n,)`` seconds after it. ``change_*`` are
    ``(changes,)``: row, charge before and after in cents, seconds after the start. ``outage``: the month has the fibre
    outage.
    """

    start_s: int
    from_s: Numbers
    until_s: Numbers
    change_row: Numbers
    change_before: Numbers
    change_after: Numbers
    change_s: Numbers
    outage: bool


def simulate_behaviour(rng: np.random.Generator, block: Population, month: Month) -> EventArrays:
    """Simulate one month of a block of customers.

    Returns
    -------
    Happenings
        The true events (and the false ones that will be delivered and withdrawn), unsorted. The block's windows, moods
        and last logins are updated in place.
    """
    fresh = rng.standard_normal(len(block), np.float32)
    block.mood = (MOOD_KEPT * block.mood + np.float32(np.sqrt(1 - MOOD_KEPT**2)) * fresh).astype(np.float32)
    lived = (month.until_s - month.from_s) / MONTH_S
    parts = [_usage(rng, block, month), *_tickets(rng, block, month, lived), _payments(rng, block, month)]
    parts += [_logins(rng, block, month, lived), _changes(block, month)]
    return EventArrays.concat(parts)


def _usage(rng: np.random.Generator, block: Population, month: Month) -> EventArrays:
    n = len(block)
    # A day's usage occurs in its last second; a customer who has left by then has none.
    ends = np.arange(MONTH_DAYS) * _DAY_S + _DAY_S - 1
    metered = rng.integers(0, 256, (n, MONTH_DAYS), np.uint8) < METERED
    metered &= (ends >= month.from_s[:, None]) & (ends < month.until_s[:, None])
    row, day = np.nonzero(metered)
    noise = rng.standard_normal((2, len(row)), np.float32) * np.float32(DAY_SPREAD)
    mood = np.float32(MOOD_ON_USAGE) * block.mood
    data = np.rint(np.exp((block.data_level + mood)[row] + noise[0]))
    if month.outage:
        dark = np.isin(day, OUTAGE_DAYS) & (block.profile.internet == FIBRE)[row]
        data = np.where(dark, np.rint(data * 0.02), data)
    voice = np.rint(np.exp((block.voice_level + mood)[row] + noise[1]))
    told = event_arrays(row, USAGE_DAY, month.start_s + ends[day], data.astype(np.int64), voice.astype(np.int64))
    told.retracted = retract_events(rng, len(row))
    block.data_mb[:, 0] += np.bincount(row, weights=data * ~told.retracted, minlength=n)
    return told


def _tickets(
    rng: np.random.Generator, block: Population, month: Month, lived: NDArray[np.float64]
) -> tuple[EventArrays, EventArrays]:
    n = len(block)
    mean = TICKETS_MEAN * np.exp(block.ticket_level + MOOD_ON_TICKETS * block.mood) * lived
    usual = rng.poisson(mean)
    cut_off = (block.profile.internet == FIBRE) & month.outage
    more = rng.poisson(np.where(cut_off, OUTAGE_TICKETS * lived, 0.0))
    row = np.repeat(np.arange(n), usual + more)
    opened = month.from_s[row] + (rng.random(len(row)) * (month.until_s - month.from_s)[row]).astype(np.int64)
    hours = RESOLUTION_HOURS * np.exp(RESOLUTION_SPREAD * rng.standard_normal(len(row)))
    hours *= np.where(cut_off[row], OUTAGE_RESOLUTION_FACTOR, 1.0)
    hours = np.clip(np.ceil(hours), 1, RESOLUTION_HOURS_MAX).astype(np.int64)
    closed = opened + hours * 3600
    # The open ticket of a leaver is never closed; one that is open at the month's end is closed in the next.
    seen = (month.until_s[row] >= MONTH_S) | (closed < month.until_s[row])
    told = event_arrays(row, OPENED, month.start_s + opened)
    told.ticket = np.arange(1, len(row) + 1)
    ended = event_arrays(row[seen], CLOSED, month.start_s + closed[seen], hours[seen])
    ended.ticket = told.ticket[seen]
    block.tickets[:, 0] += np.bincount(row, minlength=n)
    for rows, counts, sums in (
        (seen & (closed < MONTH_S), block.closed[:, 0], block.hours[:, 0]),
        (seen & (closed >= MONTH_S), block.pending_closed, block.pending_hours),
    ):
        np.add.at(counts, row[rows], np.float32(1))
        np.add.at(sums, row[rows], hours[rows].astype(np.float32))
    return told, ended


def _payments(rng: np.random.Generator, block: Population, month: Month) -> EventArrays:
    n = len(block)
    automatic = block.profile.payment >= AUTOMATIC
    chance = np.where(automatic, LATE_CHANCE[1], LATE_CHANCE[0]) * np.exp(block.late_level - 0.4 * block.mood)
    late = rng.random(n) < chance
    days_late = np.where(late, np.minimum(1 + rng.geometric(0.2, n), DAYS_LATE_MAX), 0)
    due = 3 + block.number % 12
    paid = (due + days_late) * _DAY_S + rng.integers(0, _DAY_S, n)
    row = np.flatnonzero((block.bill_cents > 0) & (paid >= month.from_s) & (paid < month.until_s))
    block.late[row, 0] += days_late[row] > 0
    return event_arrays(row, PAYMENT, month.start_s + paid[row], block.bill_cents[row], days_late[row])


def _logins(rng: np.random.Generator, block: Population, month: Month, lived: NDArray[np.float64]) -> EventArrays:
    n = len(block)
    count = rng.poisson(LOGINS_MEAN * np.exp(block.login_level + MOOD_ON_LOGINS * block.mood) * lived)
    row = np.repeat(np.arange(n), count)
    second = month.from_s[row] + (rng.random(len(row)) * (month.until_s - month.from_s)[row]).astype(np.int64)
    np.maximum.at(block.login_s, row, month.start_s + second)
    return event_arrays(row, LOGIN, month.start_s + second)


def _changes(block: Population, month: Month) -> EventArrays:
    rise = (month.change_after - month.change_before).astype(np.float32)
    np.add.at(block.price_change_cents[:, 0], month.change_row, rise)
    return event_arrays(
        month.change_row, CHANGE, month.start_s + month.change_s, month.change_before, month.change_after
    )
