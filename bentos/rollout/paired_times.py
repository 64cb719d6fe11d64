"""Paired CPU times of two models, close in time, so that load of the machine affects both. Pure.

See docs/decisions/0032-live-rules.md.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Literal

ArmName = Literal["champion", "challenger"]
_STEPS_PER_OCTAVE: Final = 8
RATIO_EDGES: Final = tuple(2 ** (step / _STEPS_PER_OCTAVE) for step in range(-32, 65))
"""Upper edges of the bins of challenger's over champion's time: from 1/16 to 256, each 9 % above the one before."""
_LEAST_S: Final = 1e-9


def ratio_bin(challenger_s: float, champion_s: float) -> int:
    """Return the bin of a pair; a ratio equal to an edge is in the bin below it."""
    return bisect_left(RATIO_EDGES, challenger_s / max(champion_s, _LEAST_S))


def first_above(limit: float) -> int:
    """Return the first bin with only ratios above ``limit``: the bin of the limit itself is not counted."""
    return bisect_left(RATIO_EDGES, limit) + 1


@dataclass
class Pairing:
    """Pairs times as requests are answered. Not safe to share between threads.

    Each pair has the newest time of one model and the next one of the other. Which of them comes first alternates:
    load that grows slowly and ends at once would otherwise make the later one look slower.

    Examples
    --------
    >>> from bentos.rollout.paired_times import Pairing
    >>> pairing = Pairing()
    >>> times = [("champion", 0.010), ("champion", 0.011), ("challenger", 0.012)]
    >>> [pairing.add(arm, seconds) for arm, seconds in times]
    [None, None, (0.012, 0.011)]
    """

    _first: ArmName = "champion"
    _kept_s: float | None = None

    def add(self, arm: ArmName, seconds: float) -> tuple[float, float] | None:
        """Return (challenger's, champion's) seconds if this time completes a pair."""
        if arm == self._first:
            self._kept_s = seconds
            return None
        if self._kept_s is None:
            return None
        kept, self._kept_s, self._first = self._kept_s, None, arm
        return (seconds, kept) if arm == "challenger" else (kept, seconds)
