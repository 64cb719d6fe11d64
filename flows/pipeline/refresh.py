"""The nightly flow: ingestion, features and materialisation."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from flows.pipeline.build_features import build_features
from flows.pipeline.land import ended, land
from flows.pipeline.materialize import materialize
from flows.pipeline.policy import FLOW, Now, resolve_now, start_run
from flows.steps.inbox import waiting


@flow(name="refresh", flow_run_name="refresh", timeout_seconds=12 * 3600, **FLOW)
def refresh(now: Now = None) -> dict[str, Any] | State[dict[str, Any]]:
    """Ingest the inbox, then build features and materialise; a refusal at the gate ends the run.

    If other files remain in the inbox, the run's state names them, as that of ``land`` does.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings, at = start_run(), resolve_now(now)
    told = {"landed": land(now=at), "features": build_features(), "online": materialize(now=at)}
    return ended(waiting(settings.home)[1], told)
