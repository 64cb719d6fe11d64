"""The flow that appends published data to Feast's offline tables."""

from __future__ import annotations

from typing import Any

from prefect import flow, task

from configs.settings import load_settings
from flows.pipeline.policy import FLOW, TASK, start_run
from flows.steps import build_features as parts
from flows.steps.apply_features import apply_features
from flows.steps.check_features import refuse_inconsistent_features


@flow(name="build_features", flow_run_name="build features", timeout_seconds=6 * 3600, **FLOW)
def build_features() -> dict[str, Any]:
    """Register the definitions and append the missing parts of the offline tables; existing parts stay.

    Returns the registered names and the parts of both tables. Only missing parts are written: parts are immutable and
    named after their snapshot or delivery.
    """
    start_run()
    return {"registered": register_definitions(), "snapshots": snapshots(), "activity": activity()}


@task(name="feast apply", **TASK)
def register_definitions() -> list[str]:
    """Register the definitions, unless their files do not agree, and the older versions that bundles need."""
    refuse_inconsistent_features()
    return apply_features(load_settings()).names


@task(name="snapshot parts", **TASK)
def snapshots() -> list[str]:
    """Append a part per published version of a snapshot."""
    return parts.build_features(load_settings())


@task(name="activity parts", **TASK)
def activity() -> list[str]:
    """Append a part per delivery of events."""
    return parts.build_activity(load_settings())
