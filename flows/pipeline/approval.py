"""Answer a deployment that waits for a person's approval, through Prefect's API."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.errors import ChurnError
from configs.settings import Settings
from flows.pipeline.heartbeat import alive
from flows.steps.promote import UnknownNameError, is_named
from training.registry import NoSuchVersionError, find_version

log = logging.getLogger(__name__)

DEPLOY: Final = "deploy"
_VERSION: Final = "challenger.version"
_DIGEST: Final = "challenger.digest"
"""Labels of a run that asks: which challenger it asks about."""


class NothingWaitsError(ChurnError):
    """No deployment waits for approval, or more than one does and none was named."""

    error = "nothing_waits"


@dataclass(frozen=True)
class Waiting:
    """A paused run by its id and name; ``over`` where it was answered before, or ended.

    ``version`` and ``digest`` name the challenger that it asks about: its MLflow version and its bundle; empty where
    the run does not say.
    """

    run_id: str
    name: str
    over: bool = False
    version: str = ""
    digest: str = ""

    def told(self) -> str:
        """Return it as words."""
        return f"{self.name}, run {self.run_id}, version {self.version or 'unknown'} ({self.digest[:12] or 'unknown'})"


def name_challenger(run_id: str, version: str, digest: str) -> None:
    """Write on the run which challenger it asks about, for :func:`waiting`.

    Where Prefect does not take it this is logged, and the run asks without: a canary that passed is not ended for it.
    """
    from uuid import UUID

    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(run_id), {_VERSION: version, _DIGEST: digest})
    except Exception as refused:  # noqa: BLE001 - whatever it is, a person can still be asked
        log.warning("the run does not say which challenger it asks about: %s", type(refused).__name__)


def approve(
    settings: Settings, run_id: str | None, version: str | None = None, *, yes: bool, who: str, why: str
) -> Waiting | None:
    """Give the answer to the run of this home that waits for it; ``run_id`` is needed only where several do.

    A run that is named and over is left as it is: who asks again does not answer another one. ``version`` names the
    challenger that is meant, as :func:`flows.steps.promote.is_named` takes it: where none waits that is, nothing is
    answered, and None returned.

    Raises
    ------
    NothingWaitsError
        If no such run waits, or several do (names them), or Prefect no longer takes the answer; and if ``version`` is
        that of no run that says what it asks about, while one waits that does not say it.
    UnknownNameError
        If ``version`` names no challenger that waits, and nothing else that the home or MLflow knows.
    RegistryUnavailableError
        If only MLflow could say whether there is such a version, and does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.responses import SetStateStatus

    found = waiting(settings.home)
    chosen = [each for each in found if run_id in {None, each.run_id} and _is_about(settings.home, each, version)]
    if not chosen and run_id is not None and (over := _over(run_id)) is not None:
        return over
    if not chosen and version is not None:
        unknown = [each.told() for each in found if run_id in {None, each.run_id} and not (each.version or each.digest)]
        if unknown:
            raise NothingWaitsError(
                f"whether version {version} waits is not known: a run does not say what it asks about: "
                + "; ".join(unknown),
                "its page in Prefect says it; then answer it without --version: churn approve --run ID",
            )
        _must_exist(settings, version)
        return None
    if len(chosen) != 1:
        told = "; ".join(each.told() for each in found) or "none"
        raise NothingWaitsError(f"waiting for approval: {told}", "name one: churn approve --run ID")
    with get_client(sync_client=True) as client:
        done = client.resume_flow_run(chosen[0].run_id, run_input={"approve": yes, "who": who, "why": why})
    if done.status is not SetStateStatus.ACCEPT:
        raise NothingWaitsError(f"Prefect did not take the answer: {chosen[0].name} waits no longer", "see its page")
    return chosen[0]


def _is_about(home: Path, run: Waiting, version: str | None) -> bool:
    if version in {None, run.version}:
        return True
    with suppress(UnknownNameError):
        return bool(run.digest) and is_named(home, run.digest, str(version))
    return False


def _must_exist(settings: Settings, version: str) -> None:
    """Raise UnknownNameError if a version was mistyped: a script must not be told that all is well."""
    try:
        is_named(settings.home, None, version)
    except UnknownNameError as unknown:
        try:
            find_version(settings, version)
        except NoSuchVersionError:
            raise unknown from None


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
    return [
        Waiting(
            str(run.id), run.name, version=str(run.labels.get(_VERSION, "")), digest=str(run.labels.get(_DIGEST, ""))
        )
        for run in sorted(ours, key=lambda run: str(run.created))
    ]
