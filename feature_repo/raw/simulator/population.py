"""State of the current customers. Memory grows with their number, not with the number of months."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.profile import CHARGE_MIN_CENTS, GRID_CENTS, OFFLINE, Flags, Profile, list_price_cents

BUCKETS: Final = 3
"""Number of 30-day buckets of the 90-day windows; bucket 0 is the newest."""
_TAIL: Final = 0.5
_SHORT_MONTH_SHARE: Final = 0.3
_HISTORY_GAP_MAX: Final = 0.3
"""Share of tenure x charge; in the file 1 total in 1,000 is further from tenure x charge than 35 %."""

Numbers = NDArray[np.int64]
Reals = NDArray[np.float32]


@dataclass
class Population:
    """State of ``n`` customers: ``(n,)`` arrays, or ``(n, 3)`` with a column per 30-day bucket.

    Money is in US cents, ``spread_cents`` the deviation of one bill from the monthly charge, ``bill_cents`` the
    last bill (0 before the first), ``total_cents`` the sum of the bills of the last 72 months. Levels are
    constant log-factors of a customer; ``mood`` (mean 0, deviation 1) changes from month to month.
    ``pending_*`` are tickets that will be closed after the month in which they were opened. ``login_s`` is the last
    login, seconds since 1970 (0: none).
    """

    profile: Profile
    number: Numbers
    months_here: Numbers
    charge_cents: Numbers
    spread_cents: Reals
    bill_cents: Numbers
    total_cents: Numbers
    data_level: Reals
    voice_level: Reals
    ticket_level: Reals
    late_level: Reals
    login_level: Reals
    offer_level: Reals
    mood: Reals
    login_s: Numbers
    pending_hours: Reals
    pending_closed: Reals
    data_mb: Reals
    tickets: Reals
    hours: Reals
    closed: Reals
    late: Reals
    price_change_cents: Reals

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: NDArray[np.intp] | Flags | slice) -> Self:
        """Return the rows of an index, a mask or a slice, copied."""
        told: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        profile = told.pop("profile").take(rows)
        return type(self)(profile=profile, **{name: np.array(values[rows]) for name, values in told.items()})

    @classmethod
    def concat(cls, parts: Sequence[Population]) -> Population:
        """Return the concatenation of the parts."""
        names = [field.name for field in fields(cls) if field.name != "profile"]
        told: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(profile=Profile.concat([part.profile for part in parts]), **told)

    def turn_month(self) -> None:
        """Open a new bucket in each window."""
        for name in ("data_mb", "tickets", "hours", "closed", "late", "price_change_cents"):
            window = getattr(self, name)
            window[:, 1:] = window[:, :-1]
            window[:, 0] = 0
        self.hours[:, 0], self.closed[:, 0] = self.pending_hours, self.pending_closed
        self.pending_hours[:], self.pending_closed[:] = 0, 0

    def bill(self, rng: np.random.Generator, capped: Flags) -> None:
        """Add one month's bill: the charge plus a random deviation; the first bill is exact.

        ``capped`` marks customers whose tenure was at the cap before: their total holds 72 bills like their tenure, so
        that the oldest, approximated by the charge, is subtracted.
        """
        deviation = rng.standard_normal(len(self), np.float32) * self.spread_cents
        most = (1 - _SHORT_MONTH_SHARE) * self.charge_cents
        bill = on_grid(self.charge_cents + np.clip(deviation, -most, most))
        tenure = self.profile.tenure
        self.bill_cents = np.where(tenure == 0, 0, np.where(tenure == 1, self.charge_cents, bill))
        total = self.total_cents + self.bill_cents - np.where(capped, self.charge_cents, 0)
        self.total_cents = np.where(tenure <= 1, self.bill_cents, total)


def newcomers(
    rng: np.random.Generator, profile: Profile, numbers: Numbers, price_percent: int, constants: Calibration
) -> Population:
    """Return the state of new customers; those with a tenure above 1 have a total of earlier bills."""
    n = len(profile)
    normal = rng.standard_normal((8, n), np.float32)
    spread = constants.bill_deviation_usd[profile.internet] * 100 * np.exp(_TAIL * normal[0] - _TAIL**2 / 2)
    charge = charge_cents(profile, price_percent)
    tenure = profile.tenure.astype(np.int64)
    gap = np.where(tenure > 1, spread * np.sqrt(tenure) * normal[1], 0)
    history = tenure * charge + np.clip(gap, -_HISTORY_GAP_MAX * tenure * charge, _HISTORY_GAP_MAX * tenure * charge)
    window = (n, BUCKETS)
    return Population(
        profile=profile,
        number=numbers,
        months_here=np.zeros(n, np.int64),
        charge_cents=charge,
        spread_cents=spread.astype(np.float32),
        bill_cents=np.zeros(n, np.int64),
        total_cents=np.where(tenure == 0, 0, np.maximum(on_grid(history), charge)),
        data_level=np.where(
            profile.internet == OFFLINE, -np.inf, 6.6 + 0.5 * (profile.internet == 1) + 0.6 * normal[2]
        ).astype(np.float32),
        voice_level=np.where(profile.phone == 1, 2.6 + 0.6 * normal[3], -np.inf).astype(np.float32),
        ticket_level=0.5 * normal[4],
        late_level=0.6 * normal[5],
        login_level=0.5 * normal[6],
        offer_level=0.15 * normal[7],
        mood=rng.standard_normal(n, np.float32),
        login_s=np.zeros(n, np.int64),
        pending_hours=np.zeros(n, np.float32),
        pending_closed=np.zeros(n, np.float32),
        data_mb=np.zeros(window, np.float32),
        tickets=np.zeros(window, np.float32),
        hours=np.zeros(window, np.float32),
        closed=np.zeros(window, np.float32),
        late=np.zeros(window, np.float32),
        price_change_cents=np.zeros(window, np.float32),
    )


def charge_cents(profile: Profile, price_percent: int) -> Numbers:
    """Return the monthly charge: price list plus noise, times the price level, on the 0.05 USD grid."""
    listed = np.maximum(list_price_cents(profile) + GRID_CENTS * profile.noise.astype(np.int64), CHARGE_MIN_CENTS)
    return on_grid(listed * price_percent / 100) if price_percent != 100 else listed  # noqa: PLR2004 - per cent


def on_grid(cents: NDArray[Any]) -> Numbers:
    """Round to multiples of 0.05 USD."""
    return np.rint(np.asarray(cents, np.float64) / GRID_CENTS).astype(np.int64) * GRID_CENTS
