"""Promotion rules: the verdict on a challenger against the champion, from metrics alone. Pure.

A promotion needs proof: a challenger that is as good as the champion, or the very same model, is refused.
See docs/decisions/0019-promotion-needs-proof.md and 0040-bounds-where-few-leave.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bentos.base_rate import REFERENCE_RATE, log_loss_bound, probability_bound, rows_bound
from bentos.decisions.economics import Economics
from bentos.rollout.live_comparison import LiveFigures
from configs.settings import PromotionSettings, RolloutSettings
from training.metrics.paired_bootstrap import Gain, bootstrap_gains, losses, profits, worst_profit
from training.metrics.profit import EvaluationError, FloatArray, LengthError, ScoreError
from training.metrics.scores import ECE_BINS, BoolArray, Metrics, measure_metrics

LEAK_ROC_AUC: Final = 0.98
"""A ROC-AUC above this suggests a leak: churn can't be predicted that well."""
BY_HAND: Final = "a person decides: churn promote --force --why"
"""The text of a rule that more data can't satisfy."""
_MB: Final = 1_000_000


class Rule(NamedTuple):
    """One rule of a verdict.

    Parameters
    ----------
    name
        Its name, in words.
    held
        Whether it passed.
    figures
        The figures that decided, in words.
    """

    name: str
    held: bool
    figures: str


@dataclass(frozen=True)
class Verdict:
    """The decision on a challenger.

    Parameters
    ----------
    promote
        Whether every rule passed.
    rules
        Every rule with its outcome.
    figures
        Name -> figure, NaN where it is not known.

    Examples
    --------
    >>> from training.promotion import Rule, Verdict
    >>> Verdict(False, (Rule("ROC-AUC floor", False, "0.61 >= 0.75"), Rule("schema", True, "as given"))).why
    'failed: ROC-AUC floor (0.61 >= 0.75)'
    """

    promote: bool
    rules: tuple[Rule, ...]
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """The failed rules in one line, or that all passed."""
        failed = [f"{name} ({figures})" for name, held, figures in self.rules if not held]
        return "failed: " + "; ".join(failed) if failed else "every rule held"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values; a figure that is not finite is null."""
        figures = {name: value if math.isfinite(value) else None for name, value in self.figures.items()}
        return {"promote": self.promote, "rules": [list(rule) for rule in self.rules], "figures": figures}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the verdict that :meth:`to_json` wrote."""
        figures = {name: math.nan if value is None else float(value) for name, value in content["figures"].items()}
        return cls(bool(content["promote"]), tuple(Rule(*rule) for rule in content["rules"]), figures)


@dataclass(frozen=True)
class Evidence:
    """The input of a verdict: both models on the challenger's held-out rows, and other measurements.

    Parameters
    ----------
    customers
        (n,) customer of each row; a customer may recur with another observation date.
    churned
        (n,) bool.
    challenger, champion
        (n,) calibrated probabilities; ``champion`` is None where no model serves, or it is ``incomparable``.
    challenger_threshold, champion_threshold
        Probability from which each model contacts a customer.
    slices
        Column -> (n,) text: the groups that are compared.
    explained_share
        Share of rows whose reasons add up to the score.
    latency_p50_ms
        Median time to score and explain one customer.
    bundle_bytes
        Size of the challenger's bundle.
    schema
        What the challenger reads and this platform does not provide; "" if nothing.
    seen_rows
        Held-out rows that the challenger was fitted on; below 0 if not counted.
    withdrawn
        Why this very model was taken out of service before; "" if it was not.
    rolled_back
        Operator and reason of a roll-back with no promotion since; "" otherwise.
    incomparable
        Why the serving champion has no scores; "" if it has scores, or no model serves.
    live
        Results of both on the same live requests; None without a trial.
    live_required
        Minimum number of live requests compared; 0: none.
    """

    customers: NDArray[Any]
    churned: BoolArray
    challenger: FloatArray
    champion: FloatArray | None
    challenger_threshold: float
    champion_threshold: float = math.nan
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    explained_share: float = math.nan
    latency_p50_ms: float = math.nan
    bundle_bytes: int = 0
    schema: str = ""
    seen_rows: int = 0
    withdrawn: str = ""
    rolled_back: str = ""
    incomparable: str = ""
    live: LiveFigures | None = None
    live_required: int = 0


