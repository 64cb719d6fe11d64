"""The training flow: fit and register a challenger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from configs.settings import load_settings
from flows.pipeline.artifacts import escaped, facts, mlflow_place, publish, table
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run, to_json_dict
from flows.steps.train import train_challenger
from training.metrics.scores import FIGURES
from training.registry import RegisteredChallenger, figures_of


@flow(name="train", flow_run_name="train", timeout_seconds=24 * 3600, **FLOW)
def train(now: Now = None) -> dict[str, Any]:
    """Build the point-in-time training set, tune, fit, evaluate, and register the bundle as challenger.

    Returns the version, its bundle's digest and the fingerprint of its inputs. The same data, settings and code return
    the existing version. Raises LeaseHeldError while another training is running.

    Args:
        now: The instant written into the model and the ledger; empty: the present moment. All that is published is
            learnt from, whatever it says.
    """
    start_run()
    trained: dict[str, Any] = fit_and_register(resolve_now(now))
    return trained


@task(name="fit and register", **TASK)
def fit_and_register(now: datetime) -> dict[str, Any]:
    """Train once per fingerprint."""
    settings = load_settings()
    trained: RegisteredChallenger = train_challenger(settings, now)
    logged = figures_of(settings, trained.run_id)
    publish(
        "training-report",
        f"Version {trained.version} of the model"
        + ("" if trained.fresh else ": nothing new was trained, it is of the same data, settings and code"),
        [
            facts(to_json_dict(trained)),
            table(
                ["on held-out rows", "model", "logistic regression"],
                [
                    [title, f"{logged[f'test_{name}']:.4f}", f"{logged[f'baseline_{name}']:.4f}"]
                    for name, title in FIGURES.items()
                ],
            ),
            f"MLflow: {mlflow_place(settings, trained.run_id)}",
            f"Bundle: {escaped(settings.home / 'bundles' / trained.digest)}",
        ],
    )
    return to_json_dict(trained)
