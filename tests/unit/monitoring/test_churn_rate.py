import math

import numpy as np
import pytest

from configs.settings import load_settings
from monitoring.churn_rate import FALSE_ALARM, Labelled, churn_rate_bounds

LIMITS = load_settings().data


def passes(churners, rows, earlier=()):
    low, high = churn_rate_bounds([Labelled(*each) for each in earlier], rows, LIMITS)
    return low <= churners / rows <= high


@pytest.mark.parametrize(
    ("churners", "rows", "earlier", "expected"),
    [
        # A first snapshot: carriers, the public file, and what is no churn rate of a month.
        (56, 7000, (), True),
        (105, 7000, (), True),
        (1869, 7043, (), True),
        (2400, 300_000, (), True),
        (0, 7000, (), False),
        (7000, 7000, (), False),
        (0, 120, (), False),
        (1, 120, (), True),
        (120, 120, (), False),
        (5174, 7043, (), False),
        # Later ones: near the last snapshots.
        (45_000, 3_000_000, [(3_000_000, 0.012)], True),
        (10_000, 3_000_000, [(3_000_000, 0.012)], False),
        (120_000, 3_000_000, [(3_000_000, 0.012)], False),
        (0, 7000, [(7000, 0.015)] * 3, False),
        (0, 120, [(120, 0.01)], True),
        (1000, 7000, [(7000, 0.015)] * 3, False),
        (300, 7000, [(7000, 0.015)] * 3, True),
        (6000, 7043, [(7043, 0.265)], False),
        # The newest six count: what a base was like years ago does not.
        (100, 7000, [(7000, 0.3)] * 6 + [(7000, 0.015)] * 6, True),
        # A base so small that no snapshot held a churner yet.
        (2, 150, [(150, 0.0)] * 2, True),
    ],
)
def test_which_churn_rates_pass(churners, rows, earlier, expected):
    assert passes(churners, rows, earlier) is expected


@pytest.mark.parametrize("rate", [0.002, 0.008, 0.015, 0.265])
@pytest.mark.parametrize("rows", [300, 7000, 300_000])
def test_months_of_one_rate_are_hardly_ever_refused(rate, rows):
    """3,000 pairs of months drawn from one rate: refusals stay within what FALSE_ALARM allows on both sides."""
    rng = np.random.default_rng(5)
    first, second = rng.binomial(rows, rate, (2, 3000))
    refused = sum(
        not passes(int(now), rows, [(rows, before / rows)]) for before, now in zip(first, second, strict=True)
    )
    expected = 2 * FALSE_ALARM * 3000
    assert refused <= expected + 4 * math.sqrt(expected)


def test_a_file_without_rows_has_no_rate_to_judge():
    assert churn_rate_bounds([], 0, LIMITS) == (0.0, 1.0)
