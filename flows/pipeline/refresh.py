"""Land, build and materialise: what every night brings."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.pipeline.build_features import build_features
from flows.pipeline.land import land
from flows.pipeline.materialize import materialize
from flows.pipeline.policy import FLOW, Now, begin, instant


@flow(name="refresh", flow_run_name="refresh", timeout_seconds=12 * 3600, **FLOW)
def refresh(now: Now = None) -> dict[str, Any]:
    """Land what waits in the inbox, then features and the online store; a refusal at the gate ends it there.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    begin()
    at = instant(now)
    return {"landed": land(now=at), "features": build_features(), "online": materialize(now=at)}
