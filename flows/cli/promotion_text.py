"""Terminal text of promotions: a verdict, a ledger entry, the roll-out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.bundle.manifest import bundles_folder, read_verified
from bentos.rollout.ledger import LedgerEntry, read_ledger
from bentos.rollout.rollout import read_rollout
from configs.printable import printable

if TYPE_CHECKING:
    from flows.steps.promote import PromotionOutcome

_SHORT = 12


def outcome_lines(home: Path, outcome: PromotionOutcome, *, training: bool = False) -> Iterator[str]:
    """Yield the challenger, every rule with its figures, and the outcome.

    ``training``: whether the command was to train. If that returned an existing version, nothing is called refused.
    """
    trained = outcome.trained
    manifest, _, _ = read_verified(bundles_folder(home) / trained.digest)
    known = "" if trained.fresh else ", trained before"
    yield (
        f"version {trained.version} ({trained.digest[:_SHORT]}{known}): ROC-AUC {manifest.metrics['roc_auc']:.4f}, "
        f"Brier {manifest.metrics['brier']:.4f} on {manifest.metrics['rows']:.0f} held-out rows, "
        f"features of {manifest.service}"
    )
    if outcome.compared is None:
        yield "it is the champion already"
        return
    for name, held, figures in outcome.compared.verdict.rules:
        yield printable(f"  {'held' if held else 'FAILED'}: {name} ({figures})")
    if outcome.entry is None and training and not trained.fresh:
        yield f"nothing new was trained: {'the champion stays' if outcome.compared.champion else 'no model serves'}"
    elif outcome.entry is None:
        yield "refused: the champion stays" if outcome.compared.champion else "refused: there is no champion yet"
    else:
        yield "promoted to champion" + ("" if outcome.compared.verdict.promote else ", against the verdict")


def outcome_json(outcome: PromotionOutcome, *, training: bool = False) -> str:
    """Return an outcome as one line of JSON; ``training`` as for :func:`outcome_lines`.

    ``promoted`` is whether this command let the challenger serve, ``serves`` whether it is the champion now.
    ``outcome`` is "promoted", "serves already", "refused" or, where nothing was trained, "nothing new".
    """
    trained, compared = outcome.trained, outcome.compared
    result = outcome.result
    if result == "refused" and training and not trained.fresh:
        result = "nothing new"
    return json.dumps(
        {
            "version": trained.version,
            "model_version": trained.model_version,
            "digest": trained.digest,
            "run_id": trained.run_id,
            "fresh": trained.fresh,
            "outcome": result,
            "promoted": outcome.entry is not None,
            "forced": outcome.entry is not None and outcome.entry.forced,
            "serves": outcome.serves,
            "champion_before": compared.champion if compared else trained.digest,
            "verdict": compared.verdict.to_json() if compared else None,
        },
        sort_keys=True,
    )


def ledger_line(entry: LedgerEntry) -> str:
    """Return a ledger entry as one line: number, instant, action, model, operator, reason.

    A promotion against the verdict has the mark ``[forced]`` after its operator.
    """
    about = entry.after["challenger"] or entry.details.get("challenger") or entry.after["champion"]
    return printable(
        f"{entry.sequence:>4} {entry.at[:19]} {entry.action:<8} {about[:_SHORT]} by {entry.who}"
        + (" [forced]" if entry.forced else "")
        + (f": {entry.why}" if entry.why else "")
    )


def refuse_nothing_to_leave(home: Path) -> str:
    """Return why a rollback did nothing: the champion serves by a rollback, or is not the one named.

    The text includes how to replace it: the champion before one that serves by a rollback was withdrawn.
    """
    served = read_rollout(home)
    newest = [each for each in read_ledger(home) if each.action in {"promote", "rollback"}][-1:]
    if served is None or not newest:
        return "nothing to do"
    told = f"nothing to do: bundle {served.champion[:_SHORT]} (model {served.model_version}) serves"
    leave = (
        'churn promote --version N --force --why "…"'
        if newest[0].action == "rollback"
        else f"churn rollback --from {served.champion[:_SHORT]}"
    )
    return f"{told} since {ledger_line(newest[0]).strip()}; to leave it: {leave}"


def rollout_lines(home: Path) -> Iterator[str]:
    """Yield the champion, the previous champion, and the counts of a running trial."""
    served = read_rollout(home)
    if served is None:
        yield "no model serves yet"
        return
    before = f", before it {served.previous[:_SHORT]}" if served.previous else ""
    yield f"champion {served.champion[:_SHORT]} (model {served.model_version}){before}"
    if served.challenger is None:
        return
    from bentos.rollout.live_comparison import read_live

    live = read_live(home, served.challenger, since=served.sequence)
    share = f" for {served.share:.0%} of the customers" if served.mode == "canary" else ""
    yield f"{served.mode}{share}: challenger {served.challenger[:_SHORT]}"
    yield (
        f"  {live.compared} scores compared, {live.challenger.answered} answered and {live.challenger.failed} failed "
        f"by the challenger, {live.dropped} left out"
    )
