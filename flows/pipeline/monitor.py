"""The monitoring flow: compare current customers with the champion's held-out rows, and emit drift."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from prefect import flow, get_run_logger, task
from prefect.events import emit_event

from configs.settings import load_settings
from flows.pipeline.artifacts import facts, publish, table
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run, to_json_dict
from flows.steps import monitor as monitoring

DRIFT: Final = "churn.drift.detected"
"""Event that starts a retraining; its payload: now, detail, champion."""


@flow(name="monitor", flow_run_name="monitor", timeout_seconds=4 * 3600, **FLOW)
def monitor(now: Now = None) -> dict[str, Any]:
    """Measure drift of features, scores and labels, the champion's performance, quality and freshness.

    Returns the report. Above a threshold the event ``churn.drift.detected`` is emitted, which starts a retraining.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    start_run()
    at = resolve_now(now)
    found: dict[str, Any] = measure(at)
    if found["drift"]:
        announce_drift(found, at)
    return found


@task(name="measure drift", **TASK)
def measure(now: datetime) -> dict[str, Any]:
    """Measure and write the report."""
    report = monitoring.run_monitor(load_settings(), now)
    told = to_json_dict(report)
    title = "Drift found" if report.drift else "No drift"
    title += "" if report.windows_judged else "; windows over events are not judged: insufficient data"
    publish("drift", title, _parts(told))
    return told


@task(name="announce drift", **TASK)
def announce_drift(found: dict[str, Any], now: datetime) -> None:
    """Emit the event. Emitted twice it starts one training: the cool-down refuses the other."""
    detail = ", ".join(found["drifted"])
    get_run_logger().warning("drift: %s", detail)
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": f"churn.model.{found['champion'][:12]}", "prefect.resource.name": "churn"},
        payload={"now": now.isoformat(), "detail": detail, "champion": found["champion"]},
    )


def _parts(told: dict[str, Any]) -> list[str]:
    ages, did = told["freshness"], told["performance"]
    # Drifted features first, then by PSI.
    rows = sorted(told["rows"], key=lambda row: (row["status"] != "drift", -(row["psi"] or 0.0)))
    drifted = {"drifted": ", ".join(told["drifted"]) or "nothing"}
    return [
        facts(drifted | {name: value for name, value in told.items() if not isinstance(value, list | dict)}),
        table(list(rows[0]), [list(row.values()) for row in rows]) if rows else "",
        "## On labels that have matured\n\n" + facts(did),
        "## Quality and freshness\n\n" + facts(told["quality"] or {"gate": "never asked"}),
        table(list(ages[0]), [list(age.values()) for age in ages]) if ages else "",
    ]
