"""Monthly extracts: the 21 Telco columns, and a first issue with errors that a later file corrects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from feature_repo.raw.simulator.ids import customer_ids
from feature_repo.raw.simulator.population import Population
from feature_repo.raw.simulator.profile import (
    ADD_ON_KINDS,
    CONTRACTS,
    GRID_CENTS,
    INTERNETS,
    OFFLINE,
    PAYMENT_METHODS,
    TENURE_MAX_MONTHS,
    Flags,
    Profile,
)
from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS

WRONG_CHARGE_SHARE: Final = 0.004
WRONG_LABEL_SHARE: Final = 0.01
"""Share of the leavers listed as customers in the first issue of an extract that is corrected later."""
_WRONG_CENTS: Final = 1000
_CHARGE_MAX_USD: Final = 200
_NO_YES: Final = ("No", "Yes")


@dataclass
class Extract:
    """``n`` listed customers: profile, ``(n,)`` numbers, charges and totals in cents, and leaver flags."""

    profile: Profile
    number: NDArray[np.int64]
    charge_cents: NDArray[np.int64]
    total_cents: NDArray[np.int64]
    left: Flags

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def of(cls, customers: Population, left: Flags) -> Extract:
        """Return an extract of customers in their current state."""
        return cls(customers.profile, customers.number, customers.charge_cents, customers.total_cents, left)

    def take(self, rows: NDArray[Any]) -> Extract:
        """Return the rows of an index or a mask."""
        columns = (self.number, self.charge_cents, self.total_cents, self.left)
        return Extract(self.profile.take(rows), *(column[rows] for column in columns))

    def with_labels(self, left: Flags) -> Extract:
        """Return the same rows with other labels."""
        return Extract(self.profile, self.number, self.charge_cents, self.total_cents, left)

    def with_old_labels(self, other: Extract) -> Extract:
        """Return these rows followed by those of ``other``."""
        pairs = zip(
            (self.number, self.charge_cents, self.total_cents, self.left),
            (other.number, other.charge_cents, other.total_cents, other.left),
            strict=True,
        )
        return Extract(Profile.concat([self.profile, other.profile]), *(np.concatenate(pair) for pair in pairs))

    def with_errors(self, rng: np.random.Generator) -> Extract:
        """Return a first issue with errors: some charges ten dollars too high, some leavers still customers."""
        chance = rng.random(len(self))
        wrong_label = self.left & (chance < WRONG_LABEL_SHARE)
        wrong_label[np.flatnonzero(self.left)[:1]] = True
        wrong_charge = ~self.left & (chance > 1 - WRONG_CHARGE_SHARE)
        wrong_charge[np.flatnonzero(~self.left)[:1]] = True
        charge = self.charge_cents + _WRONG_CENTS * wrong_charge
        return Extract(self.profile, self.number, charge, self.total_cents, self.left & ~wrong_label)


def write_extract(extract: Extract, path: Path, seed: int) -> None:
    """Write an extract as CSV: UTF-8, ``,``, LF, no quotes.

    Money has two decimals; the total is blank before the first bill.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write((",".join(CSV_COLUMNS) + "\n").encode())
        # No value of the schema holds a separator or a quote.
        options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
        pa_csv.write_csv(extract_table(extract, seed), file, options)


def extract_table(extract: Extract, seed: int) -> Any:
    """Return the extract as a pyarrow table of 21 string columns, each cell as written to the file."""
    profile = extract.profile
    online, phone = profile.internet != OFFLINE, profile.phone == 1
    add_ons = [np.where(online, getattr(profile, name), 2) for name in ADD_ON_KINDS]
    columns = [
        pa.array(customer_ids(extract.number, seed).astype("U"), pa.string()),
        _words(("Female", "Male"), profile.gender),
        _words(("0", "1"), profile.senior),
        _words(_NO_YES, profile.partner),
        _words(_NO_YES, profile.dependents),
        _words(tuple(str(months) for months in range(TENURE_MAX_MONTHS + 1)), profile.tenure),
        _words(_NO_YES, profile.phone),
        _words((*_NO_YES, "No phone service"), np.where(phone, profile.lines, 2)),
        _words(INTERNETS, profile.internet),
        *(_words((*_NO_YES, "No internet service"), values) for values in add_ons),
        _words(CONTRACTS, profile.contract),
        _words(_NO_YES, profile.paperless),
        _words(PAYMENT_METHODS, profile.payment),
        _money().take(pa.array(extract.charge_cents // GRID_CENTS)),
        _total(profile, extract.total_cents),
        _words(_NO_YES, extract.left),
    ]
    return pa.table(columns, names=list(CSV_COLUMNS))


def _words(words: tuple[str, ...], places: NDArray[Any]) -> Any:
    return pa.array(words).take(pa.array(places.astype(np.int64)))


def _total(profile: Profile, cents: NDArray[np.int64]) -> Any:
    amounts = _money()
    blank = pa.concat_arrays([amounts, pa.array([" "])])
    place = np.minimum(cents // GRID_CENTS, len(amounts) - 1)
    return blank.take(pa.array(np.where(profile.tenure == 0, len(amounts), place)))


@cache
def _money() -> Any:
    """Return all amounts on the grid up to the largest total, as strings with two decimals."""
    steps = range(_CHARGE_MAX_USD * 100 * TENURE_MAX_MONTHS // GRID_CENTS)
    return pa.array([f"{step * GRID_CENTS / 100:.2f}" for step in steps])
