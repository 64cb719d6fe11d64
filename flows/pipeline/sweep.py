"""The sweep flow: find runs whose process died, mark them as crashed, and start them again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed
from pydantic import PositiveFloat, PositiveInt

from flows.pipeline.artifacts import publish, table
from flows.pipeline.heartbeat import DeadRun, find_dead_runs, find_live_runs
from flows.pipeline.policy import UNKEPT, start_run

TAG: Final = "churn"
"""Tag of every deployment in flows/prefect.yaml, and so of all their runs."""
ATTEMPT: Final = "attempt:"
"""Prefix of the tag with the number of starts of a run, dead ones included."""
_MESSAGE: Final = "Its process died without reporting; what it had finished is kept, and a new run goes on from there."


@flow(name="sweep", flow_run_name="sweep", timeout_seconds=600, **UNKEPT)
def sweep(
    rerun: bool = True,  # noqa: FBT001, FBT002 - a field of Prefect's form
    attempts_max: PositiveInt = 5,
    pending_max_minutes: PositiveFloat = 10.0,
) -> list[dict[str, Any]]:
    """Mark dead runs as crashed, and start those of a deployment again; returns a dict per run.

    A run is dead if no process holds the lock on its file below ``runs/`` and its state in Prefect is running or
    paused; one that was being cancelled is marked as cancelled. Every step of the flows is idempotent, so the new run
    completes the old one. Only runs of the deployments of ``flows/prefect.yaml`` (tag churn) are considered.

    Args:
        rerun: Whether what was scheduled or triggered is started again.
        attempts_max: A run that died so often is left to a person.
        pending_max_minutes: A run that a worker took and that did not get to its first line for so long counts as dead.
    """
    settings = start_run()
    with get_client(sync_client=True) as client:
        found = mark_dead(client, settings.home, rerun=rerun, attempts_max=attempts_max)
        found += mark_lost(client, settings.home, timedelta(minutes=pending_max_minutes))
    for each in found:
        get_run_logger().warning("%s %s: %s", each["flow_run"], each["name"], each["outcome"])
    if found:
        heads = ["run", "name", "what was done"]
        publish("sweep", "Runs that had died", [table(heads, [list(each.values()) for each in found])])
    return found


def mark_dead(client: SyncPrefectClient, home: Path, *, rerun: bool, attempts_max: int) -> list[dict[str, Any]]:
    """Mark the dead runs of this home; return flow_run, name and outcome of each."""
    found = []
    for gone in find_dead_runs(home):
        run = _read(client, gone)
        state = run.state.type if run is not None and run.state is not None else None
        outcome = None
        if run is not None and state in {StateType.RUNNING, StateType.PAUSED}:
            # The new run first: after a kill in between, the next sweep requests the same run by its idempotency key.
            outcome = _start_again(client, run, attempts_max) if rerun and run.deployment_id else "marked as crashed"
            client.set_flow_run_state(run.id, Crashed(message=_MESSAGE), force=True)
        elif run is not None and state is StateType.CANCELLING:
            outcome = "marked as cancelled"
            client.set_flow_run_state(run.id, Cancelled(message=_MESSAGE), force=True)
        if run is not None and outcome is not None:
            _mark_tasks(client, run)
            found.append({"flow_run": str(run.id), "name": run.name, "outcome": outcome})
        # For a run that ended, or that a person started again, only its file remains.
        gone.remove()
    return found


def mark_lost(client: SyncPrefectClient, home: Path, older_than: timedelta) -> list[dict[str, Any]]:
    """Mark runs of our deployments that a worker took and that never marked themselves as alive."""
    taken = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])),
            deployment_id=FlowRunFilterDeploymentId(is_null_=False),
            tags=FlowRunFilterTags(all_=[TAG]),
        )
    )
    here, lost = find_live_runs(home), []
    for run in taken:
        since = run.state.timestamp if run.state else None
        if str(run.id) not in here and since is not None and datetime.now(UTC) - since > older_than:
            client.set_flow_run_state(run.id, Crashed(message="No process began it."), force=True)
            lost.append({"flow_run": str(run.id), "name": run.name, "outcome": "marked as crashed"})
    return lost


def _read(client: SyncPrefectClient, gone: DeadRun) -> FlowRun | None:
    try:
        return client.read_flow_run(gone.run_id)
    except ObjectNotFound:  # of another server, or deleted there
        return None


def _mark_tasks(client: SyncPrefectClient, run: FlowRun) -> None:
    running = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
        ),
    )
    for task_run in running:
        client.set_task_run_state(task_run.id, Crashed(message=_MESSAGE), force=True)


def _start_again(client: SyncPrefectClient, run: FlowRun, attempts_max: int) -> str:
    attempt = next((int(tag.removeprefix(ATTEMPT)) for tag in run.tags if tag.startswith(ATTEMPT)), 1)
    if attempt >= attempts_max:
        return f"marked as crashed; it died {attempt} times and is left to you"
    tags = [tag for tag in run.tags if not tag.startswith(ATTEMPT)]
    again = client.create_flow_run_from_deployment(
        run.deployment_id,
        parameters=run.parameters,
        tags=[*tags, f"{ATTEMPT}{attempt + 1}"],
        idempotency_key=f"again-{run.id}",
    )
    return f"marked as crashed, started again as {again.name}"
