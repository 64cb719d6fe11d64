"""Profit figures against hand-computed cases, published values and numeric integration."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.decisions.economics import Economics, profit_threshold
from training.metrics.profit import OneClassError, best_targeting, empc, profit_curve, targeting_at

PAPER = Economics()
RNG_SEED = 20130501


def noisy(rows: int, seed: int = RNG_SEED) -> tuple[np.ndarray, np.ndarray]:
    """A ranking that is neither perfect nor random, with ties."""
    rng = np.random.default_rng(seed)
    score = rng.beta(1.2, 3, rows).round(2)
    return rng.random(rows) < score, score


def integrated(churned: np.ndarray, score: np.ndarray, economics: Economics) -> tuple[float, float]:
    """EMPC and eta by their definition: the best cut for each gamma, integrated over Beta's density."""
    from scipy.integrate import trapezoid
    from scipy.stats import beta

    gammas = np.linspace(0, 1, 20_001)
    order = np.unique(score)[::-1]
    contacted = np.asarray([0, *((score >= cut).sum() for cut in order)]) / score.size
    caught = np.asarray([0, *(churned[score >= cut].sum() for cut in order)]) / score.size
    gain = gammas * (economics.clv_usd - economics.incentive_usd) - economics.contact_usd
    profit = gain[:, None] * caught - (contacted - caught) * economics.waste_usd
    density = beta.pdf(gammas, economics.accept_alpha, economics.accept_beta)
    best = profit.argmax(axis=1)
    return (
        float(trapezoid(profit.max(axis=1) * density, gammas)),
        float(trapezoid(contacted[best] * density, gammas)),
    )


PUBLISHED = [
    # The examples of the documentation of empulse (Rahman and others), empulse.metrics.empc.
    ([0, 1, 0, 1, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9], 23.875593418348124),
    # Those that Stripling and others (2018) hold the reference code of "Profit maximizing logistic model for
    # customer churn prediction using genetic algorithms" against: proflogit-python, test_empc.py.
    ([0, 1], [0.0, 1.0], 28.0000000000391),
    ([0, 1], [1.0, 0.0], 22.5007912244511),
    ([1, 0], [0.5, 0.5], 22.5007912244511),
    (
        [1, 1, 0, 0, 0, 1, 1, 1, 1, 0],
        [0.6125478, 0.3642710, 0.4321361, 0.1402911, 0.3848959, 0.2444155, 0.9706413, 0.8901728, 0.7817814, 0.8687518],
        30.3003222629848,
    ),
    (
        [1, 1, 0, 0, 0, 1, 1, 1, 1, 0],
        [
            0.287577520124614,
            0.3642710,
            0.4321361,
            0.1402911,
            0.3848959,
            0.2444155,
            0.113703411305323,
            0.8901728,
            0.7817814,
            0.8687518,
        ],
        29.2002764792561,
    ),
]
"""Labels (1: left), scores, and the EMPC in USD that others published for the paper's costs and gains."""


@pytest.mark.parametrize(("churned", "score", "empc_usd"), PUBLISHED)
def test_published_values(churned: list[int], score: list[float], empc_usd: float) -> None:
    assert empc(np.asarray(churned) == 1, np.asarray(score), PAPER).empc_usd == pytest.approx(empc_usd, abs=1e-10)


def test_the_published_share_to_contact() -> None:
    churned, score, _ = PUBLISHED[0]
    found = empc(np.asarray(churned) == 1, np.asarray(score), PAPER).target_share
    assert found == pytest.approx(0.8743700763487141, abs=1e-12)


def test_a_perfect_ranking_earns_every_churner() -> None:
    # Only churners are ever contacted, and only for gamma > contact / (clv - incentive) = 1 / 190:
    # EMPC = rate * E[max(gamma * 190 - 1, 0)]; P(gamma < 1/190) is 1e-10 for Beta(6, 14).
    churned = np.asarray([True] * 3 + [False] * 7)
    found = empc(churned, np.where(churned, 0.9, 0.1), PAPER)
    assert found.empc_usd == pytest.approx(0.3 * 56, abs=1e-6)
    assert found.target_share == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_a_random_ranking_contacts_all_or_none(rate: float) -> None:
    # One score for all: everybody is contacted once gamma passes g = (s/c * 11 + 1) / 190, nobody below, so
    # EMPC = rate * 190 * E[(gamma - g)+] and eta = P(gamma > g).
    from scipy.integrate import quad
    from scipy.stats import beta

    churned = np.arange(100) < 100 * rate
    g = ((1 - rate) / rate * 11 + 1) / 190
    over, _ = quad(lambda gamma: (gamma - g) * beta.pdf(gamma, 6, 14), g, 1)
    found = empc(churned, np.full(100, 0.4), PAPER)
    assert found.empc_usd == pytest.approx(rate * 190 * over, abs=1e-8)
    assert found.target_share == pytest.approx(beta.sf(g, 6, 14), abs=1e-12)


