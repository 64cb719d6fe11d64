"""Sampling of core profiles from the real file's distribution, and their likelihood.

The model is a Bayesian network: tenure from its shares, then each attribute from a logistic regression on those before.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.profile import CHAIN, INTERNETS, Profile, ProfileDesign, Small, applicable

_TWO: Final = 2
_ROWS: Final = 1 << 13
"""Customers per design matrix: it bounds the memory; the result does not depend on it."""


def draw_profiles(rng: np.random.Generator, tenure: Small, constants: Calibration) -> Profile:
    """Draw one profile per tenure.

    Parameters
    ----------
    rng
        Advanced by a number of draws that depends on ``len(tenure)`` alone.
    tenure
        ``(n,)`` whole months.
    constants
        The constants of the fitted models.
    """
    profile = Profile.empty(len(tenure))
    profile.tenure = tenure.astype(np.int16)
    chances = rng.random((len(CHAIN) + 2, len(tenure)), np.float32)
    for start in range(0, len(tenure), _ROWS):
        part = slice(start, start + _ROWS)
        drawn = _drawn(profile.take(part), chances[:, part], constants)
        profile.put(np.arange(len(tenure))[part], drawn)
    profile.gender = (chances[-2] < constants.male_share).astype(np.int16)
    profile.noise = price_noise(profile.internet, chances[-1], constants)
    return profile


def price_noise(internet: Small, chance: NDArray[np.float32], constants: Calibration) -> Small:
    """Return deviations from the price list, ``(n,)`` steps of 0.05 USD, by inverse transform sampling.

    ``chance`` ``(n,)`` in [0, 1) is mapped to the real file's quantiles.
    """
    noise = np.zeros(len(internet), np.int16)
    levels = np.linspace(0, 1, constants.noise_quantiles.shape[1])
    for net in range(len(INTERNETS)):
        rows = internet == net
        noise[rows] = np.rint(np.interp(chance[rows], levels, constants.noise_quantiles[net]))
    return noise


def log_likelihood(profile: Profile, constants: Calibration) -> NDArray[np.float64]:
    """Return log P(attributes | tenure) of each profile, ``(n,)``; gender and price noise are left out."""
    columns, every = ProfileDesign(profile), np.arange(len(profile))
    total = np.zeros(len(profile))
    for name, _ in CHAIN:
        told = np.log(_shares(columns.known, constants.chain[name])[getattr(profile, name), every])
        total += np.where(applicable(name, profile), told, 0.0)
        columns.learn(name)
    return total


def _drawn(profile: Profile, chances: NDArray[np.float32], constants: Calibration) -> Profile:
    columns = ProfileDesign(profile)
    for place, (name, values) in enumerate(CHAIN):
        shares = _shares(columns.known, constants.chain[name])
        below = shares if values == _TWO else np.cumsum(shares, axis=0)
        value = (chances[place] > below[: values - 1]).sum(axis=0)
        fixed = 1 if name == "phone" else 0
        setattr(profile, name, np.where(applicable(name, profile), value, fixed).astype(np.int16))
        columns.learn(name)
    return profile


def _shares(columns: NDArray[np.float32], coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of each value, ``(values, n)``: softmax, or logistic for two values."""
    scores = coefficients @ columns
    if len(scores) == 1:
        share = 1 / (1 + np.exp(-scores))
        return np.concatenate([1 - share, share])
    weights = np.exp(scores - scores.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))
