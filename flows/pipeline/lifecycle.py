"""The lifecycle flow: ingestion, features, training, deployment, scoring and monitoring, in order."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow

from bentos.rollout import NoChampionError, champion_digest
from configs.settings import Settings
from flows.pipeline.monitor import monitor
from flows.pipeline.policy import FLOW, Now, resolve_now, start_run
from flows.pipeline.refresh import refresh
from flows.pipeline.retrain import retrain
from flows.pipeline.score_base import score_base

Training = Literal["always", "without_champion", "never"]


@flow(name="lifecycle", flow_run_name="lifecycle", timeout_seconds=6 * 24 * 3600, **FLOW)
def lifecycle(
    training: Training = "without_champion",
    scoring: bool = True,  # noqa: FBT001, FBT002 - a field of Prefect's form
    now: Now = None,
) -> dict[str, Any]:
    """Ingest, build features, materialise, train, evaluate, deploy, score the base and monitor, in order.

    The first step that fails ends the run: after a failed gate nothing is built, trained or deployed, and the champion
    keeps serving. Drift found at the end starts a separate retraining.

    Args:
        training: When to train: at each run, only while no model serves (drift starts the others), or never.
        scoring: Whether the whole base is scored too.
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings, at = start_run(), resolve_now(now)
    told: dict[str, Any] = refresh(now=at)
    if training == "always" or (training == "without_champion" and not _served(settings)):
        told["training"] = retrain(reason="request", detail="lifecycle", now=at)
    if scoring and _served(settings):
        told["scores"] = score_base(now=at)
    if _served(settings):
        told["monitoring"] = monitor(now=at)
    return told


def _served(settings: Settings) -> bool:
    try:
        champion_digest(settings.home)
    except NoChampionError:
        return False
    return True
