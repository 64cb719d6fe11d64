"""Joiners, and changes of contract, services or price, such that the mix of an extract stays constant.

Joiners fill the shares of tenures and cells that leavers reduced; without ``fixed_mix`` they have the profiles of
leavers. Changes are Metropolis-Hastings steps (Hastings 1970) on the joint distribution of the active customers, which
therefore stays the same however many customers change.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.hazard import between_extracts, core_log_intensity
from feature_repo.raw.simulator.profile import (
    ADD_ON_KINDS,
    CELLS,
    CONTRACTS,
    INTERNETS,
    PAYMENT_METHODS,
    Profile,
    Small,
    applicable,
    cell,
)
from feature_repo.raw.simulator.sampling import draw_profiles, log_likelihood, price_noise

CANDIDATES: Final = 6
"""Number of candidate profiles per draw."""
CHANGE_SHARE: Final = 0.05
"""Share of the customers per month with a proposed change; about half of these are accepted."""
REPRICED_SHARE: Final = 0.025
"""Share of the customers per month whose deviation from the price list is redrawn."""
_LEAST_SHARE: Final = 0.002
"""Least weight of a cell that lacks no customers, as a share of its target size."""
_PASSING: Final = 1.12
"""Measured: the base is a little more loyal than the file's (its customers who stay longest are not replaced), so that
without this factor extracts have a churn rate of 25 instead of 26.5 %."""
_CHANGING: Final = (
    ("contract", len(CONTRACTS)),
    ("internet", len(INTERNETS)),
    ("lines", 2),
    *((name, 2) for name in ADD_ON_KINDS),
    ("paperless", 2),
    ("payment", len(PAYMENT_METHODS)),
    ("partner", 2),
    ("dependents", 2),
)


def first_customers(rng: np.random.Generator, customers: int, constants: Calibration) -> Profile:
    """Draw the active customers of a steady base."""
    tenure = rng.choice(len(constants.active_tenure_share), customers, p=constants.active_tenure_share)
    return _chosen(rng, tenure.astype(np.int16), constants)


def one_extract(rng: np.random.Generator, listed: int, constants: Calibration) -> Profile:
    """Draw the rows of a whole extract, including leavers, from the real file's distribution."""
    tenure = rng.choice(len(constants.tenure_share), listed, p=constants.tenure_share)
    return draw_profiles(rng, tenure.astype(np.int16), constants)


def joiners(rng: np.random.Generator, survivors: Profile, places: int, constants: Calibration) -> Profile:
    """Draw joiners that fill the base up to ``places`` customers, given the survivors of the month.

    Tenures are drawn in proportion to what each lacks of its share. Those up to 1 are new customers; longer ones
    represent customers taken over from other providers, drawn from the active customers of that tenure, more where a
    cell lacks customers. Without ``fixed_mix`` all are new customers.
    """
    here = np.bincount(survivors.tenure, minlength=len(constants.active_tenure_share))
    lacking = np.maximum(places * constants.active_tenure_share - here, 0)
    free = places - len(survivors)
    if free <= 0:
        return Profile.empty(0)
    if not constants.fixed_mix:
        return new_customers(rng, free, constants)
    chosen = rng.choice(len(lacking), free, p=lacking / lacking.sum()).astype(np.int16)
    filled = np.bincount(cell(survivors, core_log_intensity(survivors, constants)), minlength=CELLS)
    wanted = np.maximum(places * constants.active_cells - filled, _LEAST_SHARE * places * constants.active_cells)
    fresh, book = chosen[chosen <= 1], chosen[chosen > 1]
    return Profile.concat([_chosen(rng, fresh, constants), _chosen(rng, book, constants, wanted)])


def new_customers(rng: np.random.Generator, count: int, constants: Calibration) -> Profile:
    """Draw new customers with the profiles of the file's leavers, at tenure 1, or 0 if not billed yet."""
    drawn = one_extract(rng, count * CANDIDATES, constants)
    leaves = 1 / (1 + np.exp(-core_log_intensity(drawn, constants)))
    below = np.cumsum(leaves.reshape(CANDIDATES, count), axis=0)
    pick = np.minimum((rng.random(count) * below[-1] > below).sum(axis=0), CANDIDATES - 1)
    chosen = drawn.take(pick * count + np.arange(count))
    unbilled = constants.active_tenure_share[0] / constants.active_tenure_share[1]
    chosen.tenure = (rng.random(count) >= unbilled).astype(np.int16)
    return chosen


