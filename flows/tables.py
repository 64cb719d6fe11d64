"""What the terminal shows: the comparison of two models, the demo's lines and its table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from training.evaluate import CrossValidation
from training.metrics import Estimate, paired_difference, summarise

FIGURES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "brier": "Brier",
    "log_loss": "log loss",
    "ece": "ECE",
    "lift_10": "lift@10 %",
    "empc_usd": "EMPC, USD",
}


def comparison(validation: CrossValidation, console: Console | None = None) -> None:
    """Print model, baseline and paired difference, mean ± standard error over repeats."""
    ours, theirs = summarise(validation.metrics), summarise(validation.baseline_metrics)
    difference = paired_difference(validation.metrics, validation.baseline_metrics)
    repeats = len(validation.metrics)
    table = Table(title=f"nested cross-validation, {repeats} repeat{'s' if repeats > 1 else ''}, out of fold")
    for heading in ("", "model", "logistic regression", "difference", "ahead"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, title in FIGURES.items():
        gap = difference[name]
        table.add_row(
            title,
            spread(ours[name]),
            spread(theirs[name]),
            f"{gap.mean:+.4f}" + (f" ± {gap.standard_error:.4f}" if gap.standard_error is not None else ""),
            f"{gap.ahead} of {gap.repeats}",
        )
    (console or Console()).print(table)


def spread(estimate: Estimate) -> str:
    """Return "mean ± standard error", without the error for a single repeat."""
    error = f" ± {estimate.standard_error:.4f}" if estimate.standard_error is not None else ""
    return f"{estimate.mean:.4f}{error}"


def answers(found: list[dict[str, Any]], console: Console) -> None:
    """Print what the service said of some customers."""
    for answer in found:
        console.print(
            f"  customer [bold]{answer['customer_id']}[/]: {answer['probability']:.1%} -> [bold]{answer['label']}[/] "
            f"(threshold {answer['threshold']:.1%})"
        )
        for reason in answer["reasons"] or []:
            console.print(f"      {'+' if reason['direction'] == 'raises' else '-'} {reason['text']}", highlight=False)
