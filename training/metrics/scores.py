"""Metrics of a set of scores: ranking, calibration and profit, over all rows and by slice.

Throughout, ``churned`` is (n,) bool, ``score`` is (n,) float64 in [0, 1] (the probability of leaving), no nulls.
Every figure is a function of the multiset of (churned, score): equal scores are treated as one, so that the order
of rows never matters. All raise :class:`~training.metrics.profit.EvaluationError` on empty input, unequal lengths,
labels that are not boolean and scores that are missing or outside [0, 1]; those that compare churners with stayers
raise :class:`~training.metrics.profit.OneClassError` where one kind is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.decisions.economics import Economics
from training.metrics.profit import (
    EvaluationError,
    FloatArray,
    Ranking,
    best_targeting,
    check_scores,
    empc,
    rank_scores,
)

BoolArray = NDArray[np.bool_]

ECE_BINS: Final = 10
LIFT_SHARE: Final = 0.10
SLICE_ROWS_MIN: Final = 30
"""Slices with fewer rows are omitted: their metrics would be noise and could identify persons."""
SLICE_VALUES_MAX: Final = 6
"""A numeric column with more distinct values than this is cut into quartiles."""

_LABELS: Final = [False, True]

LOWER_IS_BETTER: Final = frozenset({"brier", "log_loss", "ece"})

FIGURES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "brier": "Brier",
    "log_loss": "log loss",
    "ece": "ECE",
    "lift_10": "lift@10 %",
    "empc_usd": "EMPC, USD",
}


@dataclass(frozen=True)
class Metrics:
    """The metrics of one set of scores."""

    rows: int
    churn_rate: float
    """Share of rows that churned."""
    roc_auc: float
    pr_auc: float
    brier: float
    log_loss: float
    """In nats."""
    ece: float
    lift_10: float
    empc_usd: float
    """Expected maximum profit, USD per customer."""
    target_share: float
    """Expected contacted share at the maximum profit."""
    profit_threshold: float
    """The score with the highest expected profit on these rows."""
    profit_share: float
    """Share at or above it."""
    profit_usd: float
    """Profit at this threshold and the mean accept rate, USD per customer."""

    def as_dict(self) -> dict[str, float]:
        """Return name -> value in field order, for JSON and MLflow."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """Estimate of a metric over repeats.

    Parameters
    ----------
    mean
        Mean over the repeats.
    standard_error
        Its standard error, None for a single repeat.
    repeats
        Number of repeats.
    """

    mean: float
    standard_error: float | None
    repeats: int


@dataclass(frozen=True)
class Difference:
    """Paired difference a - b of one metric over repeats on the same folds.

    Parameters
    ----------
    mean
        Mean of the differences.
    standard_error, t
        None for a single repeat; ``t`` also where all differences are equal.
    repeats
        Number of repeats.
    ahead
        Repeats in which a is better, in the metric's own direction.
    corrected
        Whether the standard error is corrected for overlapping training sets.
    """

    mean: float
    standard_error: float | None
    t: float | None
    repeats: int
    ahead: int
    corrected: bool
    """Whether the standard error is that of the corrected resampled t (see :func:`paired_difference`)."""


@dataclass(frozen=True)
class Slice:
    """The metrics of the customers with one value of one column."""

    column: str
    value: str
    rows: int
    churn_rate: float
    roc_auc: float | None
    """None where all of the slice churned or none did."""
    mean_score: float
    calibration_gap: float
    """mean_score - churn_rate; above 0: the scores are too high."""


def roc_auc(churned: BoolArray, score: FloatArray) -> float:
    """Return the probability that a random churner scores above a random stayer, a tie counting half.

    Examples
    --------
    >>> import numpy as np
    >>> from training.metrics.scores import roc_auc
    >>> roc_auc(np.array([True, False, True, False]), np.array([0.9, 0.4, 0.4, 0.1]))
    0.875
    """
    from sklearn.metrics import roc_auc_score

    labels, scores = _both_classes(churned, score, "ROC-AUC")
    return float(roc_auc_score(labels, scores))


def pr_auc(churned: BoolArray, score: FloatArray) -> float:
    """Return the average precision: the sum of precision times gained recall, without interpolation.

    Interpolation between points of a precision-recall curve is too optimistic (Davis and Goadrich 2006).
    """
    from sklearn.metrics import average_precision_score

    labels, scores = _both_classes(churned, score, "PR-AUC")
    return float(average_precision_score(labels, scores))


def _both_classes(churned: BoolArray, score: FloatArray, metric: str) -> tuple[BoolArray, FloatArray]:
    ranking = rank_scores(churned, score)
    ranking.refuse_one_class(metric)
    return check_scores(churned, score)


def brier(churned: BoolArray, score: FloatArray) -> float:
    """Return the mean squared error of the probability (Brier 1950), in [0, 1], lower is better."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(*check_scores(churned, score), labels=_LABELS))


