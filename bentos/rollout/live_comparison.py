"""Counts of champion and challenger on the same live requests, mergeable over workers.

Pure, except for reading. It holds no customer id and no single score: only numbers per bin. See
docs/decisions/0032-live-rules.md.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from bentos.psi import psi
from bentos.rollout.likelihood_ratios import above, above_other
from bentos.rollout.paired_times import RATIO_EDGES, first_above, ratio_bin
from configs.errors import ChurnError
from configs.settings import RolloutSettings
from feature_repo.files.regular_files import read_regular

STEPS_PER_OCTAVE: Final = 4
EDGES_MS: Final = tuple(0.1 * 2 ** (step / STEPS_PER_OCTAVE) for step in range(81))
"""Upper edges of the latency bins: from 0.1 ms to 105 s, each 19 % above the one before."""
SCORE_BINS: Final = 20
"""Number of score bins, of equal width on [0, 1]."""
_UNIT: Final = 1e-9
"""Differences and shares are summed in whole billionths: a sum of integers does not depend on the order."""
_WHOLE: Final = 10**9
"""The share 1 in billionths."""
FALSE_END: Final = 0.005
"""Chance that one of the two rules ever ends a canary within its limits, at any number of looks: 1 % for both."""


class LiveCountsError(ChurnError):
    """A worker's counts can't be read."""

    error = "live_counts_invalid"


@dataclass(frozen=True)
class LiveFigures:
    """Figures of a live comparison; NaN where there are no counts.

    Parameters
    ----------
    compared
        Customers that both models scored.
    agreement
        Share of them with the same label.
    mean_difference
        Mean difference of the two probabilities, absolute.
    score_psi
        Population stability index between the two models' scores.
    latency_ratio
        Challenger's median CPU time over the champion's, over requests for one customer.
    error_rate, champion_error_rate
        Share of customers that the model should have scored and did not.
    dropped
        Customers that the shadow had no time for.
    """

    compared: int
    agreement: float
    mean_difference: float
    score_psi: float
    latency_ratio: float
    error_rate: float
    champion_error_rate: float
    dropped: int


@dataclass
class Arm:
    """One model's counts, of customers; ``latency`` (82,) of requests for one customer, ``score`` (20,).

    ``requests`` of a canary that needed the model for a customer; ``lost`` (billionths) is the sum over them of the
    share of these customers that it failed for.
    """

    answered: int = 0
    failed: int = 0
    requests: int = 0
    lost: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    score: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)

    def add_answer(self, probability: float) -> None:
        """Count one scored customer."""
        self.answered += 1
        self.score[min(int(probability * SCORE_BINS), SCORE_BINS - 1)] += 1

    def add_request(self, customers: int, failed: int) -> None:
        """Count one request with ``customers`` for the model, of which it failed for ``failed``."""
        self.failed += failed
        if customers:
            self.requests += 1
            self.lost += round(failed / customers / _UNIT)

    def add_seconds(self, seconds: float) -> None:
        """Count the CPU time of one request for one customer."""
        self.latency[bisect_right(EDGES_MS, seconds * 1000)] += 1

    @property
    def timed_requests(self) -> int:
        """Number of timed requests."""
        return sum(self.latency)

    def p50_ms(self) -> float:
        """Return the median time in ms, interpolated within its bin; NaN if nothing was timed."""
        half, below = self.timed_requests / 2, 0
        for position, count in enumerate(self.latency):
            if count and below + count >= half:
                upper = EDGES_MS[min(position, len(EDGES_MS) - 1)]
                lower = upper / 2 ** (1 / STEPS_PER_OCTAVE)
                return float(lower * (upper / lower) ** ((half - below) / count))
            below += count
        return math.nan

    def error_rate(self) -> float:
        """Return the share of failures, NaN without customers."""
        asked = self.answered + self.failed
        return self.failed / asked if asked else math.nan

    def lost_rate(self) -> float:
        """Return the mean over the requests of the share of failures in each; 0 without requests."""
        return self.lost * _UNIT / self.requests if self.requests else 0.0

    def merge(self, other: Arm) -> None:
        """Add the counts of ``other``."""
        self.answered += other.answered
        self.failed += other.failed
        self.requests += other.requests
        self.lost += other.lost
        self.latency = [one + two for one, two in zip(self.latency, other.latency, strict=True)]
        self.score = [one + two for one, two in zip(self.score, other.score, strict=True)]


@dataclass
class LiveComparison:
    """Counts of both models; ``ratios`` (98,) of pairs of CPU times. Not safe to share between threads.

    Examples
    --------
    >>> from bentos.rollout.live_comparison import LiveComparison
    >>> counts = LiveComparison()
    >>> counts.add_pair(0.20, 0.25, agree=True)
    >>> counts.add_pair(0.10, 0.30, agree=False)
    >>> figures = counts.merge(LiveComparison()).figures()
    >>> figures.compared, figures.agreement, round(figures.mean_difference, 3)
    (2, 0.5, 0.125)
    """

    champion: Arm = field(default_factory=Arm)
    challenger: Arm = field(default_factory=Arm)
    compared: int = 0
    agreeing: int = 0
    difference: int = 0
    dropped: int = 0
    ratios: list[int] = field(default_factory=lambda: [0] * (len(RATIO_EDGES) + 1))

    def add_pair(self, champion: float, challenger: float, *, agree: bool) -> None:
        """Count one customer that both scored: two probabilities, and whether the labels are the same."""
        self.champion.add_answer(champion)
        self.challenger.add_answer(challenger)
        self.compared += 1
        self.agreeing += agree
        self.difference += round(abs(champion - challenger) / _UNIT)

    def add_seconds(self, challenger_s: float, champion_s: float) -> None:
        """Count the CPU times of two requests for one customer that are compared, one of each model."""
        self.ratios[ratio_bin(challenger_s, champion_s)] += 1

    def merge(self, other: LiveComparison) -> Self:
        """Return the sum of both; neither is changed."""
        merged = type(self).from_json(self.to_json())
        merged.champion.merge(other.champion)
        merged.challenger.merge(other.challenger)
        merged.compared += other.compared
        merged.agreeing += other.agreeing
        merged.difference += other.difference
        merged.dropped += other.dropped
        merged.ratios = [one + two for one, two in zip(merged.ratios, other.ratios, strict=True)]
        return merged

    def figures(self) -> LiveFigures:
        """Return the figures of the counts."""
        ours, theirs = self.challenger, self.champion
        return LiveFigures(
            compared=self.compared,
            agreement=self.agreeing / self.compared if self.compared else math.nan,
            mean_difference=self.difference * _UNIT / self.compared if self.compared else math.nan,
            score_psi=psi(theirs.score, ours.score) if any(theirs.score) and any(ours.score) else math.nan,
            latency_ratio=ours.p50_ms() / theirs.p50_ms(),
            error_rate=ours.error_rate(),
            champion_error_rate=theirs.error_rate(),
            dropped=self.dropped,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError for anything else.

        An arm of a version that counted no requests is read as requests for one customer each.
        """
        arms = {name: Arm(**content[name]) for name in ("champion", "challenger")}
        made = cls(**{**content, **arms})
        counts = [made.compared, made.agreeing, made.difference, made.dropped, *made.ratios]
        if len(made.ratios) != len(RATIO_EDGES) + 1:
            raise ValueError("the counts have other bins than this version's")
        for arm in arms.values():
            counts += [arm.answered, arm.failed, arm.requests, arm.lost, *arm.latency, *arm.score]
            if (len(arm.latency), len(arm.score)) != (len(EDGES_MS) + 1, SCORE_BINS):
                raise ValueError("the counts have other bins than this version's")
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("a count is no count")
        for name, arm in arms.items():
            if {"requests", "lost"}.isdisjoint(content[name]):
                arm.requests, arm.lost = arm.answered + arm.failed, arm.failed * _WHOLE
            if arm.lost > arm.requests * _WHOLE:
                raise ValueError("more is lost than was asked")
        return made


