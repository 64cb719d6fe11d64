"""The freshness flow: fails if the values that predictions are based on are too old."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from prefect import flow, task
from prefect.events import emit_event

from configs.errors import ChurnError
from configs.settings import load_settings
from flows.pipeline.artifacts import publish, table
from flows.pipeline.policy import TASK, UNKEPT, Now, resolve_now, start_run, to_json_dict
from flows.steps.data_age import INBOX, data_ages
from flows.steps.inbox import waiting

STALE: Final = "churn.data.stale"


class StaleError(ChurnError):
    """Data exceed monitoring.freshness_max_h, or wait in the inbox longer than monitoring.inbox_max_h."""

    error = "data_stale"


@flow(name="freshness", flow_run_name="freshness", timeout_seconds=600, **UNKEPT)
def freshness(now: Now = None) -> list[dict[str, Any]]:
    """Measure the age of the newest snapshot, events and online values; returns a dict each.

    Fails, and emits ``churn.data.stale``, if one of them is older than ``monitoring.freshness_max_h``, or if a file has
    been in the inbox for longer than ``monitoring.inbox_max_h``.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings = start_run()
    found: list[dict[str, Any]] = look(resolve_now(now))
    stale = [each for each in found if each["status"] == "stale"]
    if stale:
        told = ", ".join(f"{each['name']} ({each['age_h']:.0f} h)" for each in stale)
        emit_event(STALE, resource={"prefect.resource.id": "churn.data"}, payload={"detail": told})
        left = "; ".join(map(str, waiting(settings.home)[1])) if stale[-1]["name"] == INBOX else ""
        limits = settings.monitoring
        raise StaleError(
            f"older than {limits.freshness_max_h:g} h (the inbox: {limits.inbox_max_h:g} h): {told}"
            + (f"; not landed: {left}" if left else ""),
            "land a newer extract, then materialize; take away from the inbox what is not to be landed",
        )
    return found


@task(name="look", **TASK)
def look(now: datetime) -> list[dict[str, Any]]:
    """Measure the ages and publish them."""
    found = [to_json_dict(age) for age in data_ages(load_settings(), now)]
    publish("freshness", "Age of the values", [table(list(found[0]), [list(age.values()) for age in found])])
    return found