def log_loss(churned: BoolArray, score: FloatArray) -> float:
    """Return the mean negative log-likelihood in nats, lower is better.

    Scores are clipped to [eps, 1 - eps], eps the float64 machine epsilon: a certain and wrong score costs 36 nats
    instead of infinity, as in scikit-learn.
    """
    from sklearn.metrics import log_loss as negative_log_likelihood

    return float(negative_log_likelihood(*check_scores(churned, score), labels=_LABELS))


@dataclass(frozen=True)
class CalibrationBins:
    """Mean scores and outcomes in bins of equal count. Each array is (b,), b at most the requested number."""

    rows: NDArray[np.int64]
    mean_score: FloatArray
    churn_rate: FloatArray


def calibration_bins(churned: BoolArray, score: FloatArray, bins: int = ECE_BINS) -> CalibrationBins:
    """Return the non-empty bins of equal count, lowest scores first, equal scores in one bin.

    A group of equal scores is assigned to the bin of its middle rank. Splitting the group would make the result depend
    on the order of rows, and would compare one score with two outcomes.
    """
    labels, scores = check_scores(churned, score)
    distinct, group, rows = np.unique(scores, return_inverse=True, return_counts=True)
    left = np.bincount(group[labels], minlength=distinct.size)
    middle = np.cumsum(rows) - rows / 2
    place = np.minimum((middle * bins / scores.size).astype(np.int64), bins - 1)
    counts = np.bincount(place, weights=rows, minlength=bins)
    some = counts > 0
    return CalibrationBins(
        rows=counts[some].astype(np.int64),
        mean_score=np.bincount(place, weights=distinct * rows, minlength=bins)[some] / counts[some],
        churn_rate=np.bincount(place, weights=left, minlength=bins)[some] / counts[some],
    )


