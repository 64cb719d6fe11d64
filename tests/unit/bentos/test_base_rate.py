import math

import pytest

from bentos.base_rate import REFERENCE_RATE, entropy, log_loss_bound, probability_bound, rows_bound
from bentos.psi import psi


@pytest.mark.parametrize("rate", [REFERENCE_RATE, 0.265, 0.5])
def test_at_the_reference_and_above_bounds_are_as_set(rate):
    assert probability_bound(0.02, rate) == 0.02
    assert log_loss_bound(0.05, rate) == 0.05
    assert rows_bound(100, rate) == 100


@pytest.mark.parametrize("rate", [0.09, 0.05, 0.015, 0.008])
def test_below_it_they_keep_their_relation_to_what_they_are_compared_with(rate):
    assert probability_bound(0.02, rate) / rate == pytest.approx(0.02 / REFERENCE_RATE)
    assert log_loss_bound(0.05, rate) / entropy(rate) == pytest.approx(0.05 / entropy(REFERENCE_RATE))
    assert rows_bound(100, rate) * rate == pytest.approx(100 * REFERENCE_RATE)


def test_the_entropy_is_the_log_loss_of_the_rate_as_everybody_s_score():
    assert entropy(0.25) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert entropy(0) == entropy(1) == 0


def test_without_a_churner_no_number_of_rows_is_enough_and_no_error_is_small_enough():
    assert rows_bound(100, 0.0) == math.inf
    assert probability_bound(0.02, 0.0) == log_loss_bound(0.05, 0.0) == 0


@pytest.mark.parametrize("rate", [0.17, 0.05, 0.015])
def test_a_bound_on_the_label_s_psi_lets_pass_about_the_same_change_at_every_rate(rate):
    """A rate 1.2 times as high passes monitoring.label_psi_max = 0.02, one 1.6 times as high does not."""
    rows = 10_000_000
    found = [
        psi([rows * (1 - rate), rows * rate], [rows * (1 - factor * rate), rows * factor * rate])
        for factor in (1.2, 1.6)
    ]
    assert found[0] < probability_bound(0.02, rate) < found[1]
