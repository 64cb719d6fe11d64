"""Figures against small cases that can be counted by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bentos.decisions.economics import Economics
from training.metrics.profit import EvaluationError, LabelError, LengthError, NoRowsError, OneClassError, ScoreError
from training.metrics.scores import (
    Metrics,
    brier,
    calibration_bins,
    ece,
    lift_at,
    log_loss,
    measure_metrics,
    measure_slices,
    paired_difference,
    pr_auc,
    roc_auc,
    summarise,
)

CHURNED = np.asarray([True, True, False, True, False, False, False, False])
SCORE = np.asarray([0.9, 0.8, 0.8, 0.5, 0.5, 0.3, 0.2, 0.1])
FIGURES = [roc_auc, pr_auc, brier, log_loss, ece, lift_at]


def metrics(**changed: float) -> Metrics:
    return Metrics(**{**measure_metrics(CHURNED, SCORE, Economics()).as_dict(), **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize(
    ("churned", "score", "error", "says"),
    [
        ([], [], NoRowsError, "no rows"),
        ([True, False], [0.5], LengthError, r"\(2,\) and scores of shape \(1,\)"),
        ([[True, False]], [[0.5, 0.1]], LengthError, r"shape \(1, 2\)"),
        ([True, False], [0.5, math.nan], ScoreError, "1 of 2 scores are missing"),
        ([True, False], [0.5, 1.0000001], ScoreError, "1 of 2 scores lie outside"),
        ([True, False], [-0.1, math.inf], ScoreError, "2 of 2 scores lie outside"),
        ([True, False], ["a", "b"], ScoreError, "not float64"),
        ([1, 0], [0.5, 0.1], LabelError, "labels are int64, not bool"),
    ],
)
def test_bad_input_is_refused(figure, churned, score, error, says) -> None:
    with pytest.raises(error, match=says) as refused:
        figure(np.asarray(churned), np.asarray(score))
    assert isinstance(refused.value, EvaluationError)
    assert refused.value.hint


@pytest.mark.parametrize("figure", [roc_auc, pr_auc, lift_at], ids=lambda figure: figure.__name__)
@pytest.mark.parametrize(("label", "says"), [(True, "all churned"), (False, "none churned")])
def test_one_class_has_no_ranking(figure, label, says) -> None:
    with pytest.raises(OneClassError, match=says):
        figure(np.full(5, label), np.linspace(0, 1, 5))


def test_one_class_still_has_errors_of_probability() -> None:
    stayed, score = np.zeros(2, dtype=bool), np.asarray([0.1, 0.3])
    assert brier(stayed, score) == pytest.approx((0.01 + 0.09) / 2)
    assert log_loss(stayed, score) == pytest.approx(-(math.log(0.9) + math.log(0.7)) / 2)
    assert ece(stayed, score) == pytest.approx(0.2)


def test_rank_figures_by_hand() -> None:
    # 3 churners x 5 stayers: 15 pairs; .9 beats 5, .8 beats 4 and ties 1, .5 beats 3 and ties 1.
    assert roc_auc(CHURNED, SCORE) == pytest.approx((5 + 4.5 + 3.5) / 15)
    # steps: .9 -> 1 of 1, .8 -> 2 of 3, .5 -> 3 of 5, each a third of the recall
    assert pr_auc(CHURNED, SCORE) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


@pytest.mark.parametrize(
    ("share", "lift"),
    [
        (1 / 8, 8 / 3),  # the one at .9 left
        (2 / 8, 1.5 / 2 * 8 / 3),  # plus one of the two at .8, of whom half left
        (1 / 16, 8 / 3),  # half a row
        (1.0, 1.0),
    ],
)
def test_lift_takes_the_expectation_over_ties(share: float, lift: float) -> None:
    assert lift_at(CHURNED, SCORE, share) == pytest.approx(lift)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_lift_refuses_an_impossible_share(share: float) -> None:
    with pytest.raises(EvaluationError, match="share"):
        lift_at(CHURNED, SCORE, share)


def test_lift_equals_the_mean_over_random_orders() -> None:
    rng = np.random.default_rng(3)
    score = rng.integers(0, 4, 200) / 4
    churned = rng.random(200) < 0.2 + score / 2
    drawn = []
    for _ in range(4000):
        top = np.lexsort((rng.random(200), -score))[:20]
        drawn.append(churned[top].mean() / churned.mean())
    assert lift_at(churned, score, 0.1) == pytest.approx(np.mean(drawn), abs=0.02)


def test_log_loss_of_a_certain_and_wrong_score_is_finite() -> None:
    assert log_loss(np.asarray([True]), np.asarray([0.0])) == pytest.approx(36.04, abs=0.01)


def test_ece_of_ten_equal_bins_is_counted_by_hand() -> None:
    # 20 distinct scores, two a bin; the churner of each bin makes its rate 1/2.
    score = (np.arange(20) + 0.5) / 20
    churned = np.arange(20) % 2 == 0
    means = score.reshape(10, 2).mean(axis=1)
    assert calibration_bins(churned, score).rows.tolist() == [2] * 10
    assert ece(churned, score) == pytest.approx(np.abs(means - 0.5).mean())


def test_ece_keeps_ties_in_one_bin() -> None:
    churned = np.asarray([True] * 30 + [False] * 70)
    found = calibration_bins(churned, np.full(100, 0.3))
    assert (found.rows.tolist(), found.churn_rate.tolist()) == ([100], [0.3])
    assert ece(churned, np.full(100, 0.3)) == pytest.approx(0)


def test_calibrated_scores_have_almost_no_ece() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(200_000)
    assert ece(rng.random(200_000) < score, score) < 0.005


def test_measure_holds_every_figure() -> None:
    found = measure_metrics(CHURNED, SCORE, Economics())
    assert found.rows == 8
    assert found.churn_rate == 3 / 8
    assert [figure(CHURNED, SCORE) for figure in FIGURES] == [
        found.roc_auc,
        found.pr_auc,
        found.brier,
        found.log_loss,
        found.ece,
        found.lift_10,
    ]
    assert (found.profit_threshold, found.profit_share) == (0.5, 5 / 8)
    assert found.profit_usd == pytest.approx((3 * 56 - 2 * 11) / 8)
    assert found.empc_usd >= found.profit_usd
    assert list(found.as_dict()) == [*Metrics.__dataclass_fields__]


def test_summarise_gives_mean_and_standard_error() -> None:
    found = summarise([metrics(roc_auc=0.8), metrics(roc_auc=0.9), metrics(roc_auc=0.85)])
    assert found["roc_auc"].mean == pytest.approx(0.85)
    assert found["roc_auc"].standard_error == pytest.approx(0.05 / math.sqrt(3))
    assert found["brier"].standard_error == pytest.approx(0, abs=1e-15)
    assert summarise([metrics()])["roc_auc"].standard_error is None


def test_paired_difference_plain_and_corrected() -> None:
    ours = [metrics(roc_auc=0.86, brier=0.13), metrics(roc_auc=0.85, brier=0.12)]
    theirs = [metrics(roc_auc=0.84, brier=0.13), metrics(roc_auc=0.86, brier=0.13)]
    plain = paired_difference(ours, theirs)
    assert plain["roc_auc"].mean == pytest.approx(0.005)
    assert plain["roc_auc"].standard_error == pytest.approx(0.015)
    assert plain["roc_auc"].t == pytest.approx(1 / 3)
    assert plain["roc_auc"].ahead == 1
    assert plain["brier"].ahead == 1, "lower is better"
    assert plain["ece"].t is None, "no spread at all"
    folds = paired_difference(ours, theirs, test_to_train=1 / 4)
    # The two differences are 0.02 and -0.01: their standard deviation is 0.03 over root two.
    assert folds["roc_auc"].standard_error == pytest.approx(0.03 / math.sqrt(2) * math.sqrt(1 / 2 + 1 / 4))
    assert folds["roc_auc"].corrected
    assert not plain["roc_auc"].corrected
    one = paired_difference(ours[:1], theirs[:1])["roc_auc"]
    assert (one.standard_error, one.t, one.repeats) == (None, None, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: summarise([]), "no repeat"),
        (lambda: paired_difference([], []), "no repeat"),
        (lambda: paired_difference([metrics()], []), "1 repeats against 0"),
        (lambda: paired_difference([metrics()], [metrics()], test_to_train=-1), "test_to_train"),
    ],
)
def test_repeats_that_do_not_pair_are_refused(call, says) -> None:
    with pytest.raises(EvaluationError, match=says):
        call()


def customers(rows: int = 400) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    score = rng.random(rows)
    frame = pd.DataFrame(
        {
            "contract_type": np.where(np.arange(rows) < 10, "Rare", np.where(score > 0.5, "Monthly", "Yearly")),
            "partner": rng.random(rows) < 0.5,
            "tenure_months": rng.integers(0, 72, rows),
            "lines": pd.array(rng.integers(1, 4, rows), dtype="Int64"),
            "spend_usd": np.where(np.arange(rows) % 4 == 0, np.nan, rng.random(rows) * 100),
        },
        index=pd.RangeIndex(1000, 1000 + rows),
    )
    return frame, rng.random(rows) < score, score


def test_slices_count_every_customer_once() -> None:
    frame, churned, score = customers()
    found = measure_slices(frame, churned, score, ["partner", "tenure_months", "lines", "spend_usd"])
    for column in ("partner", "tenure_months", "lines", "spend_usd"):
        assert sum(each.rows for each in found if each.column == column) == 400, column
    assert [each.value for each in found if each.column == "partner"] == ["no", "yes"]
    assert [each.value for each in found if each.column == "lines"] == ["1", "2", "3"]
    bands = [each.value for each in found if each.column == "tenure_months"]
    assert (len(bands), bands[0].split()[0], bands[-1].split()[-1]) == (4, "0", "71")
    assert [each.value for each in found if each.column == "spend_usd"][-1] == "(none)"
    yes = next(each for each in found if each.value == "yes")
    inside = frame["partner"].to_numpy()
    assert yes.churn_rate == pytest.approx(churned[inside].mean())
    assert yes.roc_auc == pytest.approx(roc_auc(churned[inside], score[inside]))
    assert yes.calibration_gap == pytest.approx(score[inside].mean() - churned[inside].mean())


def test_small_slices_are_left_out() -> None:
    frame, churned, score = customers()
    assert [each.value for each in measure_slices(frame, churned, score, ["contract_type"])] == ["Monthly", "Yearly"]


def test_a_slice_of_one_class_has_no_auc() -> None:
    frame, churned, score = customers()
    monthly = frame["contract_type"].to_numpy() == "Monthly"
    found = measure_slices(frame, churned & ~monthly, score, ["contract_type"])
    assert [each.roc_auc is None for each in found] == [True, False]
    assert found[0].churn_rate == 0


def test_slices_refuse_what_does_not_fit() -> None:
    frame, churned, score = customers()
    with pytest.raises(EvaluationError, match="no column region to slice by"):
        measure_slices(frame, churned, score, ["region"])
    with pytest.raises(EvaluationError, match="399 rows to slice, 400 scores"):
        measure_slices(frame.iloc[1:], churned, score, ["partner"])


def test_a_booleans_null_is_a_value_of_its_own() -> None:
    frame, churned, score = customers()
    frame["partner"] = frame["partner"].astype("boolean").where(np.arange(400) >= 50)
    found = measure_slices(frame, churned, score, ["partner"])
    assert [each.value for each in found] == ["no", "yes", "(none)"]
    assert found[-1].rows == 50
