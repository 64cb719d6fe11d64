"""Customers with a known chance to leave, and models that know it more or less well; for verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from bentos.decisions.economics import Economics, profit_threshold
from configs.settings import load_settings
from training.promotion import Evidence, Verdict, decide

ECONOMICS = Economics()
THRESHOLD = profit_threshold(ECONOMICS)
RULES = load_settings().promotion.model_copy(update={"bootstrap_replicates": 400})
ROLLOUT = load_settings().rollout


class Crowd:
    """``rows`` customers, about ``rate`` of whom leave; what is drawn depends on ``seed`` alone."""

    def __init__(self, rows: int = 1500, seed: int = 1, rate: float = 0.25, spread: float = 1.5) -> None:
        self.rng = np.random.default_rng([rows, seed])
        self.margin = self.rng.normal(np.log(rate / (1 - rate)), spread, rows)
        self.churned = self.rng.random(rows) < self.truth
        self.customers = np.array([f"c{number}" for number in range(rows)])

    @property
    def truth(self) -> np.ndarray:
        return self.guess(0.0)

    def guess(self, noise: float) -> np.ndarray:
        """Scores of a model that misses each customer's log-odds by ``noise`` on average (normal deviates)."""
        missed = noise * self.rng.normal(size=len(self.margin)) if noise else 0.0
        return 1 / (1 + np.exp(-(self.margin + missed)))

    def evidence(self, **changes: Any) -> Evidence:
        """What speaks for the truth against a model that is a little off; ``changes`` replace fields."""
        usual: dict[str, Any] = {
            "customers": self.customers,
            "churned": self.churned,
            "challenger": self.truth,
            "challenger_threshold": THRESHOLD,
            "champion": None,
            "champion_threshold": THRESHOLD,
            "slices": {"half": np.where(np.arange(len(self.churned)) % 2, "odd", "even")},
            "explained_share": 1.0,
            "latency_p50_ms": 2.0,
            "bundle_bytes": 300_000,
        }
        return Evidence(**(usual | changes))


def judge(evidence: Evidence, **changes: Any) -> Verdict:
    """The verdict under the default rules, ``changes`` to them aside."""
    return decide(evidence, ECONOMICS, RULES.model_copy(update=changes), ROLLOUT, seed=7)


def failed(verdict: Verdict) -> tuple[str, ...]:
    """Names of the rules that did not hold."""
    return tuple(name for name, held, _ in verdict.rules if not held)
