"""One month of the simulation: leavers, changes, vanished, new and returning customers. No files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.behaviour import MONTH_S
from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.drift import CAMPAIGN_LOG_ODDS, Drift
from feature_repo.raw.simulator.hazard import leaving_probability
from feature_repo.raw.simulator.population import Population, charge_cents, newcomers
from feature_repo.raw.simulator.profile import FIBRE, OFFLINE, TENURE_MAX_MONTHS, Flags, Profile
from feature_repo.raw.simulator.transitions import changed, joiners, legacy, passers

VANISHING_SHARE: Final = 0.002
"""Share of the customers who vanish from the extract per month, in addition to those of the legacy book."""
RETURNING_SHARE: Final = 0.02
"""Share of the remembered former customers who return per month, from the second month after they left."""
REMEMBERED_SHARE: Final = 0.15
"""Share of the leavers who are remembered and may return."""
_RETURN_MONTHS_MIN: Final = 2
_DAY_S: Final = 86_400
_FIRST_S: Final = _DAY_S // 4
"""Customers leave only after the month is scored, at 06:00 of its first day."""

Numbers = NDArray[np.int64]


@dataclass
class FormerCustomers:
    """Former customers who may return: ``(n,)`` number, gender, senior, and the month in which they left."""

    number: Numbers
    gender: NDArray[np.int16]
    senior: NDArray[np.int16]
    month: Numbers

    @classmethod
    def empty(cls) -> FormerCustomers:
        """Return an empty set of former customers."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int16), np.empty(0, np.int16), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> FormerCustomers:
        """Return the rows of an index, a mask or a slice."""
        return FormerCustomers(self.number[rows], self.gender[rows], self.senior[rows], self.month[rows])


@dataclass(frozen=True)
class MonthSpan:
    """One month of the simulation.

    ``month`` is 1 for the month that ends with the first extract; ``start_s`` its start in seconds since 1970;
    ``listed`` the number of rows of an average extract.
    """

    month: int
    start_s: int
    listed: int


@dataclass
class MonthResult:
    """Outcome of one month for all its customers, ``(n,)`` arrays: old customers, joiners, passers.

    ``old`` counts the customers at the month's start; ``hazard`` ``(old,)`` is theirs. ``stays``: still a customer at
    the end. ``left``: reported as a leaver in the extract. A customer with neither has vanished. Passers joined and
    left within the month. ``change_*`` as in :class:`feature_repo.raw.simulator.behaviour.Month`.
    """

    people: Population
    old: int
    hazard: NDArray[np.float64]
    stays: Flags
    left: Flags
    from_s: Numbers
    until_s: Numbers
    change_row: Numbers
    change_before: Numbers
    change_after: Numbers
    change_s: Numbers


def simulate_month(
    rng: np.random.Generator,
    customers: Population,
    former: FormerCustomers,
    next_number: int,
    span: MonthSpan,
    drift: Drift,
    constants: Calibration,
) -> tuple[MonthResult, FormerCustomers, int]:
    """Draw the outcome of one month.

    Parameters
    ----------
    customers
        Active at the month's start; changed in place.
    former, next_number
        Former customers who may return; the first unused customer number. The new values of both are returned.
    span
        The month.
    """
    n, places = len(customers), len(customers)
    hazard = leaving_probability(customers, span.start_s, constants)
    if drift.campaign(span.month):
        hooked = (customers.profile.contract == 0) & (customers.profile.internet != OFFLINE)
        hazard = np.where(hooked, -np.expm1(np.log1p(-hazard) * np.exp(CAMPAIGN_LOG_ODDS)), hazard)
    left = rng.random(n) < hazard
    vanished = ~left & (rng.random(n) < VANISHING_SHARE)
    rows, before, after = _changes(rng, customers, ~left & ~vanished, drift.price_percent(span.month), constants)
    aged = np.where(left, customers.profile.tenure, np.minimum(customers.profile.tenure + 1, TENURE_MAX_MONTHS))
    stayers = np.flatnonzero(~left & ~vanished)
    vanished[stayers[legacy(rng, aged[stayers], places, constants)]] = True
    stays = ~left & ~vanished
    survivors = customers.profile.take(stays)
    survivors.tenure = aged[stays].astype(np.int16)
    new = joiners(rng, survivors, places, constants)
    passing = passers(rng, span.listed, constants)
    numbers = next_number + np.arange(len(new) + len(passing))
    former = _returned(rng, former, new, numbers, span.month)
    came = newcomers(rng, Profile.concat([new, passing]), numbers, drift.price_percent(span.month), constants)
    former = _remembered(rng, former, customers, left, span.month, span.listed)
    from_s, until_s = _presence(rng, left, vanished, len(new), len(passing))
    told = MonthResult(
        people=Population.concat([customers, came]),
        old=n,
        hazard=hazard,
        stays=np.concatenate([stays, np.ones(len(new), bool), np.zeros(len(passing), bool)]),
        left=np.concatenate([left, np.zeros(len(new), bool), np.ones(len(passing), bool)]),
        from_s=from_s,
        until_s=until_s,
        change_row=rows,
        change_before=before,
        change_after=after,
        change_s=(rng.random(len(rows)) * until_s[rows]).astype(np.int64),
    )
    return told, former, next_number + len(numbers)