def ece(churned: BoolArray, score: FloatArray, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: the mean ``|mean score - churn rate|`` of the rows' bins.

    Defined by Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian
    binning"; with bins of equal count, which estimate more stably than equal widths, after Nixon et al. (2019),
    "Measuring calibration in deep learning" (adaptive calibration error).

    Examples
    --------
    >>> import numpy as np
    >>> from training.metrics.scores import ece
    >>> round(ece(np.array([True, False, False, False]), np.full(4, 0.35)), 2)
    0.1
    """
    found = calibration_bins(churned, score, bins)
    return float(np.average(np.abs(found.mean_score - found.churn_rate), weights=found.rows))


def lift_at(churned: BoolArray, score: FloatArray, share: float = LIFT_SHARE) -> float:
    """Return the churn rate of the ``share`` of customers with the highest scores over the overall rate.

    Where the cut falls into a group of equal scores (or between two rows), the group counts in proportion: the
    expectation over a random order within it. ``share`` is in (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from training.metrics.scores import lift_at
    >>> lift_at(np.array([True, False, False, False]), np.array([0.9, 0.4, 0.2, 0.1]), share=0.25)
    4.0
    """
    return _lift_at(rank_scores(churned, score), share)


def _lift_at(ranking: Ranking, share: float) -> float:
    if not 0 < share <= 1:
        raise EvaluationError(f"a share of {share:g} of the customers", "give a share above 0 and up to 1")
    ranking.refuse_one_class("lift")
    caught = np.interp(
        share * ranking.rows, np.concatenate([[0], ranking.contacted]), np.concatenate([[0], ranking.churners])
    )
    return float(caught / (share * ranking.churned))


def measure_metrics(churned: BoolArray, score: FloatArray, economics: Economics) -> Metrics:
    """Return all metrics of one set of scores; see the module for units and errors.

    Parameters
    ----------
    churned
        (n,) bool.
    score
        (n,) float64 in [0, 1].
    economics
        Costs and gains of a contact, for the profit metrics.

    Examples
    --------
    >>> import numpy as np
    >>> from bentos.decisions.economics import Economics
    >>> from training.metrics.scores import measure_metrics
    >>> metrics = measure_metrics(np.array([True, False, True, False]), np.array([0.9, 0.4, 0.4, 0.1]), Economics())
    >>> metrics.rows, metrics.churn_rate, round(metrics.brier, 4)
    (4, 0.5, 0.135)
    """
    ranking = rank_scores(churned, score)
    expected = empc(churned, score, economics)
    best = best_targeting(churned, score, economics)
    return Metrics(
        rows=ranking.rows,
        churn_rate=ranking.churned / ranking.rows,
        roc_auc=roc_auc(churned, score),
        pr_auc=pr_auc(churned, score),
        brier=brier(churned, score),
        log_loss=log_loss(churned, score),
        ece=ece(churned, score),
        lift_10=_lift_at(ranking, LIFT_SHARE),
        empc_usd=expected.empc_usd,
        target_share=expected.target_share,
        profit_threshold=best.threshold,
        profit_share=best.share,
        profit_usd=best.profit_usd,
    )


def summarise(per_repeat: Sequence[Metrics]) -> dict[str, Estimate]:
    """Return name -> mean and standard error over r repeats: s / sqrt(r), s with r - 1 degrees of freedom.

    Repeats of a cross-validation measure the same customers again: the standard error measures how much a metric
    depends on the split, not how much it would change with other customers.

    Raises
    ------
    EvaluationError
        If there is no repeat.
    """
    table = _table(per_repeat)
    repeats = len(per_repeat)
    spread = table.std(axis=0, ddof=1) / np.sqrt(repeats) if repeats > 1 else None
    return {
        field.name: Estimate(float(table[:, i].mean()), None if spread is None else float(spread[i]), repeats)
        for i, field in enumerate(fields(Metrics))
    }


def paired_difference(
    a: Sequence[Metrics], b: Sequence[Metrics], *, test_to_train: float = 0.0
) -> dict[str, Difference]:
    """Return name -> difference a - b over J repeats on the same folds.

    Parameters
    ----------
    a, b
        One entry per repeat, in the same order.
    test_to_train
        0 (the default) where an entry is one whole cross-validation, its out-of-fold scores pooled: the standard
        error is then s / sqrt(J), and like :func:`summarise`'s it concerns the split alone.
        Where an entry is a single fold, training sets overlap and s / sqrt(J) is too small by a multiple: pass
        rows tested / rows trained on, 1 / (k - 1) for k folds. The standard error is then
        ``s * sqrt(1 / J + test_to_train)``, that of the corrected resampled t test with J - 1 degrees of freedom
        (Nadeau and Bengio 2003, "Inference for the generalization error"; for repeated k-fold cross-validation
        Bouckaert and Frank 2004).

    Raises
    ------
    EvaluationError
        If there is no repeat, or the two differ in number, or ``test_to_train`` is below 0.
    """
    if len(a) != len(b):
        raise EvaluationError(f"{len(a)} repeats against {len(b)}", "pair figures measured on the same folds")
    if not test_to_train >= 0:
        raise EvaluationError(f"test_to_train is {test_to_train:g}", "0, or rows tested / rows trained on")
    table = _table(a) - _table(b)
    return {field.name: _difference(table[:, i], field.name, test_to_train) for i, field in enumerate(fields(Metrics))}


def _difference(values: FloatArray, name: str, test_to_train: float) -> Difference:
    better = values < 0 if name in LOWER_IS_BETTER else values > 0
    mean, error, t = float(values.mean()), None, None
    if values.size > 1:
        error = float(values.std(ddof=1) * np.sqrt(1 / values.size + test_to_train))
        t = mean / error if error > 0 else None
    return Difference(mean, error, t, values.size, int(better.sum()), corrected=test_to_train > 0)


def _table(per_repeat: Sequence[Metrics]) -> FloatArray:
    """Return (repeats, metrics) float64."""
    if not per_repeat:
        raise EvaluationError("no repeat to summarise", "run at least one cross-validation")
    return np.asarray([list(each.as_dict().values()) for each in per_repeat], dtype=np.float64)


def measure_slices(snapshot: pd.DataFrame, churned: BoolArray, score: FloatArray, by: Sequence[str]) -> list[Slice]:
    """Return the metrics of each value of each column in ``by``, in that order, values ascending.

    Parameters
    ----------
    snapshot
        One row per customer, in the order of ``churned`` and ``score``; its index is ignored.
    by
        Columns of ``snapshot``. Numbers with more than six distinct values are cut into quartiles of about equal count;
        a null is a value of its own, "(none)", listed last.

    Slices of fewer than 30 customers are left out.

    Raises
    ------
    EvaluationError
        If a column is unknown, or as documented for the module.
    """
    labels, scores = check_scores(churned, score)
    if len(snapshot) != labels.size:
        raise EvaluationError(f"{len(snapshot)} rows to slice, {labels.size} scores", "pass the rows that were scored")
    if unknown := [column for column in by if column not in snapshot.columns]:
        raise EvaluationError(f"no column {', '.join(unknown)} to slice by", f"known: {', '.join(snapshot.columns)}")
    found = []
    for column in by:
        for value, members in _groups(snapshot[column].reset_index(drop=True)):
            if members.sum() >= SLICE_ROWS_MIN:
                found.append(_slice(column, value, labels[members], scores[members]))
    return found


def _groups(values: pd.Series[Any]) -> list[tuple[str, BoolArray]]:
    """Return (label of the value, (n,) bool mask of its rows) for each value of a column."""
    missing = values.isna().to_numpy(dtype=bool)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > SLICE_VALUES_MAX:
        groups = _quarters(values.to_numpy(dtype=np.float64, na_value=np.nan))
    else:
        known = sorted(values.dropna().unique(), key=lambda value: value if numeric else str(value))
        groups = [(_text(value), values.eq(value).to_numpy(dtype=bool, na_value=False)) for value in known]
    return [*groups, ("(none)", missing)] if missing.any() else groups


def _quarters(values: FloatArray) -> list[tuple[str, BoolArray]]:
    """Return up to four bands of about equal count, labelled by their lowest and highest value."""
    inner = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
    band = np.where(np.isnan(values), -1, np.searchsorted(inner, values))
    named = []
    for each in np.unique(band[band >= 0]):
        inside = band == each
        named.append((f"{values[inside].min():g} to {values[inside].max():g}", inside))
    return named


def _text(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool | np.bool_) else str(value)


def _slice(column: str, value: str, churned: BoolArray, score: FloatArray) -> Slice:
    rate, mean = float(churned.mean()), float(score.mean())
    area = roc_auc(churned, score) if 0 < rate < 1 else None
    return Slice(column, value, churned.size, rate, area, mean, mean - rate)
