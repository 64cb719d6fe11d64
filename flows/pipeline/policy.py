"""Shared options of flows and tasks: JSON results, retries of transient errors, and the run's instant."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff
from pydantic import AwareDatetime

from configs.errors import ChurnError
from configs.settings import Settings, load_settings
from configs.telemetry import switch_off
from feature_repo.clocks import CLOCKS_DIFFER, in_future
from flows.pipeline.heartbeat import register_run
from flows.pipeline.refusal_logs import log_refusals_as_lines

Now = AwareDatetime | None
"""The instant that a run works as of, with its time zone; None: the present moment."""


class InstantInFutureError(ChurnError):
    """The requested instant of a run lies after this machine's clock."""

    error = "instant_in_future"
    http_status = 422


def is_retryable(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether a retry of a failed task can help: a server was unreachable, or the disk was full.

    A refusal (a failed gate, no labels, a damaged file) is the same on every retry.
    """
    broken = state.result(raise_on_failure=False)
    if isinstance(broken, ChurnError):
        return broken.transient
    return isinstance(broken, OSError)


FLOW: Final[dict[str, Any]] = {"persist_result": True, "result_serializer": "json", "validate_parameters": True}
"""Options of every flow: results are JSON, not pickle: any program can read them, no code is run."""
UNKEPT: Final[dict[str, Any]] = {**FLOW, "persist_result": False}
"""Options of frequent flows: their results are not stored, as artifacts and state contain them."""
TASK: Final[dict[str, Any]] = {
    "persist_result": False,
    "result_serializer": "json",
    # The functions are idempotent: they check for existing results. Only expensive tasks have a cache key.
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_retryable,
}
"""Options of every task."""


def start_run() -> Settings:
    """Return the settings of this run, and mark it as alive.

    As in `churn …`: libraries send no telemetry, and written files are accessible to this user alone.
    """
    switch_off(os.environ)
    os.umask(0o077)
    settings = load_settings()
    log_refusals_as_lines()
    run_id = flow_run.get_id()
    if run_id is not None:
        register_run(settings.home, str(run_id))
    return settings


def resolve_now(now: datetime | None) -> datetime:
    """Return ``now`` in UTC, the present moment if None.

    Raises InstantInFutureError if it lies after this machine's clock by more than the tolerance for clock differences.
    """
    clock = datetime.now(UTC)
    if now is None:
        return clock
    at = now.astimezone(UTC)
    if in_future(at, clock):
        raise InstantInFutureError(
            f"now is {at:%Y-%m-%d %H:%M:%S} UTC, more than {CLOCKS_DIFFER.seconds // 60} minutes after this machine's "
            f"clock, {clock:%Y-%m-%d %H:%M:%S} UTC",
            "leave now empty for the present moment, or give an instant of the past; check the clock of this machine",
        )
    return at


def to_json_dict(found: Any) -> dict[str, Any]:
    """Return a dataclass as JSON values, for results of flows and tasks."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(found), default=str))
    return told
