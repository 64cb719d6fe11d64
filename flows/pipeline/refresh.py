"""Land, build and materialise: what every night brings."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from flows.pipeline.build_features import build_features
from flows.pipeline.land import ended, land
from flows.pipeline.materialize import materialize
from flows.pipeline.policy import FLOW, Now, begin, instant
from flows.steps.inbox import waiting


@flow(name="refresh", flow_run_name="refresh", timeout_seconds=12 * 3600, **FLOW)
def refresh(now: Now = None) -> dict[str, Any] | State[dict[str, Any]]:
    """Land what waits in the inbox, then features and the online store; a refusal at the gate ends it there.

    Where the inbox holds what cannot be landed, the run's state says so, as that of ``land`` does.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings, at = begin(), instant(now)
    told = {"landed": land(now=at), "features": build_features(), "online": materialize(now=at)}
    return ended(waiting(settings.home)[1], told)
