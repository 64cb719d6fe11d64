"""A champion on matured labels: what is worse than chance allows, and what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs.settings import load_settings
from monitoring.drift import Baseline
from monitoring.performance import PerformanceCheck, check_performance

LIMITS = load_settings().monitoring
ROWS = 2000


def world(rows=ROWS, seed=1, more=1.0):
    """Scores of a model that knows its customers, and who left."""
    chance = np.random.default_rng(seed)
    score = np.minimum(more * chance.beta(1, 5, rows), 0.9)
    return chance.random(rows) < score, score


def reference(rows=ROWS, seed=0):
    churned, score = world(rows, seed)
    loss = -np.where(churned, np.log(score), np.log1p(-score))
    return Baseline(
        digest="d",
        contract_hash="c",
        bins=10,
        observed="2026-01-01T06:00:00+00:00",
        rows=rows,
        churned=int(churned.sum()),
        log_loss=float(loss.mean()),
        log_loss_spread=float(loss.std()),
        columns=(),
    )


def test_what_can_not_be_judged_has_its_figures_and_no_drift():
    churned, score = world(seed=3)
    lost = np.random.default_rng(3).permutation(score)
    judged = check_performance(reference(), churned, lost, "2026-02-01", LIMITS)
    unjudged = check_performance(reference(), churned, lost, "2026-02-01", LIMITS, judged=False)
    assert "log_loss" in judged.drifted
    assert (unjudged.status, unjudged.drifted, unjudged.rise) == ("insufficient data", [], judged.rise)


def measured(churned, score, **changes):
    return check_performance(reference(), churned, score, "2026-02-01", LIMITS.model_copy(update=changes))


def test_a_model_that_stayed_as_good_is_stable():
    for seed in range(1, 40):
        assert measured(*world(seed=seed)).drifted == []


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        # A campaign: everybody leaves more often than the model thinks.
        (lambda churned, score, chance: (churned | (chance.random(ROWS) < 0.06), score), ["log_loss", "calibration"]),
        # Fewer leave than it thinks.
        (lambda churned, score, chance: (churned & (chance.random(ROWS) < 0.6), score), ["calibration"]),
        # It has lost its customers: scores of others.
        (lambda churned, score, chance: (churned, chance.permutation(score)), ["log_loss"]),
        # More leave, and the model knows who: nothing is wrong with it.
        (lambda churned, score, chance: world(seed=3, more=1.2), []),
    ],
    ids=["more leave", "fewer leave", "it ranks no more", "more leave and it knows"],
)
def test_what_is_found(change, drifted):
    churned, score = world(seed=3)
    found = measured(*change(churned, score, np.random.default_rng(4)))
    assert found.drifted == drifted
    assert found.status == ("drift" if drifted else "stable")


def test_a_model_that_got_better_is_no_drift():
    churned, _ = world(seed=3)
    found = measured(churned, np.where(churned, 0.9, 0.03), calibration_gap_max=1.0)
    assert found.rise < 0
    assert found.status == "stable"


def test_few_rows_and_none_prove_nothing():
    churned, score = world(seed=3)
    few = measured(~churned[:150], score[:150])
    assert (few.status, few.drifted, few.rows) == ("insufficient data", [], 150)
    none = check_performance(reference(), churned[:0], score[:0], None, LIMITS)
    assert none == PerformanceCheck("insufficient data", None, 0)


def test_chance_is_allowed_on_top_of_the_setting():
    churned, score = world(400, seed=3)
    strict = measured(churned, score, log_loss_rise_max=1e-9, calibration_gap_max=1e-9)
    assert strict.rise_bound > 0.01
    assert strict.gap_bound > 0.01
    assert measured(churned, score, log_loss_rise_max=2.0, calibration_gap_max=0.5).rise_bound == 2.0


@pytest.mark.parametrize(("factor", "drifted"), [(1.0, []), (2.0, ["calibration"]), (0.4, ["calibration"])])
def test_where_few_leave_a_change_of_the_rate_is_seen_all_the_same(factor, drifted):
    """At 1.5 % a rate that doubles moves by 0.015 only: less than the bound that is set for a rate of 26.5 %."""
    chance = np.random.default_rng(5)
    score = chance.beta(0.3, 19.7, 40_000)
    churned = chance.random(len(score)) < np.minimum(factor * score, 1)
    loss = -np.where(chance.random(len(score)) < score, np.log(score.clip(1e-9)), np.log1p(-score))
    before = replace(
        reference(),
        rows=len(score),
        churned=int(score.sum()),
        log_loss=float(loss.mean()),
        log_loss_spread=float(loss.std()),
    )
    found = check_performance(before, churned, score.clip(1e-9), "2026-02-01", LIMITS)
    assert "calibration" in found.drifted if drifted else found.drifted == []
    assert found.gap_bound < LIMITS.calibration_gap_max / 4
