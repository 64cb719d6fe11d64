"""Drift scenarios of the simulator, and the month in which they begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCENARIOS: Final[dict[str, str]] = {
    "none": "Nothing changes.",
    "price_rise": "All charges rise by 8 % in one month; who sees the rise leaves more often for three months.",
    "competitor_campaign": "For three months customers with internet and no contract leave twice as often, "
    "which no column and no event shows.",
    "fibre_outage": "For nine days fibre hardly works: traffic falls, tickets are opened and take long to close.",
    "unit_change": "Traffic is delivered in kB, still called MB: a data bug; customers behave as before.",
    "label_delay": "Sixty of a hundred leavers stay listed as customers for one month before Churn says Yes.",
}
PRICE_RISE_PERCENT: Final = 8
CAMPAIGN_MONTHS: Final = 3
CAMPAIGN_LOG_ODDS: Final = 0.7
OUTAGE_DAYS: Final = range(11, 20)
OUTAGE_TICKETS: Final = 0.7
"""Expected additional tickets per fibre customer."""
OUTAGE_RESOLUTION_FACTOR: Final = 3.0
WRONG_UNIT_FACTOR: Final = 1000
LABEL_DELAY_SHARE: Final = 0.6


@dataclass(frozen=True)
class Drift:
    """A scenario and its first month (1 = the 30 days before the first extract)."""

    scenario: str
    month: int

    def begins(self, scenario: str, month: int) -> bool:
        """Whether ``scenario`` begins in ``month``."""
        return self.scenario == scenario and month == self.month

    def since(self, scenario: str, month: int) -> bool:
        """Whether ``scenario`` has begun, in this month or an earlier one."""
        return self.scenario == scenario and month >= self.month

    def campaign(self, month: int) -> bool:
        """Whether the competitor's campaign runs in the 30 days of this month."""
        return self.since("competitor_campaign", month) and month < self.month + CAMPAIGN_MONTHS

    def price_percent(self, month: int) -> int:
        """Return the price level in per cent of the price list."""
        return 100 + (PRICE_RISE_PERCENT if self.since("price_rise", month) else 0)
