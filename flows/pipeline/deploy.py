"""Let a challenger serve: after the verdict, unseen beside the champion, to a few, after a person's yes, to all."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final, Literal

from prefect import flow, get_run_logger, task
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from bentos.bundle.ledger import entries
from bentos.bundle.rollout import rollout, start_trial, stop_trial
from bentos.comparison import LiveComparison, LiveFigures, read_live
from configs.settings import Settings, load_settings
from flows import compare as comparing
from flows import deploy as deploying
from flows.pipeline.artifacts import escaped, publish
from flows.pipeline.evaluate import Version, show, version_name
from flows.pipeline.policy import FLOW, TASK, Now, begin, instant, plain
from flows.train import Trained, registered_challenger
from training.promotion import Verdict

WHO: Final = "flow deploy"
Mode = Literal["shadow", "canary"]
_POLL_S: Final = 2.0
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
    """Compare a challenger with the champion of this moment and let it serve if every rule holds.

    In between, where the settings ask for them: shadow, canary, a person's approval. Running services follow by
    themselves. Returns version, outcome ("promoted", "serves already" or "refused") and why. A refusal is a result,
    not a failure.

    Args:
        version: MLflow version of the challenger; empty: the newest one.
        why: Why it was trained; it goes into the ledger.
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    settings, at = begin(), instant(now)
    trained = registered_challenger(settings, version)
    served = rollout(settings.home)
    if served is not None and served.champion == trained.digest:
        deploying.mirror(settings)
        return _told(trained, "serves already", "it is the champion")
    compared = comparing.compare(settings, trained, at)
    if compared.verdict.promote and served is not None and settings.rollout.shadow_requests_min:
        live = _trial(settings, trained, "shadow", at)
        if isinstance(live, str):
            return _refused(settings, trained, live)
        compared = comparing.compare(settings, trained, at, live=live)
    show(compared, trained.version)
    if not compared.verdict.promote:
        return _refused(settings, trained, compared.verdict.why)
    if served is not None and settings.rollout.canary_share > 0:
        stopped = _trial(settings, trained, "canary", at)
        if isinstance(stopped, str):
            return _refused(settings, trained, stopped)
    who, because = WHO, why
    if settings.promotion.approval_required:
        answer = ask(settings, trained, compared.verdict)
        if answer is None or not answer.approve:
            no = "nobody answered in time" if answer is None else f"{answer.who} said no: {answer.why}"
            return _refused(settings, trained, no)
        who, because = answer.who, "; ".join(filter(None, (why, answer.why)))
    promote(trained, compared, who, because or "every rule held", at)
    return _told(trained, "promoted", compared.verdict.why)


def ask(settings: Settings, trained: Trained, verdict: Verdict) -> Approval | None:
    """Pause until a person answers on Prefect's page or with `churn approve`; None if nobody did in time."""
    rules = "\n".join(f"- {'held' if held else 'FAILED'}: {name} ({told})" for name, held, told in verdict.rules)
    form = Approval.with_initial_data(
        description=f"Shall version {trained.version} ({trained.digest[:12]}) serve?\n\n{rules}", approve=False
    )
    timeout_s = int(settings.promotion.approval_timeout_h * 3600)
    try:
        answer: Approval = pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=_ANSWER_POLL_S)
    except FlowPauseTimeout:
        return None
    return answer


@task(name="promote", **TASK)
def promote(trained: Trained, compared: comparing.Compared, who: str, why: str, now: datetime) -> int:
    """Swap the pointer, write the ledger, move MLflow's aliases; returns the ledger's sequence."""
    entry = deploying.deploy(load_settings(), trained, compared, who=who, why=why, now=now)
    return entry.sequence if entry else 0


def _trial(settings: Settings, trained: Trained, mode: Mode, now: datetime) -> LiveFigures | str:
    """Let the challenger meet live requests until it has seen enough; returns the figures, or why it ended before.

    The service itself ends a canary that fails or is slow. The same trial again, after a kill, goes on.
    """
    rules, home = settings.rollout, settings.home
    wanted = rules.shadow_requests_min if mode == "shadow" else rules.canary_requests_min
    began = start_trial(
        home, trained.digest, mode=mode, share=rules.canary_share, who=WHO, why="before promotion", now=now
    )
    ends_at = time.monotonic() + rules.trial_timeout_h * 3600
    get_run_logger().info("%s: waiting for %d customers", mode, wanted)
    while True:
        served = rollout(home)
        if served is None or served.challenger != trained.digest or served.mode != mode:
            last = entries(home)[-1]
            return f"the {mode} was ended by {last.who}: {last.why}"
        live = read_live(home, trained.digest, since=began.sequence)
        if _seen(live, mode) >= wanted:
            publish("trial", f"{mode} of version {trained.version}", [_figures(live.figures())])
            return live.figures()
        if time.monotonic() > ends_at:
            why = f"the {mode} saw {_seen(live, mode)} of {wanted} customers within {rules.trial_timeout_h:g} h"
            stop_trial(home, who=WHO, why=why, now=datetime.now(UTC), trial=began.sequence)
            return why
        time.sleep(_POLL_S)


def _seen(live: LiveComparison, mode: Mode) -> int:
    return live.compared if mode == "shadow" else live.challenger.answered + live.challenger.failed


def _figures(live: LiveFigures) -> str:
    return "\n".join(f"- **{escaped(name)}**: {value:.5g}" for name, value in plain(live).items())


def _refused(settings: Settings, trained: Trained, why: str) -> dict[str, Any]:
    """Take a challenger that may not serve off the live requests, and say why."""
    served = rollout(settings.home)
    if served is not None and served.challenger == trained.digest:
        stop_trial(settings.home, who=WHO, why=why, now=datetime.now(UTC), trial=served.sequence)
    return _told(trained, "refused", why)


def _told(trained: Trained, outcome: str, why: str) -> dict[str, Any]:
    get_run_logger().info("version %s: %s (%s)", trained.version, outcome, why)
    return {"version": trained.version, "digest": trained.digest, "outcome": outcome, "why": why}
