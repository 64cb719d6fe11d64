"""Tolerated differences between the clocks of two machines. Pure; standard library only.

There are two limits. A prediction, an online write and a run's ``now`` use an instant that one of our machines has just
written: for clocks that are set over the network minutes are enough. Published data holds instants of other machines:
the arrival that a source recorded, which may be off by a time zone, and the declared delivery lag of an extract.
Refusing it would stop every later step, so a day is allowed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""Tolerance for the clock of another machine; an instant further after this machine's clock is wrong."""

KNOWN_AHEAD_MAX: Final = timedelta(days=1)
"""Longest time after now at which published data may be known or dated; beyond it a clock was fast."""


def in_future(instant: datetime, clock: datetime) -> bool:
    """Return whether ``instant`` is more than ``CLOCKS_DIFFER`` after ``clock`` (both tz-aware)."""
    return instant > clock + CLOCKS_DIFFER
