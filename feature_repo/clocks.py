"""How far the clocks of two machines may differ, and what lies after them. Pure; standard library only.

There are two limits. An answer, a write online and a run's ``now`` are made at this moment, with an instant that one of
our machines just wrote: minutes are enough for clocks that are set over the network. What is published carries instants
of others: the arrival that a source's machine noted, which may be off by a time zone, and the delivery lag that is
declared for an extract. A refusal there would stop all that follows, so a day is allowed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""An instant so much after this machine's clock may come from another machine's; a later one is wrong."""

KNOWN_AHEAD_MAX: Final = timedelta(days=1)
"""How far after now something published may be known, or dated: a later instant was written by a clock ahead."""


def in_future(instant: datetime, clock: datetime) -> bool:
    """Return whether an instant lies further after this machine's ``clock`` (both tz-aware) than clocks differ."""
    return instant > clock + CLOCKS_DIFFER
