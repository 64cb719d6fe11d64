"""Answer a deployment that waits for a person's approval, through Prefect's API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.errors import ChurnError
from flows.presence import alive

DEPLOY: Final = "deploy"


class NothingWaitsError(ChurnError):
    """No deployment waits for approval, or more than one does and none was named."""

    error = "nothing_waits"


@dataclass(frozen=True)
class Waiting:
    """A paused run by its id and name; ``over`` where it was answered before, or ended."""

    run_id: str
    name: str
    over: bool = False


def approve(home: Path, run_id: str | None, *, yes: bool, who: str, why: str) -> Waiting:
    """Give the answer to the run of this home that waits for it; ``run_id`` is needed only where several do.

    A run that is named and over is left as it is: who asks again does not answer another one.

    Raises
    ------
    NothingWaitsError
        If no such run waits, or several do (names them), or Prefect no longer takes the answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.responses import SetStateStatus

    found = waiting(home)
    chosen = [each for each in found if run_id in {None, each.run_id}]
    if not chosen and run_id is not None and (over := _over(run_id)) is not None:
        return over
    if len(chosen) != 1:
        told = ", ".join(f"{each.run_id} ({each.name})" for each in found) or "none"
        raise NothingWaitsError(f"waiting for approval: {told}", "name one: churn approve --run ID")
    with get_client(sync_client=True) as client:
        done = client.resume_flow_run(chosen[0].run_id, run_input={"approve": yes, "who": who, "why": why})
    if done.status is not SetStateStatus.ACCEPT:
        raise NothingWaitsError(f"Prefect did not take the answer: {chosen[0].name} waits no longer", "see its page")
    return chosen[0]


def _over(run_id: str) -> Waiting | None:
    """Return the run if it is one of a deployment and has ended, None otherwise."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(run_id))
            ours = client.read_flow(run.flow_id).name == DEPLOY
        except (ValueError, ObjectNotFound):
            return None
    return Waiting(run_id, run.name, over=True) if ours and run.state is not None and run.state.is_final() else None


def waiting(home: Path) -> list[Waiting]:
    """Return the deployments that wait for an answer, oldest first: those whose process on this home lives.

    One whose process died would never hear it: the sweep starts it again, and then it asks again.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    with get_client(sync_client=True) as client:
        paused = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[DEPLOY])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            ),
        )
    here = alive(home)
    ours = [run for run in paused if str(run.id) in here]
    return [Waiting(str(run.id), run.name) for run in sorted(ours, key=lambda run: str(run.created))]
