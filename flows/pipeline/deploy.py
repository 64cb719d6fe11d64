"""The deployment flow: verdict, shadow, canary, a person's approval, promotion."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from prefect import flow, get_run_logger, task
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from bentos.rollout.live_comparison import LiveFigures
from bentos.rollout.rollout import Rollout, TrialEndedError, read_rollout
from configs.settings import Settings, load_settings
from flows.pipeline.approval import name_challenger
from flows.pipeline.artifacts import escaped, facts, publish
from flows.pipeline.evaluate import Version, show, version_name
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run, to_json_dict
from flows.steps import compare as comparing
from flows.steps import promote as deploying
from flows.steps.train import registered_challenger
from flows.steps.trial import TrialMode, TrialResult, run_trial, withdraw_trial, withdrawn_on_error
from training.promotion import Verdict
from training.registry import RegisteredChallenger

WHO: Final = "flow deploy"
CLOCK: Final = partial(datetime.now, UTC)
_ANSWER_POLL_S: Final = 2


class Approval(RunInput):
    """The answer to: shall this challenger serve."""

    approve: bool = Field(default=False, description="Yes lets it serve; no leaves the champion.")
    who: str = Field(min_length=1, description="Who decides; it goes into the ledger.")
    why: str = Field(default="", description="Why; it goes into the ledger.")


@flow(name="deploy", flow_run_name=version_name("deploy"), timeout_seconds=5 * 24 * 3600, **FLOW)
def deploy(
    version: Version = None,
    why: str = "",
    now: Now = None,
) -> dict[str, Any]:
    """Compare a challenger with the current champion and promote it if every rule passes.

    In between, if the settings require them: shadow, canary, a person's approval. Running services follow by
    themselves. Returns version, outcome ("promoted", "serves already" or "refused") and why. A refusal is a result, not
    a failure.

    Args:
        version: MLflow version of the challenger; empty: the newest one.
        why: Why it was trained; it goes into the ledger.
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings, at = start_run(), resolve_now(now)
    trained = RegisteredChallenger(**look_up(version))
    with withdrawn_on_error(settings.home, trained.digest, who=WHO, as_of=at, clock=CLOCK):
        served = read_rollout(settings.home)
        if served is not None and served.champion == trained.digest:
            deploying.try_sync_aliases(settings)
            return _told(trained, "serves already", "it is the champion")
        return _decided(settings, trained, served, why, at)


def _decided(
    settings: Settings, trained: RegisteredChallenger, served: Rollout | None, why: str, at: datetime
) -> dict[str, Any]:
    compared = comparing.ComparisonResult.from_json(compare(trained, None, at))
    # A flow that calls this one has published the comparison on held-out rows.
    shown = flow_run.get_parent_flow_run_id() is not None
    if compared.verdict.promote and served is not None and settings.rollout.shadow_requests_min:
        shadow = _trial(settings, trained, "shadow", at)
        if shadow.ended is not None:
            return _refused(settings, trained, shadow.ended, at)
        compared = comparing.ComparisonResult.from_json(compare(trained, shadow.live.figures(), at))
        shown = False
    if not shown:
        show(compared, trained.version)
    if not compared.verdict.promote:
        return _refused(settings, trained, compared.verdict.why, at)
    trial = None
    if served is not None and settings.rollout.canary_share > 0:
        canary = _trial(settings, trained, "canary", at)
        if canary.ended is not None:
            return _refused(settings, trained, canary.ended, at)
        trial = canary.sequence
    who, because = WHO, why
    if settings.promotion.approval_required:
        answer = ask(settings, trained, compared.verdict)
        if answer is None or not answer.approve:
            no = "no answer in time" if answer is None else f"{answer.who} said no: {answer.why}"
            return _refused(settings, trained, no, at)
        who, because = answer.who, "; ".join(filter(None, (why, answer.why)))
    try:
        promote(trained, compared, who, because or "every rule held", at, trial)
    except TrialEndedError as ended:
        # The canary continues while the approval is pending, and the service in any case.
        return _refused(settings, trained, ended.message, at)
    return _told(trained, "promoted", compared.verdict.why)


@task(name="look up", **TASK)
def look_up(version: str | None) -> dict[str, Any]:
    """Find the challenger in MLflow."""
    return to_json_dict(registered_challenger(load_settings(), version))


@task(name="compare", **TASK)
def compare(trained: RegisteredChallenger, live: LiveFigures | None, now: datetime) -> dict[str, Any]:
    """Decide about the challenger; with the results on live requests, if there are any."""
    settings = load_settings()
    return comparing.compare_models(settings, trained, comparing.serving(settings.home), now, live=live).to_json()


def ask(settings: Settings, trained: RegisteredChallenger, verdict: Verdict) -> Approval | None:
    """Pause until a person answers on Prefect's page or by `churn approve`; None if there is no answer."""
    rules = "\n".join(f"- {'held' if held else 'FAILED'}: {name} ({told})" for name, held, told in verdict.rules)
    form = Approval.with_initial_data(
        description=f"Shall version {trained.version} ({trained.digest[:12]}) serve?\n\n{rules}", approve=False
    )
    timeout_s = int(settings.promotion.approval_timeout_h * 3600)
    name_challenger(str(flow_run.id), trained.version, trained.digest)
    try:
        answer: Approval = pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=_ANSWER_POLL_S)
    except FlowPauseTimeout:
        return None
    return answer


@task(name="promote", **TASK)
def promote(
    trained: RegisteredChallenger,
    compared: comparing.ComparisonResult,
    who: str,
    why: str,
    now: datetime,
    trial: int | None = None,
) -> int:
    """Swap the pointer, write the ledger, move MLflow's aliases; return the ledger's sequence."""
    entry = deploying.promote_challenger(load_settings(), trained, compared, who=who, why=why, now=now, trial=trial)
    return entry.sequence if entry else 0


def _trial(settings: Settings, trained: RegisteredChallenger, mode: TrialMode, now: datetime) -> TrialResult:
    """Run a trial of the challenger on live requests and publish its result."""
    get_run_logger().info("%s of version %s", mode, trained.version)
    met = run_trial(settings, trained.digest, mode, who=WHO, as_of=now, clock=CLOCK)
    figures = {name: f"{value:.5g}" for name, value in to_json_dict(met.live.figures()).items()}
    publish("trial", f"{mode} of version {trained.version}", [escaped(met.ended or "it saw enough"), facts(figures)])
    return met


def _refused(settings: Settings, trained: RegisteredChallenger, why: str, now: datetime) -> dict[str, Any]:
    """End the trial of a refused challenger and return why."""
    withdraw_trial(settings.home, trained.digest, who=WHO, why=why, now=CLOCK(), as_of=now)
    return _told(trained, "refused", why)


def _told(trained: RegisteredChallenger, outcome: str, why: str) -> dict[str, Any]:
    get_run_logger().info("version %s: %s (%s)", trained.version, outcome, why)
    return {"version": trained.version, "digest": trained.digest, "outcome": outcome, "why": why}