def decide(
    evidence: Evidence, economics: Economics, rules: PromotionSettings, rollout: RolloutSettings, *, seed: int
) -> Verdict:
    """Return the verdict on two models on the same held-out rows; with no champion only the floors apply.

    The challenger must be significantly better than the champion (one-sided paired bootstrap over customers) in log
    loss or in the profit at each model's own threshold; the two share ``rules.significance``. In the other metric, and
    in every slice of customers that is large enough to judge, it may be worse by no more than its margin. Where few
    customers leave, margins shrink and required numbers of rows grow: see :mod:`bentos.base_rate`.

    Fails closed: rows without a computable metric are refused, and a figure that is not a number fails its rule.

    Parameters
    ----------
    evidence
        Both models on the challenger's held-out rows, and other measurements.
    economics
        Costs and revenue of a contact, for the profit metrics.
    rules
        Limits, margins and significance of the rules on held-out rows.
    rollout
        Limits of the rules on live requests.
    seed
        Seed of the bootstrap.

    Returns
    -------
    Verdict
        Every rule with its outcome, also those after the first that failed.

    Examples
    --------
    No champion serves, and the challenger's scores say nothing about the customers:

    >>> import numpy as np
    >>> from bentos.decisions.economics import Economics
    >>> from configs.settings import load_settings
    >>> from training.promotion import Evidence, decide
    >>> rng = np.random.default_rng(0)
    >>> evidence = Evidence(
    ...     customers=np.arange(1000), churned=rng.random(1000) < 0.26, challenger=rng.random(1000), champion=None,
    ...     challenger_threshold=0.164, explained_share=1.0, latency_p50_ms=1.0,
    ... )
    >>> settings = load_settings()
    >>> verdict = decide(evidence, Economics(), settings.promotion, settings.rollout, seed=0)
    >>> verdict.promote, [rule.name for rule in verdict.rules if not rule.held]
    (False, ['ROC-AUC floor', 'calibration'])
    """
    outcome = list(_fit_to_serve(evidence, rules))
    figures: dict[str, float] = {}
    try:
        ours = _measured(evidence, evidence.challenger, economics)
        theirs = None if evidence.champion is None else _measured(evidence, evidence.champion, economics)
    except EvaluationError as unusable:
        outcome.append(Rule("usable evidence", held=False, figures=unusable.message))
        return Verdict(promote=False, rules=tuple(outcome), figures=figures)
    figures |= {f"challenger_{name}": float(value) for name, value in ours.as_dict().items()}
    outcome += _floors(ours, rules)
    if evidence.champion is not None and theirs is not None:
        figures |= {f"champion_{name}": float(value) for name, value in theirs.as_dict().items()}
        differences = _differences(evidence, evidence.champion, economics)
        found = bootstrap_gains(
            evidence.customers,
            differences,
            {"profit_usd": _worst(evidence, evidence.champion, economics)},
            share=rules.significance / 2,
            replicates=rules.bootstrap_replicates,
            seed=seed,
        )
        for name, gain in found.items():
            figures |= {f"{name}_gain": gain.mean, f"{name}_gain_lower": gain.lower}
        outcome += _against(found, rules, ours.churn_rate)
        outcome.append(_slices(evidence, differences["log_loss"], rules, figures))
        outcome += _live(evidence, rollout, figures)
    return Verdict(all(rule.held for rule in outcome), tuple(outcome), figures)


def ece_noise(metrics: Metrics) -> float:
    """Return the ECE that a perfectly calibrated model would have on this number of rows by chance alone.

    The mean absolute error of a bin of m rows is sqrt(2/pi * p (1 - p) / m), p its own probability (the mean absolute
    value of a normal deviate); with p at the churn rate of all rows and bins of equal count this bounds their mean.
    """
    rate = metrics.churn_rate
    return math.sqrt(2 / math.pi * rate * (1 - rate) * ECE_BINS / metrics.rows)


def _fit_to_serve(evidence: Evidence, rules: PromotionSettings) -> Iterator[Rule]:
    """Yield the rules that need no label: whether this bundle can serve, and whether the rules may decide."""
    yield _rule("enough rows", len(evidence.churned), ">=", math.ceil(rows_bound(rules.rows_min, _rate(evidence))), "g")
    yield Rule("no held-out row was learnt from", evidence.seen_rows == 0, f"{evidence.seen_rows} rows")
    yield _rule("explanations", evidence.explained_share, ">=", 1.0)
    yield _rule("latency, ms", evidence.latency_p50_ms, "<=", rules.latency_p50_max_ms, ".2f")
    yield _rule("bundle size, MB", evidence.bundle_bytes / _MB, "<=", rules.bundle_size_max_mb, ".2f")
    yield Rule("schema", not evidence.schema, evidence.schema or "as this platform gives it")
    yield Rule("not withdrawn before", not evidence.withdrawn, evidence.withdrawn or "never was")
    told = f"{evidence.rolled_back}; {BY_HAND}" if evidence.rolled_back else "the newest change is no rollback"
    yield Rule("no rollback since", not evidence.rolled_back, told)
    compared = "no model serves" if evidence.champion is None else "on the same rows"
    yield Rule("champion comparable", not evidence.incomparable, evidence.incomparable or compared)


def _rate(evidence: Evidence) -> float:
    """Return the churn rate of the held-out rows; the reference rate without rows (no usable evidence)."""
    left = float(np.mean(evidence.churned)) if len(evidence.churned) else 0.0
    return left or REFERENCE_RATE


