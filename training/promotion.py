"""Champion against challenger: a verdict from figures alone. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.settings import PromotionSettings
from training.metrics import ECE_BINS, Metrics

LEAK_ROC_AUC = 0.98
"""Nobody predicts churn this well: such a challenger has seen its answers."""


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger becomes champion, and every rule with its outcome (rule, held, figures)."""

    promote: bool
    rules: tuple[tuple[str, bool, str], ...]

    @property
    def why(self) -> str:
        """One line: the rules that failed, or that all held."""
        failed = [f"{rule} ({figures})" for rule, held, figures in self.rules if not held]
        return "failed: " + "; ".join(failed) if failed else "every rule held"


def decide(challenger: Metrics, champion: Metrics | None, rules: PromotionSettings) -> Verdict:
    """Compare two models measured on the same held-out rows; without a champion only the floors count.

    Fails closed: a figure that is not a number holds no rule.
    """
    outcome = [
        _rule("ROC-AUC floor", challenger.roc_auc, ">=", rules.roc_auc_min),
        _rule("no leak", challenger.roc_auc, "<=", LEAK_ROC_AUC),
        _rule("calibration", challenger.ece, "<=", rules.ece_max + ece_noise(challenger)),
    ]
    if champion is not None:
        outcome += [
            (
                "same rows",
                challenger.rows == champion.rows,
                f"{challenger.rows} and {champion.rows} rows",
            ),
            _rule(
                "log loss against the champion", challenger.log_loss, "<=", champion.log_loss + rules.log_loss_margin
            ),
            _rule("profit against the champion", challenger.empc_usd, ">=", champion.empc_usd * (1 - 1e-9)),
        ]
    return Verdict(all(held for _, held, _ in outcome), tuple(outcome))


def ece_noise(metrics: Metrics) -> float:
    """Return the ECE that a perfectly calibrated model may show on so few rows by chance alone.

    A bin of m rows misses its own probability p by sqrt(2/pi * p (1 - p) / m) on average (the mean absolute value of
    a normal deviate); with p at the churn rate of all rows and bins of equal count this bounds their mean.
    """
    rate = metrics.churn_rate
    return math.sqrt(2 / math.pi * rate * (1 - rate) * ECE_BINS / metrics.rows)


def _rule(name: str, figure: float, sign: str, bound: float) -> tuple[str, bool, str]:
    known = math.isfinite(figure) and math.isfinite(bound)
    held = known and (figure >= bound if sign == ">=" else figure <= bound)
    return name, held, f"{figure:.4f} {sign} {bound:.4f}"