def breach(counts: LiveComparison, rules: RolloutSettings) -> str | None:
    """Return why the canary must end, None while the counts do not prove it. Pure.

    Times: of pairs of requests, close in time and one of each model, more than half take the challenger more than
    ``latency_ratio_max`` times the champion's CPU time. CPU time of the answering thread, because both models share
    an interpreter: by the clock a slow one makes the other as slow. Failures: its rate exceeds the champion's by more
    than ``error_rate_margin``. The rate is the mean over requests of the share that failed in each: customers of one
    request fail together, and are one observation. Each rule ends a canary within its limits with a chance of at most
    FALSE_END in its whole life, at any number of looks; see docs/decisions/0032-live-rules.md.
    """
    ours, theirs = counts.challenger, counts.champion
    if _proven(_evidence_of_failures(counts, rules)):
        return (
            f"the challenger failed for {ours.failed} of {ours.answered + ours.failed} customers "
            f"({ours.lost_rate():.1%} of a request, on average of {ours.requests}), the champion for {theirs.failed} "
            f"of {theirs.answered + theirs.failed} ({theirs.lost_rate():.1%}, of {theirs.requests}); "
            f"{rules.error_rate_margin:.1%} more are allowed"
        )
    pairs, slower = sum(counts.ratios), sum(counts.ratios[first_above(rules.latency_ratio_max) :])
    if _proven(above(slower, pairs, 0.5)):
        return (
            f"the challenger took more than {rules.latency_ratio_max:g} times the champion's CPU time in {slower} of "
            f"{pairs} pairs of requests"
        )
    return None


