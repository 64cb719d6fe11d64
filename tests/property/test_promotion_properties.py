"""No change without proof: equal models hardly ever change places, and a better one mostly takes over."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.promotion_models import RULES, THRESHOLD, Crowd, judge

WORLDS = pytest.mark.parametrize("worlds", [100, pytest.param(600, marks=pytest.mark.full)])
FAST = {"bootstrap_replicates": 300, "ece_max": 1.0}


@pytest.mark.slow
@WORLDS
@pytest.mark.parametrize(
    ("rows", "rate", "noise"),
    [
        (300, 0.25, 0.1),
        (1000, 0.25, 0.01),  # hardly apart: a few customers near the threshold make all of the profit's difference
        (1000, 0.25, 0.03),
        (1000, 0.25, 0.4),
        (1000, 0.04, 0.03),
        (1000, 0.04, 0.4),
    ],
)
def test_equal_models_change_places_in_at_most_five_percent_of_worlds(rows, rate, noise, worlds):
    promoted = 0
    for seed in range(worlds):
        crowd = Crowd(rows, seed, rate)
        # Two models of one truth, each with misses of its own.
        evidence = crowd.evidence(challenger=crowd.guess(noise), champion=crowd.guess(noise))
        promoted += judge(evidence, **FAST).promote
    assert promoted <= 0.05 * worlds, f"{promoted} of {worlds}"


def test_the_very_same_model_never_takes_its_own_place():
    for seed in range(50):
        crowd = Crowd(300, seed)
        score = crowd.guess(0.3)
        assert not judge(crowd.evidence(challenger=score, champion=score), **FAST).promote


@WORLDS
def test_customers_that_recur_make_nobody_surer(worlds):
    promoted = 0
    for seed in range(worlds):
        crowd = Crowd(150, seed)
        ours, theirs = crowd.guess(0.3), crowd.guess(0.3)
        many = np.repeat(np.arange(150), 6)  # half a year of each, with one outcome
        evidence = crowd.evidence(
            customers=crowd.customers[many],
            churned=crowd.churned[many],
            challenger=ours[many],
            champion=theirs[many],
            slices={},
        )
        promoted += judge(evidence, **FAST).promote
    assert promoted <= 0.05 * worlds, f"{promoted} of {worlds}"


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "most"), [(0.5, 0.7), (0.8, 0.95)])
def test_a_model_that_knows_more_mostly_takes_over(noise, most):
    won = 0
    for seed in range(60):
        crowd = Crowd(1500, seed)
        won += judge(crowd.evidence(champion=crowd.guess(noise)), **FAST).promote
    assert won >= most * 60, f"{won} of 60"


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 0.8])
def test_a_model_that_knows_less_never_does(noise):
    for seed in range(60):
        crowd = Crowd(1500, seed)
        assert not judge(crowd.evidence(challenger=crowd.guess(noise), champion=crowd.truth), **FAST).promote


def test_the_rules_that_are_proven_are_those_in_force():
    assert RULES.significance == 0.05
    assert 0 < THRESHOLD < 1
