"""Names and one-line descriptions of the experiment, runs and versions, as MLflow's pages show them. Pure.

Used by :mod:`training.registry` and the training step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bentos.bundle.manifest import Manifest

EXPERIMENT_TAGS: Final = {
    # MLflow opens an experiment without a kind on its pages for language models.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Churn models: one run per training. The registered model's alias champion is what serves.",
}
"""Tags of the experiment: its kind and its description."""
MODEL_DESCRIPTION: Final = (
    "Probability that a customer leaves within the label window. champion serves, previous served before it, "
    "challenger is the newest one trained or the one on trial; the tag verdict says whether the rules let it serve."
)
"""Description of the registered model."""


def run_name(model_name: str, version: str, manifest: Manifest) -> str:
    """Return the name of the run that a version comes from: version, newest extract, feature service.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from training.run_text import run_name
    >>> run_name("churn", "3", SimpleNamespace(service="churn_core_v1", snapshots=("2026-05-31.v1", "2026-06-30.v2")))
    'churn v3, 2026-06-30, churn_core_v1'
    """
    # MLflow's table of runs shows about twenty characters.
    return f"{model_name} v{version}, {_newest(manifest)}, {manifest.service}"


def description(manifest: Manifest, rows_train: int, rows_test: int, metrics: Mapping[str, float]) -> str:
    """Return one line about a model: what it was fitted on, and its figures next to the baseline's.

    ``metrics`` holds ``test_<figure>`` of the model and ``baseline_<figure>`` of the logistic regression.
    """
    months = len({snapshot.split(".")[0] for snapshot in manifest.snapshots})
    return (
        f"Fitted on {rows_train} rows of {months} extract{'' if months == 1 else 's'} up to {_newest(manifest)}, "
        f"measured on {rows_test} held-out rows: ROC-AUC {metrics['test_roc_auc']:.4f}, log loss "
        f"{metrics['test_log_loss']:.4f}; logistic regression {metrics['baseline_roc_auc']:.4f}, "
        f"{metrics['baseline_log_loss']:.4f}"
    )


def _newest(manifest: Manifest) -> str:
    return max((snapshot.split(".")[0] for snapshot in manifest.snapshots), default="an unknown day")
