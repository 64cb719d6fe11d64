"""Evaluation of the training procedure by repeated nested cross-validation, with a report.

See docs/decisions/0015-temporal-split.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bentos.decisions.economics import load_economics, profit_threshold
from configs.settings import Settings
from feature_repo.contract import AUDIT_SERVICE, CORE_SERVICE, OBSERVED_AT
from feature_repo.files.atomic_writes import temporary_folder
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from flows.steps.heldout_report import source as source_of
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.train import git_commit, training_set
from training.data.split import Rows
from training.data.training_set import TrainingSet, historical_features
from training.evaluation.cross_validation import CrossValidation, cross_validate
from training.evaluation.report import EvaluationReport, ShapSummary, write_report
from training.metrics.scores import measure_slices, paired_difference, summarise
from training.metrics.slices import REPORT_SLICES, report_slices


@dataclass(frozen=True)
class EvaluationResult:
    """The cross-validation and the paths of its report and figures."""

    validation: CrossValidation
    html: Path
    figures: Path
    leak_suspected: bool
    """Whether ROC-AUC is above the known optimum of the public file (never True for simulated rows)."""


def evaluate_csv(
    settings: Settings,
    csv: Path,
    now: datetime,
    *,
    repeats: int,
    progress: Callable[[int], object] = lambda _fold: None,
) -> EvaluationResult:
    """Run a CSV through gate, Feast and point-in-time join in a temporary home, and cross-validate on it.

    Only the report is written to the settings' home: an evaluation must not publish the file.

    Parameters
    ----------
    settings
        The home of the report, and all limits.
    csv
        The extract.
    now
        The present instant, tz-aware UTC.
    repeats
        Repeats of the cross-validation.
    progress
        Called with the number of each finished fold.
    """
    # Below the home: it holds customer rows, and the next command removes it if this one is killed.
    with temporary_folder(settings.home, "evaluate-") as scratch:
        # A file has no events, whatever service the home's models read.
        training = settings.training.model_copy(update={"feature_service": CORE_SERVICE})
        aside = settings.model_copy(update={"home": scratch, "training": training})
        # Declared for today, so that the features have not expired.
        ingest_snapshot(aside, csv, now.date(), ingested_at=now)
        build_features(aside)
        apply(aside)
        return evaluate_model(
            aside, training_set(aside), now, reports=settings.home / "reports", repeats=repeats, progress=progress
        )


def evaluate_model(
    settings: Settings,
    rows: TrainingSet,
    now: datetime,
    *,
    reports: Path,
    repeats: int,
    simulated: bool = False,
    model_version: str = "cross-validated",
    progress: Callable[[int], object] = lambda _fold: None,
) -> EvaluationResult:
    """Cross-validate on ``rows``; write ``report.html``, ``figures.json`` to ``reports/evaluation/<source>``.

    Both cover the scored rows: with several observation dates, those of the newest ones.
    """
    economics = load_economics()
    validation = cross_validate(
        rows.features,
        rows.churned.to_numpy(dtype=bool),
        settings.training,
        economics,
        observed_at=rows.keys[OBSERVED_AT],
        repeats=repeats,
        progress=progress,
    )
    # With several dates the oldest ones are used for fitting alone: figures cover the others.
    rows = _select_rows(rows, validation.scored)
    churned = rows.churned.to_numpy(dtype=bool)
    # Models don't read protected attributes: they come from a service for audits alone.
    audit = historical_features(open_feature_store(settings), rows.keys, AUDIT_SERVICE)
    slices = report_slices(rows.features, audit)
    source = source_of(settings, rows, now, model_version, git_commit=git_commit())
    folder = reports / "evaluation" / source["sha256"][:12]
    report = EvaluationReport(
        title="Churn model evaluation",
        source=source,
        churned=churned,
        score=validation.score[0],
        baseline_score=validation.baseline_score[0],
        model_repeats=validation.metrics,
        baseline_repeats=validation.baseline_metrics,
        threshold=profit_threshold(economics),
        economics=economics,
        slices=measure_slices(slices, churned, validation.score[0], REPORT_SLICES),
        shap=ShapSummary(tuple(rows.features.columns), validation.contributions, rows.features.to_numpy(dtype=object)),
        simulated=simulated,
        dates=rows.keys[OBSERVED_AT].nunique(),
    )
    html = write_report(folder / "report.html", report)
    written = folder / "figures.json"
    figures = _figures(validation, source, leak_suspected=report.leak_suspected)
    written.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return EvaluationResult(validation, html, written, report.leak_suspected)


def _select_rows(rows: TrainingSet, positions: Rows) -> TrainingSet:
    keys, features = (frame.iloc[positions].reset_index(drop=True) for frame in (rows.keys, rows.features))
    return replace(rows, keys=keys, features=features)


def _figures(validation: CrossValidation, source: dict[str, str], *, leak_suspected: bool) -> dict[str, Any]:
    ours, theirs = validation.metrics, validation.baseline_metrics
    return {
        "source": source,
        "model": {name: asdict(figure) for name, figure in summarise(ours).items()},
        "baseline": {name: asdict(figure) for name, figure in summarise(theirs).items()},
        "difference": {name: asdict(figure) for name, figure in paired_difference(ours, theirs).items()},
        "repeats": [
            {"model": one.as_dict(), "baseline": other.as_dict()} for one, other in zip(ours, theirs, strict=True)
        ],
        "ahead_in_repeats": validation.ahead,
        "leak_suspected": leak_suspected,
        "chosen": [params.as_dict() for params in validation.chosen],
        "score_spread_over_repeats": float(np.mean(np.std(validation.score, axis=0))),
    }
