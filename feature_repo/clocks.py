"""How far the clocks of two machines may differ, and what lies after them. Pure; standard library only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""An instant so much after this machine's clock may come from another machine's; a later one is wrong."""


def in_future(instant: datetime, clock: datetime) -> bool:
    """Return whether an instant lies further after this machine's ``clock`` (both tz-aware) than clocks differ."""
    return instant > clock + CLOCKS_DIFFER
