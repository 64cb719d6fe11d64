"""Train, compare and deploy: on a schedule, or by itself after a drift."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.states import Completed, State

from feature_repo.files.locks import LeaseHeldError, lease
from flows.pipeline.artifacts import escaped, publish
from flows.pipeline.deploy import deploy
from flows.pipeline.evaluate import evaluate, report_on
from flows.pipeline.policy import FLOW, Now, begin, instant
from flows.pipeline.train import train
from flows.steps.retraining_policy import admit

Reason = Literal["schedule", "drift", "request"]


@flow(name="retrain", flow_run_name="retrain after {reason}", timeout_seconds=5 * 24 * 3600, **FLOW)
def retrain(
    reason: Reason = "request",
    detail: str = "",
    report: bool = False,  # noqa: FBT001, FBT002 - a field of Prefect's form
    now: Now = None,
) -> dict[str, Any] | State[dict[str, Any]]:
    """Fit a challenger on everything known, compare it with the champion, and let it serve if it is better.

    Returns the version and what became of it. Skipped, with the reason, if a drift comes within the cool-down, over
    the daily cap, or while another training is at work.

    Args:
        reason: Why it is trained; only a drift has a cool-down and a daily cap.
        detail: What drifted, or who asked; it goes into the ledger.
        report: Whether the nested cross-validation's report is written too, which takes minutes.
        now: The instant written into the model and the ledger; empty: the present moment. All that is published is
            learnt from, whatever it says.
    """
    settings, at = begin(), instant(now)
    why = f"{reason}: {detail}" if detail else reason
    try:
        # To the end of its trial: a second challenger would have nobody to be compared with.
        with lease(settings.home, "retraining", f"a retraining as of {at.isoformat()} ({reason})"):
            held_back = admit(settings.home, at, why, settings.retraining, drift=reason == "drift")
            if held_back is not None:
                return _skipped(held_back)
            version = train(now=at)["version"]
            evaluate(version=version, now=at)
            outcome: dict[str, Any] = deploy(version=version, why=why, now=at)
            if report:
                # It is for people and decides nothing: should it fail, the better model serves already.
                report_on(version, at)
            return outcome
    except LeaseHeldError as busy:
        return _skipped(busy.message)


def _skipped(why: str) -> State[dict[str, Any]]:
    get_run_logger().warning("no training: %s", why)
    publish("training-report", "No training", [escaped(why)])
    return Completed(name="Skipped", message=why, data={"skipped": why})
