"""Summary of a whole-base run in sentences: whom to call, and on which assumptions the sum rests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bentos.decisions.economics import Economics, profit_threshold

if TYPE_CHECKING:
    from bentos.batch.score_base import ScoreRun

_THRESHOLD_GAP = 1e-6


def coverage(run: ScoreRun) -> list[str]:
    """Return who was scored and who was not."""
    what = "scored" if run.fresh else "was scored before, nothing to do:"
    lines = [
        f"{what} {run.scored} of {run.customers} customers as of {run.observed_at} with model {run.model_version}",
        *(f"not scored: {customers} customers, {reason}" for reason, customers in run.refused.items()),
        f"no customers: {run.withdrawn} withdrawn, {run.expired} expired",
    ]
    if run.partial or run.stale:
        lines.append(f"quality of the data: {run.partial} scores with gaps, {run.stale} with old values")
    return lines


def advice(run: ScoreRun) -> list[str]:
    """Return whom to call, the sum with its assumptions, and that the rest should not be contacted."""
    economics = Economics(**run.economics)
    total = (
        f"call {run.churn}: expected profit {run.expected_profit_usd:,.0f} USD if all of them are called. The sum "
        f"rests on configs/economics.toml: a customer who stays is worth {economics.clv_usd:g} USD, the offer costs "
        f"{economics.incentive_usd:g} USD when it is taken, a call costs {economics.contact_usd:g} USD, and "
        f"{economics.accept_mean:.0%} of the customers who were about to leave take the offer"
    )
    rest = f"do not contact the other {run.scored - run.churn}: their risk is below {run.threshold:.1%}, "
    if abs((now := profit_threshold(economics)) - run.threshold) <= _THRESHOLD_GAP:
        return [total, f"{rest}so a call costs more than it brings on average"]
    other = (
        f"configs/economics.toml has other costs now: a call pays from a risk of {now:.1%} on; train again before you "
        "plan a budget"
    )
    return [total, f"{rest}the threshold by the costs that the model was trained with", other]
