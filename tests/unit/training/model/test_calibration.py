"""Calibration is learnt where it is missing, and left alone where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics.scores import ece, log_loss
from training.model.calibration import IDENTITY, fit_calibration, platt

N = 20_000


@pytest.fixture(scope="module")
def world():
    """Customers whose true log-odds are known, and who left accordingly."""
    rng = np.random.default_rng(5)
    margin = rng.normal(-1, 1.2, N)
    return margin, rng.random(N) < 1 / (1 + np.exp(-margin))


def test_a_calibrated_margin_stays_as_it_is(world):
    margin, churned = world
    assert fit_calibration(margin, churned, seed=7) == IDENTITY == (1.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("slope", "intercept"), [(2.0, 1.0), (0.5, 0.0), (1.0, -1.0), (1.0, 0.5)])
def test_a_distorted_margin_is_repaired(world, slope, intercept):
    margin, churned = world
    distorted = slope * margin + intercept
    found_slope, found_intercept = fit_calibration(distorted, churned, seed=7)
    assert found_slope == pytest.approx(1 / slope, abs=0.1)
    assert found_intercept == pytest.approx(-intercept / slope, abs=0.1)
    repaired = 1 / (1 + np.exp(-(found_slope * distorted + found_intercept)))
    before = 1 / (1 + np.exp(-distorted))
    assert log_loss(churned, repaired) < log_loss(churned, before)
    assert ece(churned, repaired) < 0.015 < ece(churned, before)


def test_the_order_of_customers_never_changes(world):
    margin, churned = world
    slope, _ = fit_calibration(3 * margin - 1, churned, seed=7)
    assert slope > 0


def test_platt_is_the_logistic_regression_of_the_label_on_the_margin():
    # Two points a side: at margin 0 one of four left, at margin 1 three of four. logit(1/4) = -ln 3.
    margin = np.repeat([0.0, 1.0], 4)
    churned = np.array([True, False, False, False, True, True, True, False])
    assert platt(margin, churned) == pytest.approx((2 * np.log(3), -np.log(3)), abs=1e-3)


def test_the_seed_decides_the_halves_and_nothing_else(world):
    margin, churned = world
    assert fit_calibration(2 * margin, churned, seed=1) == fit_calibration(2 * margin, churned, seed=1)
    assert fit_calibration(2 * margin, churned, seed=1) == pytest.approx(
        fit_calibration(2 * margin, churned, seed=2), abs=1e-9
    )


@pytest.mark.slow
def test_over_time_the_calibration_is_judged_on_newer_moments(world):
    margin, churned = world
    moments = np.arange(N) % 4
    assert fit_calibration(margin, churned, 7, moments) == IDENTITY
    assert fit_calibration(2 * margin + 1, churned, 7, moments) == platt(2 * margin + 1, churned)
    # What distorted only the older half helps nobody any more.
    once = np.where(moments < 2, 3 * margin + 2, margin)
    assert fit_calibration(once, churned, 7, moments) == IDENTITY
    assert fit_calibration(once, churned, 7) != IDENTITY
    # One moment is no order in time.
    one = np.zeros(N, dtype=np.int64)
    assert fit_calibration(2 * margin, churned, 7, one) == fit_calibration(2 * margin, churned, 7)