def finish_month(rng: np.random.Generator, people: Population, told: MonthResult) -> Population:
    """Return the customers at the month's end, with their tenure and bills updated."""
    here = people.take(told.stays)
    known = np.flatnonzero(told.stays) < told.old
    before, total = here.profile.tenure, here.total_cents
    here.profile.tenure = np.where(known, np.minimum(before + 1, TENURE_MAX_MONTHS), before).astype(np.int16)
    here.bill(rng, before == TENURE_MAX_MONTHS)
    # The total of new customers already holds their bills.
    here.total_cents = np.where(known, here.total_cents, total)
    here.months_here = here.months_here + known
    return here


def _changes(
    rng: np.random.Generator, customers: Population, free: Flags, price_percent: int, constants: Calibration
) -> tuple[Numbers, Numbers, Numbers]:
    """Change profiles and charges in place.

    Returns the rows whose charge changed (ascending), and their charges before and after in cents.
    """
    profile = customers.profile
    rows, after = changed(rng, profile, constants)
    keep = free[rows]
    rows, after = rows[keep], after.take(keep)
    faster = (after.internet == FIBRE).astype(np.float32) - (profile.internet[rows] == FIBRE)
    customers.data_level[rows] += np.float32(0.5) * faster
    profile.put(rows, after)
    charge = np.where(free, charge_cents(profile, price_percent), customers.charge_cents)
    different = np.flatnonzero(charge != customers.charge_cents)
    before = customers.charge_cents[different]
    customers.charge_cents = charge
    return different, before, charge[different]


def _returned(
    rng: np.random.Generator, former: FormerCustomers, new: Profile, numbers: Numbers, month: int
) -> FormerCustomers:
    """Turn some new customers into returning ones, in place; return the remaining former ones.

    A returning customer keeps number, gender and senior, and has the contract of a new customer.
    """
    ready = former.month <= month - _RETURN_MONTHS_MIN
    back = np.flatnonzero(ready & (rng.random(len(former)) < RETURNING_SHARE))
    fresh = np.flatnonzero(new.tenure == 1)[: len(back)]
    back = back[: len(fresh)]
    numbers[fresh] = former.number[back]
    new.gender[fresh], new.senior[fresh] = former.gender[back], former.senior[back]
    keep = np.ones(len(former), bool)
    keep[back] = False
    return former.take(keep)


def _remembered(
    rng: np.random.Generator, former: FormerCustomers, customers: Population, left: Flags, month: int, most: int
) -> FormerCustomers:
    """Return the former customers plus some of this month's leavers; keeps the newest ``most``."""
    rows = np.flatnonzero(left & (rng.random(len(left)) < REMEMBERED_SHARE))
    everybody = FormerCustomers(
        np.concatenate([former.number, customers.number[rows]]),
        np.concatenate([former.gender, customers.profile.gender[rows]]),
        np.concatenate([former.senior, customers.profile.senior[rows]]),
        np.concatenate([former.month, np.full(len(rows), month)]),
    )
    return everybody.take(slice(max(len(everybody) - most, 0), None))


def _presence(
    rng: np.random.Generator, left: Flags, vanished: Flags, joining: int, passing: int
) -> tuple[Numbers, Numbers]:
    """Return each customer's presence as (from, until) seconds after the month's start, ``(n,)`` each."""
    goes = _FIRST_S + rng.integers(0, MONTH_S - _FIRST_S, len(left))
    joins = rng.integers(0, MONTH_S - _DAY_S, joining)
    comes = rng.integers(0, MONTH_S - 2 * _DAY_S, passing)
    passes = comes + 1 + (rng.random(passing) * (MONTH_S - comes - 1)).astype(np.int64)
    from_s = np.concatenate([np.zeros(len(left), np.int64), joins, comes])
    until_s = np.concatenate([np.where(left | vanished, goes, MONTH_S), np.full(joining, MONTH_S), passes])
    return from_s, until_s
