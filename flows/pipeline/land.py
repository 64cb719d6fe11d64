"""The ingestion flow: store, validate and publish the files of the inbox, or one file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, State

from configs.errors import ChurnError
from configs.settings import load_settings
from feature_repo.files.stable_reads import read_stable
from flows.pipeline.artifacts import escaped, facts, gate_parts, publish, refusal_parts, table
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run
from flows.steps.inbox import LeftFile, WaitingFile, left_behind, move_to_ingested, named, waiting
from flows.steps.ingest_events import format_delivery, ingest_events
from flows.steps.ingest_snapshot import ingest_snapshot
from monitoring.quality_report import GateFailedError

LEFT: Final = "Left in the inbox"
"""Name of the state of a run that ingested all valid files while other files remain in the inbox."""
T = TypeVar("T")


def _run_name() -> str:
    """Return the name of a run on Prefect's pages."""
    file = flow_run.get_parameters().get("file")
    return f"land {Path(file).name}" if file else "land the inbox"


@flow(name="land", flow_run_name=_run_name, timeout_seconds=4 * 3600, **FLOW)
def land(
    file: Path | None = None,
    as_of: date | None = None,
    now: Now = None,
) -> list[dict[str, Any]] | State[list[dict[str, Any]]]:
    """Ingest extracts, then events, oldest first; the first refusal ends the run with its reason.

    Returns a dict per file: name, kind, whether it was new, and its counts. An ingested file of the inbox moves to
    ``inbox/landed``; a refused one stays, and is refused by each run until it is fixed or removed. If other files
    remain in the inbox, the run's state is called :data:`LEFT` and names them.

    Args:
        file: One file to land; empty: everything in the inbox.
        as_of: The day that the file describes, if it is an extract; counts before what its name says.
        now: The instant that the files came at, with its time zone; empty: the present moment. An instant of the past
            is noted as the time of landing; what is published is still known after all that was published before.
    """
    settings, at = start_run(), resolve_now(now)
    files, left = ([named(file, as_of)], []) if file else waiting(settings.home)
    if left:
        get_run_logger().warning("left in the inbox: %s", "; ".join(map(str, left)))
        publish(
            "inbox",
            "Left in the inbox",
            [table(["name", "why"], [[each.name, each.why] for each in left])],
            f"{len(left)} left in the inbox",
        )
    landed = []
    for each in files:
        step = extract if each.kind == "extract" else events
        try:
            before = read_stable(each.path)
            landed.append(step.with_options(task_run_name=f"{each.kind} {each.path.name}")(each, at))
        except ChurnError as refused:
            _show(each, refused)
            raise
        # After a kill before this line the next run finds the file again, and that it is published.
        if file is None and move_to_ingested(settings.home, each.path, before) is None:
            left.append(left_behind(each.path, "written again after it was read: the next run lands it"))
    if not landed:
        lies = f"{len(left)} things lie in the inbox, and none can be landed: see the artifact inbox."
        publish("landing", "Nothing to land", [lies if left else "The inbox is empty."])
    return ended(left, landed)


def ended(left: list[LeftFile], data: T) -> T | State[T]:
    """Return the run's result: a state that names the files left in the inbox, if there are any."""
    return Completed(name=LEFT, message="; ".join(map(str, left)), data=data) if left else data


@task(name="extract", **TASK)
def extract(waits: WaitingFile, now: datetime) -> dict[str, Any]:
    """Ingest one extract through the gate."""
    settings = load_settings()
    landing = ingest_snapshot(
        settings, waits.path, waits.as_of, ingested_at=now, clock=datetime.now(UTC), replace=waits.revision > 0
    )
    manifest = landing.manifest
    snapshot = f"{manifest.snapshot_date} version {manifest.version}"
    finding = landing.finding or "none"
    publish(
        "gate",
        f"The gate passed {waits.path.name}",
        [facts({"snapshot": snapshot, "finding": finding}), *gate_parts(landing.gate, landing.report_html)],
    )
    return {
        "file": waits.path.name,
        "kind": "extract",
        "fresh": landing.fresh,
        "snapshot": snapshot,
        "rows": manifest.rows,
        "quarantined": manifest.quarantined_rows,
        "finding": finding,
    }


@task(name="events", **TASK)
def events(waits: WaitingFile, now: datetime) -> dict[str, Any]:
    """Ingest one file of events."""
    landing = ingest_events(load_settings(), waits.path, now=now, clock=datetime.now(UTC))
    publish(
        "events", f"Events of {waits.path.name}", ["\n".join(f"- {escaped(line)}" for line in format_delivery(landing))]
    )
    delivery = landing.delivery
    return {
        "file": waits.path.name,
        "kind": "events",
        "fresh": landing.fresh,
        "delivery": delivery.number,
        "rows": delivery.rows,
        "admitted": delivery.admitted,
        "quarantined": sum(delivery.quarantined.values()),
        "waiting": delivery.waiting,
    }


def _show(waits: WaitingFile, refused: ChurnError) -> None:
    """Publish an artifact with the reason of a refusal."""
    parts = refusal_parts(refused)
    if isinstance(refused, GateFailedError):
        parts += gate_parts(refused.result, Path(refused.report))
    publish("gate", f"Refused: {waits.path.name}; nothing was published", parts)
