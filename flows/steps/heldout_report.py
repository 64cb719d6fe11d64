"""The evaluation report of a freshly fitted model on its held-out rows, for its run in MLflow."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.decisions.economics import load_economics
from configs.settings import Settings
from feature_repo.contract import OBSERVED_AT
from feature_repo.raw.snapshots.publication import published_snapshots
from training.data.training_set import TrainingSet
from training.evaluation.report import EvaluationReport, ShapSummary, write_evaluation
from training.metrics.scores import measure_slices
from training.metrics.slices import HELDOUT_SLICES, heldout_slices

if TYPE_CHECKING:
    from training.model.fit import FittedChallenger


def write_heldout_report(folder: Path, settings: Settings, fitted: FittedChallenger, rows: TrainingSet) -> list[Path]:
    """Write ``report.html`` and its charts as SVG into ``folder``; return their paths.

    Model and baseline are those of ``fitted``, measured on the held-out rows of ``rows``. The files name no customer.
    """
    manifest = fitted.bundle.manifest
    features = rows.features.iloc[fitted.test]
    churned = rows.churned.to_numpy(dtype=bool)[fitted.test]
    explained = fitted.bundle.explain(features)
    report = EvaluationReport(
        title=f"Churn model {manifest.model_version} on held-out rows",
        source=source(
            settings,
            rows,
            datetime.fromisoformat(manifest.created_at),
            manifest.model_version,
            git_commit=manifest.git_commit,
        ),
        churned=churned,
        score=explained.score,
        baseline_score=fitted.baseline_score,
        model_repeats=[fitted.metrics],
        baseline_repeats=[fitted.baseline],
        threshold=manifest.threshold,
        economics=load_economics(),
        slices=measure_slices(heldout_slices(features), churned, explained.score, HELDOUT_SLICES),
        shap=ShapSummary(tuple(features.columns), explained.contributions, features.to_numpy(dtype=object)),
        simulated=None,
        dates=rows.keys[OBSERVED_AT].iloc[fitted.test].nunique(),
        heldout=True,
    )
    return write_evaluation(folder, report)


def source(
    settings: Settings, rows: TrainingSet, now: datetime, model_version: str, *, git_commit: str
) -> dict[str, str]:
    """Return the provenance of a report on ``rows``: keys of :data:`training.evaluation.report.PROVENANCE`."""
    manifests = published_snapshots(settings.home)
    hashes = [manifest.source_sha256 for manifest in manifests]
    return {
        "data_source": ", ".join(f"{m.source_name} of {m.snapshot_date}" for m in manifests),
        "observed": ", ".join(f"{date:%Y-%m-%d}" for date in sorted(rows.keys[OBSERVED_AT].unique())),
        "sha256": hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        "rows": str(len(rows)),
        "time": "observed" if any(manifest.time == "observed" for manifest in manifests) else "declared",
        "feature_service": rows.service,
        "contract_hash": rows.contract_hash,
        "model_version": model_version,
        "git_commit": git_commit,
        "seeds": str(settings.training.seed),
        "evaluated_at": now.isoformat(timespec="seconds"),
    }