def test_a_reversed_ranking_is_worth_a_random_one() -> None:
    churned, _ = noisy(500)
    reversed_ranking = empc(churned, np.where(churned, 0.1, 0.9), PAPER)
    assert reversed_ranking == empc(churned, np.full(500, 0.5), PAPER)


@pytest.mark.parametrize(
    "economics",
    [
        PAPER,
        Economics(clv_usd=60, incentive_usd=25, contact_usd=5, accept_alpha=2, accept_beta=3),
        Economics(incentive_usd=0, contact_usd=0),
        Economics(accept_alpha=0.5, accept_beta=0.5, contact_usd=20),
    ],
    ids=["paper", "dear", "free", "unsure"],
)
@pytest.mark.parametrize("rows", [4, 37, 1000])
def test_closed_form_equals_numeric_integration(economics: Economics, rows: int) -> None:
    churned, score = noisy(rows, seed=rows)
    churned[:2] = [True, False]
    # Beta(.5, .5) has poles at 0 and 1 that the trapezoids can't follow: integrate it over its own quantiles.
    if economics.accept_alpha < 1:
        want = by_quantiles(churned, score, economics)
    else:
        want = integrated(churned, score, economics)
    found = empc(churned, score, economics)
    assert found.empc_usd == pytest.approx(want[0], abs=1e-3)
    assert found.target_share == pytest.approx(want[1], abs=1e-3)


def by_quantiles(churned: np.ndarray, score: np.ndarray, economics: Economics) -> tuple[float, float]:
    from scipy.stats import beta

    steps = 40_000
    gammas = beta.ppf((np.arange(steps) + 0.5) / steps, economics.accept_alpha, economics.accept_beta)
    order = np.unique(score)[::-1]
    contacted = np.asarray([0, *((score >= cut).sum() for cut in order)]) / score.size
    caught = np.asarray([0, *(churned[score >= cut].sum() for cut in order)]) / score.size
    gain = gammas * (economics.clv_usd - economics.incentive_usd) - economics.contact_usd
    profit = gain[:, None] * caught - (contacted - caught) * economics.waste_usd
    return float(profit.max(axis=1).mean()), float(contacted[profit.argmax(axis=1)].mean())


def test_empc_needs_both_kinds() -> None:
    with pytest.raises(OneClassError, match="EMPC compares churners with stayers, but of 3 rows none churned"):
        empc(np.zeros(3, dtype=bool), np.full(3, 0.2), PAPER)


def test_the_profit_curve_of_four_customers() -> None:
    # gain 56 a churner, waste 11 a stayer; the two at 0.5 are one step.
    churned = np.asarray([True, False, True, False])
    share, profit = profit_curve(churned, np.asarray([0.9, 0.5, 0.5, 0.1]), PAPER)
    assert share.tolist() == [0, 0.25, 0.75, 1]
    assert profit == pytest.approx(np.asarray([0, 56, 101, 90]) / 4)


def test_best_targeting_and_targeting_at() -> None:
    churned, score = np.asarray([True, False, True, False]), np.asarray([0.9, 0.5, 0.5, 0.1])
    best = best_targeting(churned, score, PAPER)
    assert (best.threshold, best.share, best.profit_usd) == (0.5, 0.75, pytest.approx(101 / 4))
    assert targeting_at(0.5, churned, score, PAPER) == best
    assert targeting_at(0.51, churned, score, PAPER).share == 0.25
    assert targeting_at(0.95, churned, score, PAPER).profit_usd == 0


def test_nobody_is_contacted_where_it_only_costs() -> None:
    score = np.asarray([1.0, 0.4])
    best = best_targeting(np.asarray([False, False]), score, PAPER)
    assert (best.share, best.profit_usd) == (0, 0)
    assert not (score >= best.threshold).any()


def test_calibrated_scores_make_both_thresholds_agree() -> None:
    churned, score = noisy(200_000)
    assert best_targeting(churned, score, PAPER).threshold == pytest.approx(profit_threshold(PAPER), abs=0.03)
