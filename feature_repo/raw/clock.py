"""Check that nothing published before is dated after now, before more is published. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from configs.errors import ChurnError
from feature_repo.clocks import KNOWN_AHEAD_MAX


class ClockAheadError(ChurnError):
    """An earlier publication is dated long after now: later ones would be hidden until then."""

    error = "clock_was_ahead"


def check_clock(known: Iterable[datetime], now: datetime, *, ahead_max: timedelta = KNOWN_AHEAD_MAX) -> None:
    """Raise if an instant in ``known`` is more than ``ahead_max`` after ``now``; all instants are UTC.

    Raises
    ------
    ClockAheadError
        Naming the latest instant. Either this machine's clock is behind, or the clock was ahead at that publication.
    """
    latest = max(known, default=None)
    if latest is not None and latest - now > ahead_max:
        raise ClockAheadError(
            f"what was published last is known from {latest:%Y-%m-%d %H:%M} UTC on, and now is {now:%Y-%m-%d %H:%M} "
            "UTC: all that is published after it would be hidden until then",
            "correct this machine's clock if it is behind; if it was ahead then, restore the home as it was before, or "
            "ingest the files below raw/ into a new one",
        )