def _measured(evidence: Evidence, score: FloatArray, economics: Economics) -> Metrics:
    lengths = {len(each) for each in (evidence.customers, *evidence.slices.values())}
    if lengths != {len(evidence.churned)}:
        raise LengthError("customers, slices and labels are of different rows", "one of each per row")
    thresholds = [evidence.challenger_threshold]
    if evidence.champion is not None:
        thresholds.append(evidence.champion_threshold)
    if not all(0 <= each <= 1 for each in thresholds):
        raise ScoreError("a threshold is no probability", "see the bundle's manifest")
    return measure_metrics(evidence.churned, score, economics)


def _floors(ours: Metrics, rules: PromotionSettings) -> list[Rule]:
    return [
        _rule("ROC-AUC floor", ours.roc_auc, ">=", rules.roc_auc_min),
        _rule("no leak", ours.roc_auc, "<=", LEAK_ROC_AUC),
        _rule("calibration", ours.ece, "<=", probability_bound(rules.ece_max, ours.churn_rate) + ece_noise(ours)),
    ]


def _differences(evidence: Evidence, champion: FloatArray, economics: Economics) -> dict[str, FloatArray]:
    """Return the challenger's advantage on each row: nats, and USD."""
    churned = evidence.churned
    earned = profits(churned, evidence.challenger, evidence.challenger_threshold, economics)
    return {
        "log_loss": losses(churned, champion) - losses(churned, evidence.challenger),
        "profit_usd": earned - profits(churned, champion, evidence.champion_threshold, economics),
    }


def _worst(evidence: Evidence, champion: FloatArray, economics: Economics) -> float:
    contacted = evidence.challenger >= evidence.challenger_threshold
    return worst_profit(contacted, champion >= evidence.champion_threshold, economics)


def _against(found: Mapping[str, Gain], rules: PromotionSettings, churn_rate: float) -> list[Rule]:
    log_loss, profit = found["log_loss"], found["profit_usd"]
    better = log_loss.is_significant or profit.is_significant
    told = f"log loss better by {log_loss.mean:.4f}, surely by {log_loss.lower:.4f}; "
    told += f"profit by {profit.mean:.2f} USD per customer, surely by {profit.lower:.2f}"
    return [
        Rule("better than the champion beyond chance", better, told),
        _rule(
            "log loss against the champion",
            0.0 - log_loss.mean,
            "<=",
            log_loss_bound(rules.log_loss_margin, churn_rate),
        ),
        _rule(
            "profit against the champion",
            profit.mean,
            ">=",
            -probability_bound(rules.profit_margin_usd, churn_rate),
            ".3f",
        ),
    ]


def _slices(evidence: Evidence, difference: FloatArray, rules: PromotionSettings, figures: dict[str, float]) -> Rule:
    """Return the rule that no slice is worse by more than the margin; adds its figures to ``figures``."""
    judged: dict[str, float] = {}
    small = 0
    rate = _rate(evidence)
    rows_min, bound = rows_bound(rules.slice_rows_min, rate), log_loss_bound(rules.slice_log_loss_margin, rate)
    for column, values in evidence.slices.items():
        for value in np.unique(values):
            members = values == value
            worse = 0.0 - float(difference[members].mean())
            figures[f"slice {column}={value}"] = worse
            if members.sum() >= rows_min:
                judged[f"{column}={value}"] = worse
            else:
                small += 1
    failing = {name: worse for name, worse in judged.items() if not worse <= bound}
    shown = failing or dict(sorted(judged.items(), key=lambda item: -item[1])[:1])
    told = ", ".join(f"{name} {worse:+.4f}" for name, worse in shown.items()) or "none to judge"
    told += f" <= {bound:.4f}, {len(judged)} judged"
    return Rule("no slice worse in log loss", not failing, told + (f", {small} too small" if small else ""))


def _live(evidence: Evidence, rules: RolloutSettings, figures: dict[str, float]) -> list[Rule]:
    """Return the rules on live requests; empty where none are required."""
    live = evidence.live
    if live is not None:
        names = ("compared", "agreement", "mean_difference", "score_psi", "latency_ratio", "error_rate", "dropped")
        figures |= {f"live_{name}": float(getattr(live, name)) for name in names}
    if evidence.live_required <= 0:
        return []
    if live is None:
        return [_rule("live requests", 0, ">=", evidence.live_required, "g")]
    return [
        _rule("live requests", live.compared, ">=", evidence.live_required, "g"),
        _rule("live agreement", live.agreement, ">=", rules.agreement_min),
        _rule("live scores, PSI", live.score_psi, "<=", rules.score_psi_max),
        _rule("live latency, ratio", live.latency_ratio, "<=", rules.latency_ratio_max, ".2f"),
        _rule("live errors", live.error_rate, "<=", live.champion_error_rate + rules.error_rate_margin),
    ]


def _rule(name: str, figure: float, sign: str, bound: float, form: str = ".4f") -> Rule:
    known = math.isfinite(figure) and math.isfinite(bound)
    held = known and (figure >= bound if sign == ">=" else figure <= bound)
    return Rule(name, held, f"{figure:{form}} {sign} {bound:{form}}")
