"""Core profiles of customers as small integers, and the design matrix of the fitted models.

The order of :data:`CHAIN` is the order in which a profile is drawn: each attribute is drawn given those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Small = NDArray[np.int16]
Flags = NDArray[np.bool_]
Reals = NDArray[np.float32]

TENURE_MAX_MONTHS: Final = 72
CONTRACTS: Final = ("Month-to-month", "One year", "Two year")
INTERNETS: Final = ("DSL", "Fiber optic", "No")
PAYMENT_METHODS: Final = ("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)")
FIBRE: Final = 1
OFFLINE: Final = 2
AUTOMATIC: Final = 2
"""Index of the first automatic payment method; those after it are automatic too."""
ADD_ON_KINDS: Final = ("security", "backup", "protection", "support", "tv", "movies")
CHAIN: Final = (
    ("contract", len(CONTRACTS)),
    ("internet", len(INTERNETS)),
    ("phone", 2),
    ("senior", 2),
    ("partner", 2),
    ("dependents", 2),
    ("lines", 2),
    *((name, 2) for name in ADD_ON_KINDS),
    ("paperless", 2),
    ("payment", len(PAYMENT_METHODS)),
)
"""(attribute, number of values), in the order of drawing; tenure is drawn before, gender and price noise after."""

LINE_CENTS: Final = 2000
SECOND_LINE_CENTS: Final = 500
INTERNET_CENTS: Final = (2500, 5000, 0)
ADD_ON_CENTS: Final = (500, 500, 500, 500, 1000, 1000)
CHARGE_MIN_CENTS: Final = 1825
GRID_CENTS: Final = 5
"""Charges of the real file are multiples of 0.05 USD."""

_KNOTS: Final = (6, 12, 24, 48, 60, 66)


@dataclass
class Profile:
    """Core attributes of ``n`` customers, ``(n,)`` int16 each.

    Values are 0 and 1, except for attributes with more values in :data:`CHAIN`.
    ``tenure`` is in whole months (0..72), ``noise`` the deviation of the charge from the price list in steps of
    0.05 USD. Attributes that do not apply (a second line without a telephone, add-ons without internet) are 0.
    """

    tenure: Small
    contract: Small
    internet: Small
    phone: Small
    senior: Small
    partner: Small
    dependents: Small
    lines: Small
    security: Small
    backup: Small
    protection: Small
    support: Small
    tv: Small
    movies: Small
    paperless: Small
    payment: Small
    gender: Small
    noise: Small

    def __len__(self) -> int:
        return len(self.tenure)

    def take(self, rows: NDArray[np.intp] | Flags | slice) -> Profile:
        """Return the rows of an index, a mask or a slice, copied."""
        return Profile(*(np.array(getattr(self, field.name)[rows]) for field in fields(self)))

    def put(self, rows: NDArray[np.intp], other: Profile) -> None:
        """Overwrite rows in place."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    @classmethod
    def empty(cls, customers: int) -> Profile:
        """Return profiles of all zeros."""
        return cls(*(np.zeros(customers, np.int16) for _ in fields(cls)))

    @classmethod
    def concat(cls, parts: Sequence[Profile]) -> Profile:
        """Return the concatenation of the parts."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def list_price_cents(profile: Profile) -> NDArray[np.int64]:
    """Return the price list's charge of each customer, ``(n,)`` US cents per month."""
    cents = LINE_CENTS * profile.phone.astype(np.int64) + SECOND_LINE_CENTS * profile.lines
    cents += np.array(INTERNET_CENTS)[profile.internet]
    for name, price in zip(ADD_ON_KINDS, ADD_ON_CENTS, strict=True):
        cents += price * getattr(profile, name).astype(np.int64)
    return cents


def applicable(name: str, profile: Profile) -> Flags:
    """Return a mask ``(n,)`` of customers with a choice in an attribute; all others have 0 (``phone``: 1)."""
    if name == "phone":
        # In the real file all customers without a telephone have DSL.
        return np.asarray(profile.internet == 0)
    if name == "lines":
        return np.asarray(profile.phone == 1)
    if name in ADD_ON_KINDS:
        return np.asarray(profile.internet != OFFLINE)
    return np.ones(len(profile), bool)


