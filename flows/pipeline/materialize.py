"""The materialisation flow: write the newest values to the online store and check their parity.

See docs/decisions/0013-materialisation.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from pydantic import NonNegativeInt

from configs.settings import load_settings
from feature_repo.stores import materialize as materialising
from flows.pipeline.artifacts import escaped, publish
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run, to_json_dict
from flows.steps.check_parity import check_parity, report


@flow(name="materialize", flow_run_name="materialize", timeout_seconds=2 * 3600, **FLOW)
def materialize(parity_customers: NonNegativeInt = 200, now: Now = None) -> dict[str, Any]:
    """Write each customer's newest values to the online store, then compare a sample with the join.

    Returns the counts of customers and views and the newest event timestamp. A difference fails the run.

    Args:
        parity_customers: How many customers are compared with the point-in-time join afterwards; 0: none.
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    start_run()
    at = resolve_now(now)
    done: dict[str, Any] = write_online(at)
    if parity_customers:
        prove_parity(at, parity_customers)
    return done


@task(name="write online", **TASK)
def write_online(now: datetime) -> dict[str, Any]:
    """Materialise; a killed run can be repeated."""
    return to_json_dict(materialising.materialize(load_settings(), now))


@task(name="prove parity", **TASK)
def prove_parity(now: datetime, customers: int) -> list[str]:
    """Compare the online store with the point-in-time join, value by value."""
    settings = load_settings()
    lines = report(settings, check_parity(settings, now, customers_max=customers))
    publish("parity", "Online equals offline", ["\n".join(f"- {escaped(line)}" for line in lines)])
    return lines
