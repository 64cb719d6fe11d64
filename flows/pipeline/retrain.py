"""The retraining flow: train, compare and deploy, on a schedule or after drift."""

from __future__ import annotations

from typing import Any, Final, Literal

from prefect import flow, get_run_logger
from prefect.states import Completed, State

from feature_repo.files.locks import LeaseHeldError, lease
from flows.pipeline.artifacts import escaped, publish
from flows.pipeline.deploy import deploy
from flows.pipeline.evaluate import evaluate, report_on
from flows.pipeline.policy import FLOW, Now, resolve_now, start_run
from flows.pipeline.train import train
from flows.steps.retraining_policy import admit_retraining
from training.promotion import Verdict

NOTHING_NEW: Final = "Nothing new"
"""Name of the state of a run whose training returned an existing version, and that promoted nothing."""
RetrainReason = Literal["schedule", "drift", "request"]


@flow(name="retrain", flow_run_name="retrain after {reason}", timeout_seconds=5 * 24 * 3600, **FLOW)
def retrain(
    reason: RetrainReason = "request",
    detail: str = "",
    report: bool = False,  # noqa: FBT001, FBT002 - a field of Prefect's form
    now: Now = None,
) -> dict[str, Any] | State[dict[str, Any]]:
    """Fit a challenger on all published data, compare it with the champion, promote it if it is better.

    Returns the version and the outcome: that of ``deploy``, or "nothing new" where the same data, settings and code
    gave an existing version that may not serve. The state of a run that trained nothing and promoted nothing is called
    :data:`NOTHING_NEW`. Skipped, with the reason, for drift within the cool-down or over the daily cap, or while
    another training is running.

    Args:
        reason: Why it is trained; only a drift has a cool-down and a daily cap.
        detail: What drifted, or who asked; it goes into the ledger.
        report: Whether the nested cross-validation's report is written too, which takes minutes.
        now: The instant written into the model and the ledger; empty: the present moment. All that is published is
            learnt from, whatever it says.
    """
    settings, at = start_run(), resolve_now(now)
    why = f"{reason}: {detail}" if detail else reason
    try:
        # Held to the end of the trial, so that no second challenger is compared at the same time.
        with lease(settings.home, "retraining", f"a retraining as of {at.isoformat()} ({reason})"):
            held_back = admit_retraining(settings.home, at, why, settings.retraining, drift=reason == "drift")
            if held_back is not None:
                return _skipped(held_back)
            trained = train(now=at)
            version = trained["version"]
            compared = evaluate(version=version, now=at)
            outcome = _nothing_new(trained, compared) or deploy(version=version, why=why, now=at)
            if report:
                # The report decides nothing: if it fails, the better model is serving already.
                report_on(version, at)
            if trained["fresh"] or outcome["outcome"] == "promoted":
                return outcome
            message = f"version {version}: {outcome['why']}"
            get_run_logger().info(message)
            return Completed(name=NOTHING_NEW, message=message, data=outcome)
    except LeaseHeldError as busy:
        return _skipped(busy.message)


def _nothing_new(trained: dict[str, Any], compared: dict[str, Any]) -> dict[str, Any] | None:
    """Return the outcome of a training that returned an existing version which may not serve; None otherwise."""
    verdict = Verdict.from_json(compared["verdict"])
    if trained["fresh"] or verdict.promote or compared["champion"] == trained["digest"]:
        return None
    stays = "the champion stays" if compared["champion"] else "no model serves"
    why = f"nothing new was trained, and {stays}: {verdict.why}"
    return {"version": trained["version"], "digest": trained["digest"], "outcome": "nothing new", "why": why}


def _skipped(why: str) -> State[dict[str, Any]]:
    get_run_logger().warning("no training: %s", why)
    publish("training-report", "No training", [escaped(why)])
    return Completed(name="Skipped", message=why, data={"skipped": why})
