"""What a ranking is worth in USD: expected maximum profit, the threshold that earns it, and the profit curve.

The profit of contacting one customer follows Verbraken, Verbeke and Baesens (2013), "A novel profit maximizing
metric for measuring classification performance of customer churn prediction models", IEEE TKDE 25(5), 961-973:

* a churner accepts the offer with probability gamma and stays: gamma * (clv - incentive) - contact;
* a stayer takes the incentive anyway: -(incentive + contact);
* a customer who is not contacted costs and earns nothing.

Throughout, ``churned`` is (n,) bool, ``score`` is (n,) float64 in [0, 1] (the probability of leaving), no nulls,
and money is USD per customer of the base, contacted or not.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import CONFIG_DIR

FloatArray = NDArray[np.float64]

ECONOMICS_FILE: Final = CONFIG_DIR / "economics.toml"


class EvaluationError(ChurnError):
    """Labels and scores that no figure can be computed from."""

    error = "evaluation_invalid"


class NoRowsError(EvaluationError):
    """There is not one row."""

    error = "evaluation_no_rows"


class LengthError(EvaluationError):
    """Labels and scores are not two vectors of one length."""

    error = "evaluation_length"


class LabelError(EvaluationError):
    """The labels are not boolean."""

    error = "evaluation_label"


class ScoreError(EvaluationError):
    """A score is missing or no probability."""

    error = "evaluation_score"


class OneClassError(EvaluationError):
    """All rows left or all stayed, where the figure compares the two."""

    error = "evaluation_one_class"


@dataclass(frozen=True)
class Ranking:
    """The customers from the highest score down, equal scores taken together: what every rank figure is made of.

    Each array is (m,), m the number of distinct scores. Because ties are one step, the order of rows can't matter.
    """

    scores: FloatArray
    """Distinct scores, falling."""
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
        """Raise OneClassError, naming the figure, unless some rows churned and some did not."""
        if self.churned in {0, self.rows}:
            what = "all churned" if self.churned else "none churned"
            raise OneClassError(
                f"{figure} compares churners with stayers, but of {self.rows} rows {what}",
                "evaluate on rows of both kinds: a longer label window or more customers",
            )


def check(churned: NDArray[np.bool_], score: FloatArray) -> tuple[NDArray[np.bool_], FloatArray]:
    """Return labels (n,) bool and scores (n,) float64 in [0, 1], n at least 1, or refuse them.

    Raises
    ------
    LengthError, NoRowsError, LabelError, ScoreError
        In this order, the first that applies.
    """
    labels, scores = np.asarray(churned), np.asarray(score)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise LengthError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape}", "one label and one score a row"
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


def rank(churned: NDArray[np.bool_], score: FloatArray) -> Ranking:
    """Return the ranking of checked labels and scores. Raises as :func:`check` does."""
    labels, scores = check(churned, score)
    distinct, group = np.unique(scores, return_inverse=True)
    rows = np.bincount(group, minlength=distinct.size)[::-1]
    left = np.bincount(group[labels], minlength=distinct.size)[::-1]
    return Ranking(distinct[::-1], np.cumsum(rows, dtype=np.int64), np.cumsum(left, dtype=np.int64))


class EconomicsError(ChurnError):
    """The costs and gains of a campaign contradict each other or are unreadable."""

    error = "economics_invalid"
    exit_code = EXIT_USAGE


@dataclass(frozen=True)
class Economics:
    """Costs and gains of a retention campaign.

    Parameters
    ----------
    clv_usd
        Lifetime value of a customer who stays, above ``incentive_usd``.
    incentive_usd
        Cost of the offer when taken, at least 0 (``d`` of the paper).
    contact_usd
        Cost of one contact, at least 0 (``f`` of the paper).
    accept_alpha, accept_beta
        A churner accepts with probability gamma ~ Beta(accept_alpha, accept_beta), both above 0.

    Raises
    ------
    EconomicsError
        If a value is not a finite number, has the wrong sign, or catching a churner would pay no more than
        missing one: no campaign could then be worth its cost, and the threshold would lie at or above 1.
    """

    clv_usd: float = 200.0
    incentive_usd: float = 10.0
    contact_usd: float = 1.0
    accept_alpha: float = 6.0
    accept_beta: float = 14.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise EconomicsError(f"{field.name} is {value!r}, not a finite number", "see configs/economics.toml")
        for name in ("incentive_usd", "contact_usd"):
            if getattr(self, name) < 0:
                raise EconomicsError(f"{name} is {getattr(self, name):g}: a cost below 0", "write costs as positive")
        for name in ("accept_alpha", "accept_beta"):
            if getattr(self, name) <= 0:
                raise EconomicsError(f"{name} is {getattr(self, name):g}", "a Beta distribution needs it above 0")
        if self.clv_usd <= self.incentive_usd:
            raise EconomicsError(
                f"clv_usd {self.clv_usd:g} is not above incentive_usd {self.incentive_usd:g}",
                "a customer who stays must be worth more than the offer that keeps them",
            )
        if self.gain_usd <= 0:
            raise EconomicsError(
                f"missing a churner pays as much as catching one or more: the expected gain is {self.gain_usd:.2f} USD",
                "raise clv_usd or the accept rate, or lower contact_usd",
            )

    @property
    def accept_mean(self) -> float:
        """Expected share of contacted churners who accept, in (0, 1)."""
        return self.accept_alpha / (self.accept_alpha + self.accept_beta)

    @property
    def gain_usd(self) -> float:
        """Expected profit of contacting one churner, in USD; missing one is 0."""
        return self.accept_mean * (self.clv_usd - self.incentive_usd) - self.contact_usd

    @property
    def waste_usd(self) -> float:
        """Cost of contacting one stayer, in USD, at least 0."""
        return self.incentive_usd + self.contact_usd


@dataclass(frozen=True)
class ExpectedProfit:
    """The expected maximum profit (EMPC) and the expected share contacted to earn it.

    ``empc_usd`` is USD per customer of the base; ``target_share`` is in [0, 1] (eta of the paper).
    """

    empc_usd: float
    target_share: float


@dataclass(frozen=True)
class Targeting:
    """A threshold and what contacting every customer with ``score >= threshold`` brings.

    ``share`` is the contacted share of the base in [0, 1], ``profit_usd`` the expected profit per customer.
    """

    threshold: float
    share: float
    profit_usd: float


def load_economics(path: Path = ECONOMICS_FILE) -> Economics:
    """Read a campaign's costs and gains from TOML; a key left out keeps the paper's value.

    Raises
    ------
    EconomicsError
        If the file is missing or no TOML, holds an unknown key, or :class:`Economics` refuses its values.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as broken:
        raise EconomicsError(f"cannot read {path}: {broken}", "see configs/economics.toml for the form") from broken
    known = {field.name for field in fields(Economics)}
    if unknown := sorted(values.keys() - known):
        raise EconomicsError(
            f"unknown key {', '.join(unknown)} in {path.name}", f"known keys: {', '.join(sorted(known))}"
        )
    return Economics(**values)


