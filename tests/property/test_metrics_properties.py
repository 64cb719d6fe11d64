"""What holds for every labelled set of scores, whatever its ties and its order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.decisions.economics import Economics
from training.metrics.profit import best_targeting, empc, profit_curve
from training.metrics.scores import brier, ece, lift_at, log_loss, measure_metrics, pr_auc, roc_auc

Case = tuple[np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """At least one of each kind; few distinct scores or many, zero and one included."""
    steps = draw(st.sampled_from([1, 3, 20, 10_000]))
    rows = draw(st.lists(st.tuples(st.booleans(), st.integers(0, steps)), min_size=0, max_size=60))
    rows += [(True, draw(st.integers(0, steps))), (False, draw(st.integers(0, steps)))]
    return np.asarray([r[0] for r in rows]), np.asarray([r[1] / steps for r in rows])


@st.composite
def campaigns(draw: st.DrawFn) -> Economics:
    """Any campaign that can pay."""
    incentive = draw(st.floats(0, 50))
    alpha, beta = draw(st.floats(0.5, 50)), draw(st.floats(0.5, 50))
    gain = draw(st.floats(1, 500))
    contact = draw(st.floats(0, 20))
    return Economics(incentive + (gain + contact) * (alpha + beta) / alpha, incentive, contact, alpha, beta)


@pytest.mark.slow
@settings(deadline=None)  # the first case imports scikit-learn
@given(cases())
def test_figures_equal_scikit_learns(case: Case) -> None:
    from sklearn import metrics as peer

    churned, score = case
    assert roc_auc(churned, score) == pytest.approx(peer.roc_auc_score(churned, score), abs=1e-12)
    assert pr_auc(churned, score) == pytest.approx(peer.average_precision_score(churned, score), abs=1e-12)
    assert brier(churned, score) == pytest.approx(peer.brier_score_loss(churned, score), abs=1e-12)
    assert log_loss(churned, score) == pytest.approx(peer.log_loss(churned, score), rel=1e-9)


@given(cases(), campaigns(), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(case: Case, economics: Economics, random) -> None:
    churned, score = case
    order = list(range(churned.size))
    random.shuffle(order)
    before, after = measure_metrics(churned, score, economics), measure_metrics(churned[order], score[order], economics)
    assert before.as_dict() == pytest.approx(after.as_dict(), abs=1e-12)


@given(cases())
def test_rank_figures_see_the_order_of_scores_alone(case: Case) -> None:
    churned, score = case
    squeezed = score / 2 + 0.25
    for figure in (roc_auc, pr_auc, lift_at):
        assert figure(churned, squeezed) == pytest.approx(figure(churned, score), abs=1e-12)
    assert empc(churned, squeezed, Economics()) == empc(churned, score, Economics())


@given(cases())
def test_turning_the_question_round_mirrors_the_area(case: Case) -> None:
    churned, score = case
    assert roc_auc(~churned, 1 - score) == pytest.approx(roc_auc(churned, score), abs=1e-12)
    assert roc_auc(churned, 1 - score) == pytest.approx(1 - roc_auc(churned, score), abs=1e-12)


@given(cases(), st.floats(0.01, 1))
def test_figures_stay_within_their_bounds(case: Case, share: float) -> None:
    churned, score = case
    rate = churned.mean()
    assert 0 <= lift_at(churned, score, share) <= min(1 / rate, 1 / share) + 1e-9
    # Splitting rows into bins can only reveal more of the gap between the two means.
    assert abs(score.mean() - rate) - 1e-12 <= ece(churned, score) <= 1


@given(cases(), campaigns())
@settings(deadline=None)
def test_expected_maximum_profit_lies_between_fixed_cut_and_perfect_ranking(case: Case, economics: Economics) -> None:
    churned, score = case
    found = empc(churned, score, economics)
    best = best_targeting(churned, score, economics)
    perfect = empc(churned, churned.astype(float), economics)
    random = empc(churned, np.zeros(churned.size), economics)
    slack = 1e-9 * economics.clv_usd
    # Choosing the cut after seeing gamma beats choosing it before (Jensen), and no ranking beats the perfect one.
    assert best.profit_usd - slack <= found.empc_usd <= perfect.empc_usd + slack
    assert random.empc_usd - slack <= found.empc_usd
    assert 0 <= found.target_share <= 1 + 1e-12


@given(cases(), campaigns())
def test_the_threshold_earns_what_it_promises(case: Case, economics: Economics) -> None:
    churned, score = case
    best = best_targeting(churned, score, economics)
    contacted = score >= best.threshold
    caught = (contacted & churned).sum()
    profit = caught * economics.gain_usd - (contacted.sum() - caught) * economics.waste_usd
    assert best.share == pytest.approx(contacted.mean())
    assert best.profit_usd == pytest.approx(profit / churned.size, abs=1e-9)
    assert best.profit_usd == pytest.approx(profit_curve(churned, score, economics)[1].max())
