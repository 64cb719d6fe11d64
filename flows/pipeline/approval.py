"""Approval of a waiting deployment by a person, through Prefect's API.

See docs/decisions/0033-commands-that-work-once.md.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.errors import ChurnError
from configs.settings import Settings
from flows.pipeline.heartbeat import find_live_runs
from flows.steps.promote import UnknownNameError, is_named
from training.registry import find_version
from training.registry_errors import NoSuchVersionError

log = logging.getLogger(__name__)

DEPLOY: Final = "deploy"
_VERSION: Final = "challenger.version"
_DIGEST: Final = "challenger.digest"
"""Labels of a waiting run: the version and the digest of its challenger."""


class NothingWaitsError(ChurnError):
    """No deployment waits for approval, or several do and none was named."""

    error = "nothing_waits"


@dataclass(frozen=True)
class WaitingApproval:
    """A paused run by its id and name; ``over`` if it was answered before, or ended.

    ``version`` and ``digest`` are of its challenger: the MLflow version and the bundle; empty where the run has no such
    labels.
    """

    run_id: str
    name: str
    over: bool = False
    version: str = ""
    digest: str = ""

    def summary(self) -> str:
        """Return the run as text."""
        return f"{self.name}, run {self.run_id}, version {self.version or 'unknown'} ({self.digest[:12] or 'unknown'})"


def name_challenger(run_id: str, version: str, digest: str) -> None:
    """Label the run with its challenger, for :func:`waiting_approvals`.

    If Prefect refuses, this is logged and the run continues without labels: a canary that passed must not end for it.
    """
    from uuid import UUID

    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(run_id), {_VERSION: version, _DIGEST: digest})
    except Exception as refused:  # noqa: BLE001 - any error: the approval works without labels
        log.warning("the run does not say which challenger it asks about: %s", type(refused).__name__)


def approve(
    settings: Settings, run_id: str | None, version: str | None = None, *, yes: bool, who: str, why: str
) -> WaitingApproval | None:
    """Answer the waiting run of this home; ``run_id`` is needed only if several wait.

    A named run that is over is left unchanged: a repeated command does not answer another run. ``version`` names the
    challenger, as :func:`flows.steps.promote.is_named` takes it: if no run waits for it, nothing is answered and None
    is returned.

    Raises
    ------
    NothingWaitsError
        If no such run waits, or several do (names them), or Prefect no longer takes the answer; and if ``version`` is
        that of no labelled run while a run without labels waits.
    UnknownNameError
        If ``version`` names neither a waiting challenger nor anything else known to the home or MLflow.
    RegistryUnavailableError
        If only MLflow could know the version, and does not respond.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.responses import SetStateStatus

    found = waiting_approvals(settings.home)
    chosen = [each for each in found if run_id in {None, each.run_id} and _is_about(settings.home, each, version)]
    if not chosen and run_id is not None and (over := _over(run_id)) is not None:
        return over
    if not chosen and version is not None:
        unknown = [
            each.summary() for each in found if run_id in {None, each.run_id} and not (each.version or each.digest)
        ]
        if unknown:
            raise NothingWaitsError(
                f"whether version {version} waits is not known: a run does not say what it asks about: "
                + "; ".join(unknown),
                "its page in Prefect says it; then answer it without --version: churn approve --run ID",
            )
        _must_exist(settings, version)
        return None
    if len(chosen) != 1:
        told = "; ".join(each.summary() for each in found) or "none"
        raise NothingWaitsError(f"waiting for approval: {told}", "name one: churn approve --run ID")
    with get_client(sync_client=True) as client:
        done = client.resume_flow_run(chosen[0].run_id, run_input={"approve": yes, "who": who, "why": why})
    if done.status is not SetStateStatus.ACCEPT:
        raise NothingWaitsError(f"Prefect did not take the answer: {chosen[0].name} waits no longer", "see its page")
    return chosen[0]


def _is_about(home: Path, run: WaitingApproval, version: str | None) -> bool:
    if version in {None, run.version}:
        return True
    with suppress(UnknownNameError):
        return bool(run.digest) and is_named(home, run.digest, str(version))
    return False


def _must_exist(settings: Settings, version: str) -> None:
    """Raise UnknownNameError if a version was mistyped: a script must not get a success for it."""
    try:
        is_named(settings.home, None, version)
    except UnknownNameError as unknown:
        try:
            find_version(settings, version)
        except NoSuchVersionError:
            raise unknown from None


def _over(run_id: str) -> WaitingApproval | None:
    """Return the run if it is a run of the deployment flow and has ended, None otherwise."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(run_id))
            ours = client.read_flow(run.flow_id).name == DEPLOY
        except (ValueError, ObjectNotFound):
            return None
    return (
        WaitingApproval(run_id, run.name, over=True)
        if ours and run.state is not None and run.state.is_final()
        else None
    )


def waiting_approvals(home: Path) -> list[WaitingApproval]:
    """Return the deployments waiting for an answer whose process on this home is alive, oldest first.

    A run whose process died can't receive an answer: the sweep starts it again, and it waits again.
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
    here = find_live_runs(home)
    ours = [run for run in paused if str(run.id) in here]
    return [
        WaitingApproval(
            str(run.id), run.name, version=str(run.labels.get(_VERSION, "")), digest=str(run.labels.get(_DIGEST, ""))
        )
        for run in sorted(ours, key=lambda run: str(run.created))
    ]
