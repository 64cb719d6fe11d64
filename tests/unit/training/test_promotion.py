"""Champion against challenger, as a table of figures and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from configs.settings import PromotionSettings
from training.metrics import Metrics, ece
from training.promotion import decide, ece_noise

RULES = PromotionSettings(log_loss_margin=0.0, roc_auc_min=0.6, ece_max=0.08)


def figures(**changed):
    usual = {
        "rows": 100_000,
        "churn_rate": 0.26,
        "roc_auc": 0.85,
        "pr_auc": 0.67,
        "brier": 0.133,
        "log_loss": 0.41,
        "ece": 0.02,
        "lift_10": 2.9,
        "empc_usd": 5.0,
        "target_share": 0.5,
        "profit_threshold": 0.16,
        "profit_share": 0.5,
        "profit_usd": 4.9,
    }
    return Metrics(**(usual | changed))


@pytest.mark.parametrize(
    ("challenger", "champion", "failed"),
    [
        # Nobody serves yet: only the floors count.
        ({}, None, ()),
        ({"roc_auc": 0.6}, None, ()),
        ({"roc_auc": 0.5999}, None, ("ROC-AUC floor",)),
        ({"roc_auc": 0.99}, None, ("no leak",)),
        ({"roc_auc": 1.0}, None, ("no leak",)),
        ({"ece": 0.083}, None, ()),
        ({"ece": 0.084}, None, ("calibration",)),
        # On few rows chance alone makes bins miss: 0.08 + 0.0354 on a thousand, 0.08 + 0.0035 on a hundred thousand.
        ({"ece": 0.114, "rows": 1000}, None, ()),
        ({"ece": 0.116, "rows": 1000}, None, ("calibration",)),
        ({"roc_auc": 0.3, "ece": 0.5}, None, ("ROC-AUC floor", "calibration")),
        # A tie promotes: the newer data are worth it.
        ({}, {}, ()),
        ({"log_loss": 0.40}, {}, ()),
        ({"log_loss": 0.4101}, {}, ("log loss against the champion",)),
        ({"empc_usd": 4.99}, {}, ("profit against the champion",)),
        ({"empc_usd": 5.0 * (1 - 1e-12)}, {}, ()),
        ({"log_loss": 0.6, "empc_usd": 1.0}, {}, ("log loss against the champion", "profit against the champion")),
        ({"log_loss": 0.3, "roc_auc": 0.55}, {}, ("ROC-AUC floor",)),
        # A ranking that is a little worse is no reason if the probabilities are better.
        ({"log_loss": 0.40, "roc_auc": 0.84}, {}, ()),
        ({}, {"rows": 999}, ("same rows",)),
        ({"log_loss": 0.1}, {"rows": 999}, ("same rows",)),
        # What is not a number holds no rule.
        ({"roc_auc": math.nan}, None, ("ROC-AUC floor", "no leak")),
        ({"ece": math.nan}, None, ("calibration",)),
        ({"log_loss": math.nan}, {}, ("log loss against the champion",)),
        ({"empc_usd": math.nan}, {}, ("profit against the champion",)),
        ({"empc_usd": math.inf}, {}, ("profit against the champion",)),
        ({"log_loss": -math.inf}, {}, ("log loss against the champion",)),
        ({}, {"log_loss": math.nan}, ("log loss against the champion",)),
        ({}, {"log_loss": math.inf}, ("log loss against the champion",)),
        ({}, {"empc_usd": math.nan}, ("profit against the champion",)),
    ],
    ids=str,
)
def test_verdict(challenger, champion, failed):
    verdict = decide(figures(**challenger), None if champion is None else figures(**champion), RULES)
    assert verdict.promote is (not failed)
    assert tuple(rule for rule, held, _ in verdict.rules if not held) == failed
    assert len(verdict.rules) == (3 if champion is None else 6)


def test_the_margin_lets_a_little_worse_through():
    lenient = RULES.model_copy(update={"log_loss_margin": 0.01})
    assert decide(figures(log_loss=0.419), figures(), lenient).promote
    assert not decide(figures(log_loss=0.421), figures(), lenient).promote


def test_a_loss_making_champion_is_beaten_by_a_smaller_loss_only():
    # EMPC is never below 0 (nobody need be contacted), and two that earn nothing are a tie.
    assert decide(figures(empc_usd=0.0), figures(empc_usd=0.0), RULES).promote


def test_why_names_the_rules_with_their_figures():
    assert decide(figures(), figures(), RULES).why == "every rule held"
    verdict = decide(figures(log_loss=0.5, ece=0.2), figures(), RULES)
    assert verdict.why == "failed: calibration (0.2000 <= 0.0835); log loss against the champion (0.5000 <= 0.4100)"


@pytest.mark.parametrize("rows", [200, 1400, 10_000])
def test_chance_alone_stays_below_what_is_allowed_for_it(rows):
    rng = np.random.default_rng(11)
    score = rng.beta(0.8, 2.2, (40, rows))
    found = np.mean([ece(rng.random(rows) < each, each) for each in score])
    assert found < ece_noise(figures(rows=rows, churn_rate=float(score.mean()))) < 2.5 * found