def open_question(counts: LiveComparison, rules: RolloutSettings) -> str | None:
    """Return a figure beyond its limit that chance may explain, None if there is none. Pure.

    Such a canary is not ended by :func:`breach`, and is not yet fit for promotion. Failures are rated as there.
    """
    ours, allowed = counts.challenger, counts.champion.lost_rate() + rules.error_rate_margin
    if ours.lost_rate() > allowed:
        return f"{ours.lost_rate():.1%} of a request failed, on average of {ours.requests}; {allowed:.1%} are allowed"
    figures = counts.figures()
    if figures.latency_ratio > rules.latency_ratio_max:
        return f"the median CPU time is {figures.latency_ratio:.1f} times the champion's"
    return None


def _evidence_of_failures(counts: LiveComparison, rules: RolloutSettings) -> float:
    ours, theirs = counts.challenger, counts.champion
    if not ours.lost:
        return 0.0
    return above_other(ours.lost * _UNIT, ours.requests, theirs.lost * _UNIT, theirs.requests, rules.error_rate_margin)


def _proven(log_evidence: float) -> bool:
    return log_evidence >= -math.log(FALSE_END)


def live_folder(home: Path, digest: str) -> Path:
    """Return the folder of the workers' counts of the challenger ``digest``."""
    return home / "rollout" / digest


def live_name(trial: int, worker: str) -> str:
    """Return the file name of a worker's counts of the trial that the ledger's entry ``trial`` began."""
    return f"{trial:08d}-{worker}.json"


def read_live(home: Path, digest: str, *, since: int = 0) -> LiveComparison:
    """Return the counts of all workers for the challenger ``digest``, empty if there are none.

    ``since`` leaves out trials that began before this entry of the ledger.

    Raises
    ------
    LiveCountsError
        If a file can't be read: its counts might have ended the challenger's trial.
    """
    merged = LiveComparison()
    for file in sorted(live_folder(home, digest).glob("[0-9]*-*.json")):
        try:
            if int(file.name.split("-")[0]) >= since:
                merged = merged.merge(LiveComparison.from_json(json.loads(read_regular(file))))
        except (OSError, ValueError, KeyError, TypeError) as broken:
            raise LiveCountsError(
                f"{file} can't be read ({type(broken).__name__})", "remove it and begin the trial again"
            ) from broken
    return merged