class ProfileDesign:
    """Design matrix of the fitted models, ``(DESIGN_WIDTH, n)`` float32: one row of memory per column.

    Columns are added per attribute in the order of :data:`CHAIN`, so that the model of an attribute reads those of the
    attributes before it: :attr:`known`. Tenure is a piecewise linear curve with its own step at 1; products of tenure,
    contract and internet with the rest carry the pairwise relations.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._matrix = np.empty((_WIDTH, len(profile)), np.float32)
        self._width = 0
        self._row: dict[str, Reals] = {}
        months = profile.tenure.astype(np.float32)
        self._add("", np.float32(1))
        self._add("share", months / np.float32(TENURE_MAX_MONTHS))
        self._add("log", np.log1p(months) / np.float32(np.log1p(TENURE_MAX_MONTHS)))
        self._add("first", months <= 1)
        self._add("", months == TENURE_MAX_MONTHS)
        for knot in _KNOTS:
            self._add("", np.maximum(months - np.float32(knot), 0) / np.float32(TENURE_MAX_MONTHS))

    @property
    def known(self) -> Reals:
        """The columns added so far, ``(columns, n)``."""
        return self._matrix[: self._width]

    def learn(self, name: str) -> None:
        """Add the columns of an attribute, which the profile must hold."""
        values = getattr(self._profile, name)
        if name == "contract":
            self._add("one", values == 1)
            self._add("two", values == 2)  # noqa: PLR2004 - the third contract
            self._products("one", "share", "log")
            self._products("two", "share", "log")
        elif name == "internet":
            self._add("fibre", values == FIBRE)
            self._add("offline", values == OFFLINE)
            self._products("fibre", "one", "two", "share", "log", "first")
            self._products("offline", "one", "two", "share", "log", "first")
            for contract in ("one", "two"):
                self._add("", self._row["share"] * self._row["fibre"] * self._row[contract])
        elif name == "payment":
            for value in range(1, len(PAYMENT_METHODS)):
                self._add("", values == value)
        else:
            self._add(name, values)
            self._products(name, *_WITH.get(name, ()))

    def _add(self, name: str, values: NDArray[Any] | np.float32) -> None:
        row = self._matrix[self._width]
        row[:] = values
        self._width += 1
        if name:
            self._row[name] = row

    def _products(self, name: str, *others: str) -> None:
        for other in others:
            np.multiply(self._row[name], self._row[other], out=self._matrix[self._width])
            self._width += 1


_WITH: Final[dict[str, tuple[str, ...]]] = {
    "senior": ("share", "fibre"),
    "partner": ("share",),
    "dependents": ("share", "partner"),
    "lines": ("share", "fibre", "two"),
    **dict.fromkeys(ADD_ON_KINDS, ("share", "fibre", "two")),
    "support": ("share", "fibre", "two", "security"),
    "movies": ("share", "fibre", "two", "tv"),
    "paperless": ("fibre", "senior"),
}
_CURVE: Final = 5 + len(_KNOTS)
_WIDTH: Final = _CURVE + 6 + 14 + 1 + 1 + sum(1 + len(others) for others in _WITH.values()) + len(PAYMENT_METHODS) - 1


def design(profile: Profile) -> Reals:
    """Return all columns of whole profiles, ``(DESIGN_WIDTH, n)``; see :class:`ProfileDesign`."""
    columns = ProfileDesign(profile)
    for name, _ in CHAIN:
        columns.learn(name)
    return columns.known


_BAND_STARTS: Final = np.array([2, 7, 13, 25, 37, 49, 61, 72])
_SCORE_STARTS: Final = np.array([-3.0, -2.0, -1.2, -0.6, 0.0, 0.6])
_BANDS, _SCORES, _PLANS = len(_BAND_STARTS) + 1, len(_SCORE_STARTS) + 1, len(CONTRACTS) * len(INTERNETS)
CELLS: Final = _BANDS * _SCORES * _PLANS


def cell(profile: Profile, score: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of each customer's cell, ``(n,)``, 0 to :data:`CELLS` - 1.

    Cells combine tenure band, contract, internet and the band of the leaving score.
    """
    band, risk = np.digitize(profile.tenure, _BAND_STARTS), np.digitize(score, _SCORE_STARTS)
    plan = profile.contract.astype(np.intp) * len(INTERNETS) + profile.internet
    return (band * _SCORES + risk) * _PLANS + plan


DESIGN_WIDTH: Final = len(design(Profile.empty(1)))
