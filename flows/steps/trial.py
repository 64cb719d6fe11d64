"""Trial of a challenger on live requests, until enough were seen, a rule is broken, or time is up.

See docs/decisions/0032-live-rules.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from bentos.rollout.ledger import read_ledger, trial_ending
from bentos.rollout.live_comparison import LiveComparison, breach, open_question, read_live
from bentos.rollout.rollout import read_rollout, start_trial, stop_trial
from configs.settings import Settings

log = logging.getLogger(__name__)

TrialMode = Literal["shadow", "canary"]
UtcClock = Callable[[], datetime]
POLL_S: Final = 2.0


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial.

    Parameters
    ----------
    sequence
        The ledger's entry that started it.
    live
        Counts of both models on the same requests.
    ended
        Why it was stopped, None if it has seen enough and continues.

    Examples
    --------
    >>> from bentos.rollout.live_comparison import LiveComparison
    >>> from flows.steps.trial import TrialResult
    >>> TrialResult(7, LiveComparison(), ended=None).live.figures().compared
    0
    """

    sequence: int
    live: LiveComparison
    ended: str | None


def run_trial(
    settings: Settings,
    digest: str,
    mode: TrialMode,
    *,
    who: str,
    as_of: datetime,
    clock: UtcClock,
    poll_s: float = POLL_S,
) -> TrialResult:
    """Start the trial of the bundle ``digest`` and wait for its outcome; a killed trial is continued.

    A canary is judged by the rules of the service, on the counts of all workers, up to the end: a breach aborts it. It
    has not seen enough while a figure is beyond its limit and may be so by chance.

    Parameters
    ----------
    as_of
        The instant that the run works as of, for the ledger.
    clock
        Returns the present moment, UTC.

    Raises
    ------
    LiveCountsError, LedgerBrokenError, BundleError, StorageError
        The trial continues: see :func:`withdrawn_on_error`.
    """
    rules, home = settings.rollout, settings.home
    wanted = rules.shadow_requests_min if mode == "shadow" else rules.canary_requests_min
    now = clock()
    began = start_trial(
        home,
        digest,
        mode=mode,
        share=rules.canary_share,
        who=who,
        why="before promotion",
        now=now,
        ends_at=now + _longest(settings, mode),
        details={"as_of": as_of.isoformat()},
    )
    give_up_at = datetime.fromisoformat(began.at) + timedelta(hours=rules.trial_timeout_h)
    log.info("%s: waiting for %d customers", mode, wanted)
    while True:
        served = read_rollout(home)
        live = read_live(home, digest, since=began.sequence)
        if served is None or served.sequence != began.sequence:
            return TrialResult(began.sequence, live, trial_ending(read_ledger(home), began.sequence))
        seen = live.compared if mode == "shadow" else live.challenger.answered + live.challenger.failed
        why = breach(live, rules) if mode == "canary" else None
        action: Literal["stop", "abort"] = "abort" if why else "stop"
        doubt = open_question(live, rules) if mode == "canary" else None
        if why is None and seen >= wanted and doubt is None:
            return TrialResult(began.sequence, live, None)
        if why is None and clock() >= give_up_at:
            why = f"the {mode} saw {seen} of {wanted} customers within {rules.trial_timeout_h:g} h"
            why += f": {doubt}" if doubt else ""
        if why is None:
            time.sleep(poll_s)
            continue
        details = {"as_of": as_of.isoformat(), **asdict(live.figures())}
        # If a service ended the trial first its reason counts: the next iteration reads it.
        if stop_trial(home, who=who, why=why, now=clock(), action=action, trial=began.sequence, details=details):
            return TrialResult(began.sequence, live, why)


def withdraw_trial(home: Path, digest: str, *, who: str, why: str, now: datetime, as_of: datetime) -> None:
    """End the trial of a challenger that may not serve; the trial of another one continues."""
    served = read_rollout(home)
    if served is not None and served.challenger == digest:
        stop_trial(home, who=who, why=why, now=now, trial=served.sequence, details={"as_of": as_of.isoformat()})


@contextmanager
def withdrawn_on_error(home: Path, digest: str, *, who: str, as_of: datetime, clock: UtcClock) -> Iterator[None]:
    """End the trial of a challenger if the block fails or is interrupted; the error is re-raised."""
    try:
        yield
    except BaseException as first:
        try:
            withdraw_trial(home, digest, who=who, why=f"it failed: {type(first).__name__}", now=clock(), as_of=as_of)
        except Exception as second:  # noqa: BLE001 - the first error is raised; a service ends the trial in time
            log.warning("the trial goes on to its end, it could not be stopped: %s", type(second).__name__)
        raise


def _longest(settings: Settings, mode: TrialMode) -> timedelta:
    """Return the maximum duration of a trial: a canary continues while its approval is pending."""
    hours = settings.rollout.trial_timeout_h
    if mode == "canary" and settings.promotion.approval_required:
        hours += settings.promotion.approval_timeout_h
    return timedelta(hours=hours)
