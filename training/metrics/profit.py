"""Profit metrics in USD: expected maximum profit, its threshold, and the profit curve.

Costs and revenue of one contact are defined in ``bentos.decisions.economics``, after Verbraken, Verbeke and Baesens
(2013). Throughout, ``churned`` is (n,) bool, ``score`` is (n,) float64 in [0, 1] (the probability of leaving), no
nulls, and money is USD per customer of the base, contacted or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bentos.decisions.economics import Economics
from configs.errors import ChurnError

FloatArray = NDArray[np.float64]


class EvaluationError(ChurnError):
    """Labels or scores from which no metric can be computed."""

    error = "evaluation_invalid"


class NoRowsError(EvaluationError):
    """There are no rows."""

    error = "evaluation_no_rows"


class LengthError(EvaluationError):
    """Labels and scores are not two vectors of one length."""

    error = "evaluation_length"


class LabelError(EvaluationError):
    """The labels are not boolean."""

    error = "evaluation_label"


class ScoreError(EvaluationError):
    """A score is missing or outside [0, 1]."""

    error = "evaluation_score"


class OneClassError(EvaluationError):
    """All rows are of one class, where the metric compares two."""

    error = "evaluation_one_class"


@dataclass(frozen=True)
class Ranking:
    """Cumulative counts by descending score, ties grouped: the input of every rank metric.

    Each array is (m,), m the number of distinct scores. As ties are one group, the order of rows has no influence.
    """

    scores: FloatArray
    """Distinct scores, descending."""
    contacted: NDArray[np.int64]
    """Rows with this score or a higher one; the last is :attr:`rows`."""
    churners: NDArray[np.int64]
    """Churners among them."""

    @property
    def rows(self) -> int:
        """Number of rows, at least 1."""
        return int(self.contacted[-1])

    @property
    def churned(self) -> int:
        """Number of rows that churned."""
        return int(self.churners[-1])

    def refuse_one_class(self, figure: str) -> None:
        """Raise OneClassError, naming the metric, unless some rows churned and some did not."""
        if self.churned in {0, self.rows}:
            what = "all churned" if self.churned else "none churned"
            raise OneClassError(
                f"{figure} compares churners with stayers, but of {self.rows} rows {what}",
                "evaluate on rows of both kinds: a longer label window or more customers",
            )


def check_scores(churned: NDArray[np.bool_], score: FloatArray) -> tuple[NDArray[np.bool_], FloatArray]:
    """Return labels (n,) bool and scores (n,) float64 in [0, 1], n at least 1.

    Raises
    ------
    LengthError, NoRowsError, LabelError, ScoreError
        The first that applies, in this order.
    """
    labels, scores = np.asarray(churned), np.asarray(score)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise LengthError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape}", "one label and one score per row"
        )
    if labels.size == 0:
        raise NoRowsError("there are no rows to evaluate", "check that the snapshot holds labelled customers")
    if labels.dtype != np.bool_:
        raise LabelError(f"labels are {labels.dtype}, not bool", "pass churned.to_numpy(dtype=bool)")
    if scores.dtype.kind not in "fiub":
        raise ScoreError(f"scores are {scores.dtype}, not float64", "pass probabilities")
    scores = scores.astype(np.float64)
    if missing := int(np.isnan(scores).sum()):
        raise ScoreError(f"{missing} of {scores.size} scores are missing (NaN)", "a refused customer has no score")
    if outside := int(((scores < 0) | (scores > 1)).sum()):
        raise ScoreError(
            f"{outside} of {scores.size} scores lie outside [0, 1]", "pass probabilities, not margins or percentages"
        )
    return labels, scores


def rank_scores(churned: NDArray[np.bool_], score: FloatArray) -> Ranking:
    """Return the ranking of labels and scores; they are validated. Raises as :func:`check_scores`."""
    labels, scores = check_scores(churned, score)
    distinct, group = np.unique(scores, return_inverse=True)
    rows = np.bincount(group, minlength=distinct.size)[::-1]
    left = np.bincount(group[labels], minlength=distinct.size)[::-1]
    return Ranking(distinct[::-1], np.cumsum(rows, dtype=np.int64), np.cumsum(left, dtype=np.int64))


@dataclass(frozen=True)
class ExpectedProfit:
    """The expected maximum profit (EMPC) and the expected share contacted to earn it.

    Parameters
    ----------
    empc_usd
        USD per customer of the base.
    target_share
        In [0, 1] (eta of the paper).
    """

    empc_usd: float
    target_share: float


@dataclass(frozen=True)
class Targeting:
    """A threshold and the result of contacting every customer with ``score >= threshold``.

    Parameters
    ----------
    threshold
        In [0, 1], or just above the highest score.
    share
        The contacted share of the base, in [0, 1].
    profit_usd
        The expected profit per customer of the base, USD.
    """

    threshold: float
    share: float
    profit_usd: float


def empc(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> ExpectedProfit:
    """Return the expected maximum profit measure for customer churn (EMPC), in closed form.

    For a given gamma the optimal cut is the vertex of the ROC curve's convex hull at which the next customers are
    no longer worth their contact. Going from vertex i - 1 to i adds c churners and s stayers, which pays as soon
    as ``c * (gamma * (clv - incentive) - contact) > s * (incentive + contact)``, that is above

        gamma_i = (s / c * (incentive + contact) + contact) / (clv - incentive),

    which rises with i because the hull is concave. Vertex i is therefore the optimal one for gamma in
    (gamma_i, gamma_(i+1)], and the expectation over gamma ~ Beta(a, b) becomes one integral per vertex. With the
    regularised incomplete beta function I, ``int h = I(.; a, b)`` and ``int gamma h = a / (a + b) * I(.; a + 1, b)``
    (Verbraken, Verbeke and Baesens 2013, section 5). ``target_share`` is the same expectation over the share.

    Raises
    ------
    EvaluationError
        If the input is empty, of one class, of unequal lengths, or a score is missing or outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from bentos.decisions.economics import Economics
    >>> from training.metrics.profit import empc
    >>> found = empc(np.array([True, False, False, False]), np.array([0.9, 0.4, 0.2, 0.1]), Economics())
    >>> round(found.empc_usd, 2), round(found.target_share, 2)
    (14.0, 0.25)
    """
    from scipy.special import betainc

    ranking = rank_scores(churned, score)
    ranking.refuse_one_class("EMPC")
    churners, stayers = _hull(ranking)
    added_churners, added_stayers = np.diff(churners), np.diff(stayers)
    # The hull's last edge may add stayers alone: no accept rate makes that pay.
    ratio = np.divide(
        added_stayers, added_churners, out=np.full(added_churners.shape, np.inf), where=added_churners > 0
    )
    margin = economics.clv_usd - economics.incentive_usd
    pays = (np.where(np.isinf(ratio), 0.0, ratio) * economics.waste_usd + economics.contact_usd) / margin
    pays = np.where(np.isinf(ratio), 1.0, np.minimum(pays, 1.0))
    edges = np.concatenate([[0.0], pays, [1.0]])
    weight = np.diff(betainc(economics.accept_alpha, economics.accept_beta, edges))
    accepted = economics.accept_mean * np.diff(betainc(economics.accept_alpha + 1, economics.accept_beta, edges))
    profit = churners * (margin * accepted - economics.contact_usd * weight) - stayers * economics.waste_usd * weight
    return ExpectedProfit(
        empc_usd=float(profit.sum() / ranking.rows),
        target_share=float(((churners + stayers) * weight).sum() / ranking.rows),
    )


def _hull(ranking: Ranking) -> tuple[FloatArray, FloatArray]:
    """Return the vertices (churners, stayers contacted) of the ROC curve's upper hull, (0, 0) first.

    Andrew's monotone chain on integer counts: the cross products are exact, so that collinear points are removed.
    """
    chain: list[tuple[int, int]] = [(0, 0)]
    points = zip(ranking.churners.tolist(), (ranking.contacted - ranking.churners).tolist(), strict=True)
    for c, s in points:
        while len(chain) > 1:
            (c1, s1), (c2, s2) = chain[-2], chain[-1]
            if (c2 - c1) * (s - s1) > (c - c1) * (s2 - s1):
                break  # the chain turns towards "fewer churners a stayer" here: its last point is a vertex
            chain.pop()
        chain.append((c, s))
    vertices = np.asarray(chain, dtype=np.float64)
    return vertices[:, 0], vertices[:, 1]


def profit_curve(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> tuple[FloatArray, FloatArray]:
    """Return (share contacted, expected profit in USD per customer), both (m + 1,) for m distinct scores.

    Starts at (0, 0) and ends at (1, profit of contacting all customers), one point per distinct score: customers with
    equal scores can't be distinguished, so that no cut lies between them.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].
    """
    ranking = rank_scores(churned, score)
    contacted = np.concatenate([[0.0], ranking.contacted])
    caught = np.concatenate([[0.0], ranking.churners])
    profit = caught * economics.gain_usd - (contacted - caught) * economics.waste_usd
    return contacted / ranking.rows, profit / ranking.rows


def best_targeting(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> Targeting:
    """Return the threshold with the highest expected profit on these rows, at the mean accept rate.

    Of thresholds with equal profit the highest is returned, which contacts the fewest customers. Where any contact
    loses money, the threshold lies just above the highest score and no customer is contacted. Selected and measured on
    the same rows, the profit is optimistic: report it along with that of ``profit_threshold``, not instead.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from bentos.decisions.economics import Economics
    >>> from training.metrics.profit import best_targeting
    >>> best_targeting(np.array([True, False, False, False]), np.array([0.9, 0.4, 0.2, 0.1]), Economics())
    Targeting(threshold=0.9, share=0.25, profit_usd=14.0)
    """
    ranking = rank_scores(churned, score)
    share, profit = profit_curve(churned, score, economics)
    best = int(np.argmax(profit))
    threshold = ranking.scores[best - 1] if best else np.nextafter(ranking.scores[0], 2.0)
    return Targeting(float(threshold), float(share[best]), float(profit[best]))


def targeting_at(threshold: float, churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> Targeting:
    """Return the targeting at ``threshold`` on these rows, at the mean accept rate.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].
    """
    ranking = rank_scores(churned, score)
    share, profit = profit_curve(churned, score, economics)
    cut = int(np.count_nonzero(ranking.scores >= threshold))
    return Targeting(float(threshold), float(share[cut]), float(profit[cut]))


def usd(value: float) -> str:
    """Return an amount with the sign (U+2212 if negative) before the currency.

    Examples
    --------
    >>> from training.metrics.profit import usd
    >>> usd(2.5), usd(-2.5).isascii()
    ('$2.50', False)
    """
    sign = "\N{MINUS SIGN}" if value < 0 and f"{-value:.2f}" != "0.00" else ""
    return f"{sign}${abs(value):,.2f}"