def passers(rng: np.random.Generator, listed: int, constants: Calibration) -> Profile:
    """Draw customers who join and leave between two extracts of about ``listed`` rows.

    None without ``fixed_mix``.
    """
    if not constants.fixed_mix:
        return Profile.empty(0)
    drawn = one_extract(rng, listed, constants)
    score = core_log_intensity(drawn, constants)
    leaves = 1 / (1 + np.exp(-score))
    return drawn.take(rng.random(listed) < _PASSING * leaves * between_extracts(score))


def legacy(rng: np.random.Generator, tenure: Small, places: int, constants: Calibration) -> NDArray[np.intp]:
    """Return the rows at the tenure cap to move to a legacy book, so that the cap keeps its share, sorted."""
    if not constants.fixed_mix:
        return np.empty(0, np.intp)
    cap = len(constants.active_tenure_share) - 1
    rows = np.flatnonzero(tenure == cap)
    keep = round(float(places * constants.active_tenure_share[cap]))
    return np.sort(rng.permutation(rows)[keep:]) if len(rows) > keep else rows[:0]


def changed(rng: np.random.Generator, profile: Profile, constants: Calibration) -> tuple[NDArray[np.intp], Profile]:
    """Return the rows that change this month, ascending, and their profiles after the change."""
    rows = np.flatnonzero(rng.random(len(profile)) < CHANGE_SHARE)
    before = profile.take(rows)
    after = _proposed(rng, before)
    target = _log_active(after, constants) - _log_active(before, constants)
    accepted = np.log(rng.random(len(rows))) < target
    repriced = np.flatnonzero(rng.random(len(profile)) < REPRICED_SHARE)
    chance = rng.random(len(repriced), np.float32)
    repriced_after = profile.take(repriced)
    repriced_after.noise = price_noise(repriced_after.internet, chance, constants)
    only = ~np.isin(repriced, rows[accepted])
    together = np.concatenate([rows[accepted], repriced[only]])
    order = np.argsort(together)
    return together[order], Profile.concat([after.take(accepted), repriced_after.take(only)]).take(order)


def _proposed(rng: np.random.Generator, before: Profile) -> Profile:
    """Return profiles with one attribute each set to another value, uniformly: a symmetric proposal."""
    after = before.take(slice(None))
    which = rng.integers(len(_CHANGING), size=len(before))
    shift = rng.random(len(before))
    for place, (name, values) in enumerate(_CHANGING):
        rows = np.flatnonzero((which == place) & applicable(name, before))
        value = getattr(after, name)
        value[rows] = (value[rows] + 1 + (shift[rows] * (values - 1)).astype(np.int16)) % values
    # Fibre and no internet need a telephone, and add-ons need internet: invalid proposals are undone.
    broken = (after.internet > 0) & (after.phone == 0)
    broken |= (after.internet != before.internet) & (
        (after.internet == len(INTERNETS) - 1) | (before.internet == len(INTERNETS) - 1)
    )
    after.put(np.flatnonzero(broken), before.take(broken))
    return after


def _log_active(profile: Profile, constants: Calibration) -> NDArray[np.float64]:
    """Return log P(x) P(No | x), the density of active customers at their tenure, up to a constant."""
    return log_likelihood(profile, constants) - np.logaddexp(0, core_log_intensity(profile, constants))


def _chosen(
    rng: np.random.Generator, tenure: Small, constants: Calibration, wanted: NDArray[np.float64] | None = None
) -> Profile:
    """Draw one active customer's profile per tenure; ``wanted``: relative numbers per cell."""
    drawn = draw_profiles(rng, np.tile(tenure, CANDIDATES), constants)
    score = core_log_intensity(drawn, constants)
    weight = np.exp(-np.logaddexp(0, score))
    if wanted is not None:
        place = cell(drawn, score)
        weight *= (wanted / np.maximum(np.bincount(place, weights=weight, minlength=CELLS), 1))[place]
    below = np.cumsum(weight.reshape(CANDIDATES, len(tenure)), axis=0)
    chance = rng.random(len(tenure)) * below[-1]
    pick = np.minimum((chance > below).sum(axis=0), CANDIDATES - 1)
    return drawn.take(pick * len(tenure) + np.arange(len(tenure)))
