"""Terminal tables: the comparison of model and baseline, and the drift report."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.terminal import console as terminal_console
from monitoring.report import MonitorReport
from training.evaluation.cross_validation import CrossValidation
from training.metrics.scores import FIGURES, Estimate, paired_difference, summarise

_STABLE_SHOWN: Final = 8


def comparison_table(validation: CrossValidation, console: Console | None = None) -> None:
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
    (console or terminal_console()).print(table)


def drift_table(found: MonitorReport, console: Console | None = None) -> None:
    """Print all features that drifted since the champion was measured, and the largest PSI of the others."""
    out = console or terminal_console()
    ranked = sorted(found.rows, key=lambda row: (row.status != "drift", -(row.psi or 0.0)))
    shown = [row for place, row in enumerate(ranked) if row.status == "drift" or place < _STABLE_SHOWN]
    table = Table(title=f"{found.customers} customers compared with the held-out rows of model {found.model_version}")
    for heading in ("", "PSI", "at most", "status", "moved most"):
        table.add_column(heading, justify="right" if heading in {"PSI", "at most"} else "left")
    for row in shown:
        psi, bound = ("-" if number is None else f"{number:.3f}" for number in (row.psi, row.bound))
        table.add_row(row.name, psi, bound, row.status, escape(row.moved))
    out.print(table)
    if len(ranked) > len(shown):
        out.print(f"and {len(ranked) - len(shown)} rows that moved less")


def spread(estimate: Estimate) -> str:
    """Return "mean ± standard error", without the error for a single repeat."""
    error = f" ± {estimate.standard_error:.4f}" if estimate.standard_error is not None else ""
    return f"{estimate.mean:.4f}{error}"
