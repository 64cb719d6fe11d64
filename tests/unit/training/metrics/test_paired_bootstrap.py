"""The paired bootstrap: means, bounds, clusters, and what was not seen."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.decisions.economics import Economics
from training.metrics.paired_bootstrap import Gain, bootstrap_gains, losses, profits, worst_profit
from training.metrics.scores import log_loss

PAPER = Economics()


def gain_of(difference, customers=None, worst=None, *, share=0.025, seed=3, replicates=2000):
    values = np.asarray(difference, dtype=float)
    names = np.arange(len(values)) if customers is None else np.asarray(customers)
    given = {} if worst is None else {"x": worst}
    return bootstrap_gains(names, {"x": values}, given, share=share, replicates=replicates, seed=seed)["x"]


def test_each_rows_log_loss_makes_up_the_mean():
    churned, score = np.array([True, False, True, False]), np.array([0.9, 0.2, 0.0, 1.0])
    assert losses(churned, score).mean() == pytest.approx(log_loss(churned, score))
    assert losses(churned, score)[:2] == pytest.approx([-np.log(0.9), -np.log(0.8)])


def test_profit_is_earned_by_the_contacted_alone():
    churned, score = np.array([True, False, True, False]), np.array([0.5, 0.5, 0.49, 0.49])
    # 0.3 * (200 - 10) - 1 for a churner, -(10 + 1) for a stayer, at or above the threshold.
    assert profits(churned, score, 0.5, PAPER).tolist() == [56.0, -11.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("challenger", "champion", "worst"),
    [
        ([1, 0], [1, 0], 0.0),
        ([1, 1], [1, 0], -11.0),  # it contacts more: the next one may stay
        ([0, 0], [1, 0], -56.0),  # it contacts fewer: the next one may leave
        ([0, 1], [1, 0], -56.0),
    ],
)
def test_the_worst_that_one_more_row_could_bring(challenger, champion, worst):
    assert worst_profit(np.array(challenger, bool), np.array(champion, bool), PAPER) == worst


def test_the_bound_is_that_of_the_normal_distribution_where_there_are_many_rows():
    values = np.random.default_rng(1).normal(0.2, 1.0, 4000)
    found = gain_of(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.lower == pytest.approx(values.mean() - 1.96 * values.std() / np.sqrt(4000), abs=0.003)


def test_rows_of_one_customer_go_together():
    values = np.random.default_rng(1).normal(0.1, 1.0, 500)
    once, copied = gain_of(values), gain_of(np.repeat(values, 9), np.repeat(np.arange(500), 9))
    as_if_apart = gain_of(np.repeat(values, 9))
    assert copied.mean == pytest.approx(once.mean)
    assert copied.lower == pytest.approx(once.lower, abs=1e-12)
    assert as_if_apart.lower > once.lower + 0.04, "rows of a customer taken for nine would be too sure"


def test_customers_with_more_rows_weigh_more():
    assert gain_of([1.0, 1.0, 1.0, -1.0], ["a", "a", "a", "b"]).mean == 0.5


@pytest.mark.parametrize(
    ("rows", "worst", "sure"),
    [
        (3, None, False),
        (12, None, True),  # twelve lucky stayers spared: the plain bootstrap knows of no churner among them
        (12, -56.0, False),
        (60, -56.0, True),
    ],
)
def test_a_few_rows_prove_nothing_where_the_worst_was_not_seen(rows, worst, sure):
    difference = np.zeros(1000)
    difference[:rows] = 11.0
    assert gain_of(difference, worst=worst).is_significant is sure


def test_equal_models_are_not_better_and_rounding_is_no_gain():
    assert gain_of(np.zeros(100), worst=0.0) == Gain(0.0, 0.0)
    assert not gain_of(np.full(100, 1e-12)).is_significant
    assert gain_of(np.full(100, 1e-6)).is_significant


def test_the_draws_depend_on_the_seed_alone():
    values = np.random.default_rng(1).normal(0.1, 1.0, 300)
    once = gain_of(values)
    assert gain_of(values) == once
    assert gain_of(values, seed=4) != once


def test_one_row_has_a_bound():
    assert gain_of([2.0]) == Gain(2.0, 2.0)