def empc(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> ExpectedProfit:
    """Return the expected maximum profit measure for customer churn (EMPC), in closed form.

    For a given gamma the best cut is the vertex of the ROC curve's convex hull at which the next customers are
    no longer worth their contact. Going from vertex i - 1 to i adds c churners and s stayers, which pays as soon
    as ``c * (gamma * (clv - incentive) - contact) > s * (incentive + contact)``, that is above

        gamma_i = (s / c * (incentive + contact) + contact) / (clv - incentive),

    which rises with i because the hull is concave. Vertex i is therefore the best one for gamma in
    (gamma_i, gamma_(i+1)], and the expectation over gamma ~ Beta(a, b) falls into one integral a vertex. With the
    regularised incomplete beta function I, ``int h = I(.; a, b)`` and ``int gamma h = a / (a + b) * I(.; a + 1, b)``
    (Verbraken, Verbeke and Baesens 2013, section 5). ``target_share`` is the same expectation over the share.

    Raises
    ------
    EvaluationError
        If the input is empty, of one class, of unequal lengths, or a score is missing or outside [0, 1].
    """
    from scipy.special import betainc

    ranking = rank(churned, score)
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
    """Return the vertices (churners, stayers contacted) of the ROC curve's upper convex hull, (0, 0) first.

    Andrew's monotone chain on whole counts: the cross products are exact, so that collinear points always vanish.
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


def profit_threshold(economics: Economics) -> float:
    """Return the score above which contacting pays, for calibrated scores: a number in [0, 1).

    A customer with probability p of leaving brings ``p * gain - (1 - p) * waste`` in expectation over gamma (the
    profit is linear in gamma, so that its mean alone matters). This is above 0 exactly if

        p > waste / (gain + waste) = (incentive + contact) / (E[gamma] * (clv - incentive) + incentive).

    The paper's values give 11 / 67 = 0.164. It depends on no sample, hence is the threshold to serve with, as
    long as the scores are calibrated; :func:`best_targeting` shows what the sample itself would choose.
    """
    return economics.waste_usd / (economics.gain_usd + economics.waste_usd)


def profit_curve(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> tuple[FloatArray, FloatArray]:
    """Return (share contacted, expected profit in USD per customer), both (m + 1,) for m distinct scores.

    Starts at (0, 0) and goes down the ranking to (1, profit of contacting everybody), one point a distinct score:
    customers with equal scores can't be told apart, so that no cut lies between them.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].
    """
    ranking = rank(churned, score)
    contacted = np.concatenate([[0.0], ranking.contacted])
    caught = np.concatenate([[0.0], ranking.churners])
    profit = caught * economics.gain_usd - (contacted - caught) * economics.waste_usd
    return contacted / ranking.rows, profit / ranking.rows


def best_targeting(churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> Targeting:
    """Return the threshold that maximises the expected profit on these rows, at the mean accept rate.

    Of equally good thresholds the highest is taken: fewer customers are bothered. Where contacting anybody loses
    money, the threshold lies just above the highest score and nobody is contacted. Chosen and measured on the
    same rows, the profit is optimistic: quote it beside :func:`profit_threshold`'s, not instead.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].
    """
    ranking = rank(churned, score)
    share, profit = profit_curve(churned, score, economics)
    best = int(np.argmax(profit))
    threshold = ranking.scores[best - 1] if best else np.nextafter(ranking.scores[0], 2.0)
    return Targeting(float(threshold), float(share[best]), float(profit[best]))


def targeting_at(threshold: float, churned: NDArray[np.bool_], score: FloatArray, economics: Economics) -> Targeting:
    """Return what a given threshold brings on these rows, at the mean accept rate.

    Raises
    ------
    EvaluationError
        If the input is empty, of unequal lengths, or a score is missing or outside [0, 1].
    """
    ranking = rank(churned, score)
    share, profit = profit_curve(churned, score, economics)
    cut = int(np.count_nonzero(ranking.scores >= threshold))
    return Targeting(float(threshold), float(share[cut]), float(profit[cut]))
