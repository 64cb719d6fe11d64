"""The population stability index by hand, and how large it gets by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from bentos.psi import psi, psi_by_chance

COUNTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=12).filter(any)


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([10, 20, 30], [10, 20, 30], 0.0),
        ([10, 20, 30], [100, 200, 300], 0.0),
        # By hand: shares 0.5 and 0.5 against 0.8 and 0.2.
        ([50, 50], [80, 20], 0.3 * math.log(1.6) - 0.3 * math.log(0.4)),
        ([9900, 100], [100, 9900], 2 * 0.98 * math.log(99)),
    ],
)
def test_the_sum_by_hand(reference, current, expected):
    # Half a row added to each bin moves it a little.
    assert psi(reference, current) == pytest.approx(expected, rel=0.06, abs=0.004)


@given(COUNTS, st.data())
def test_it_is_finite_and_never_below_zero_and_the_sides_may_change_places(reference, data):
    current = data.draw(st.lists(st.integers(0, 10_000), min_size=len(reference), max_size=len(reference)).filter(any))
    found = psi(reference, current)
    assert math.isfinite(found)
    assert found >= -1e-12
    assert found == pytest.approx(psi(current, reference), abs=1e-12)


def test_a_bin_that_emptied_gives_a_large_number_and_not_infinity():
    assert 3 < psi([500, 500], [1000, 0]) < 5


@pytest.mark.parametrize(
    ("reference", "current", "told"),
    [
        ([1, 2], [1, 2, 3], "same bins"),
        ([[1, 2]], [[1, 2]], "same bins"),
        ([0, 0], [1, 2], "no rows"),
        ([1, 2], [0, 0], "no rows"),
        ([-1, 2], [1, 2], "negative"),
        ([math.nan, 2], [1, 2], "negative or no number"),
        ([math.inf, 2], [1, 2], "negative or no number"),
    ],
)
def test_what_is_no_pair_of_counts_is_refused(reference, current, told):
    with pytest.raises(ValueError, match=told):
        psi(reference, current)


@pytest.mark.parametrize("bins", [2, 3, 10, 40])
@pytest.mark.parametrize(("false_alarm", "rel"), [(0.05, 0.03), (0.001, 0.04), (0.00002, 0.11)])
def test_the_bound_by_chance_is_the_chi_squared_one(bins, false_alarm, rel):
    exact = chi2.ppf(1 - false_alarm, bins - 1) * (1 / 700 + 1 / 1100)
    assert psi_by_chance(bins, 700, 1100, false_alarm) == pytest.approx(exact, rel=rel)


@pytest.mark.parametrize(("bins", "n", "m"), [(2, 1000, 1000), (10, 1000, 1000), (12, 300, 5000)])
def test_equal_populations_pass_it_as_rarely_as_it_says(bins, n, m):
    chance = np.random.default_rng(5)
    bound = psi_by_chance(bins, n, m, 0.01)
    shares = np.full(bins, 1 / bins)
    passed = [psi(chance.multinomial(n, shares), chance.multinomial(m, shares)) > bound for _ in range(4000)]
    assert np.mean(passed) == pytest.approx(0.01, abs=0.006)


def test_a_bin_that_is_empty_on_both_sides_adds_nothing():
    assert psi([281, 719], [236, 764]) == psi([0, 281, 0, 719, 0], [0, 236, 0, 764, 0])
    assert psi([10, 0, 0], [1000, 0, 0]) == 0
