"""Simulation of a world, written as extracts, corrections, events, truth and world.json.

All random numbers come from generators keyed by (seed, month, purpose, block), so that the bytes depend only on the
arguments. Memory holds the customers of one month, one block of their events, and the events that have not arrived.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.behaviour import Month, simulate_behaviour
from feature_repo.raw.simulator.calibration import load_calibration
from feature_repo.raw.simulator.drift import SCENARIOS, WRONG_UNIT_FACTOR, Drift
from feature_repo.raw.simulator.errors import SimulationError
from feature_repo.raw.simulator.event_arrays import USAGE_DAY, deliver_events
from feature_repo.raw.simulator.event_encoding import event_table
from feature_repo.raw.simulator.event_writer import EventWriter
from feature_repo.raw.simulator.extract import Extract, write_extract
from feature_repo.raw.simulator.ground_truth import write_truth
from feature_repo.raw.simulator.hazard import leaving_probability, offer_log_odds
from feature_repo.raw.simulator.ids import customer_ids
from feature_repo.raw.simulator.late_labels import LateLabels
from feature_repo.raw.simulator.manifest import (
    MONTH_DAYS,
    Correction,
    World,
    available_at,
    correction_name,
    extract_name,
    truth_name,
)
from feature_repo.raw.simulator.month import FormerCustomers, MonthResult, MonthSpan, finish_month, simulate_month
from feature_repo.raw.simulator.population import Numbers, Population, newcomers
from feature_repo.raw.simulator.prices import price_list_usd
from feature_repo.raw.simulator.profile import Flags
from feature_repo.raw.simulator.steady_state import MONTHLY_CHURN_MAX, MONTHLY_CHURN_MIN, SteadyState, steady_state
from feature_repo.raw.simulator.transitions import first_customers

CUSTOMERS_MIN: Final = 100
CUSTOMERS_MAX: Final = 20_000_000
MONTHS_MAX: Final = 120
WARM_UP_MONTHS: Final = 4
"""Months simulated before the first observation date, which is a month before the first extract."""
FIRST_MONTH: Final = 1 - WARM_UP_MONTHS
BLOCK: Final = 8192
"""Customers whose events are in memory at a time; constant, because it determines the order of rows."""
_CORRECTED_EVERY: Final = 4
_CORRECTED_FIRST: Final = 2
_MONTH_SHIFT: Final = 44
_BLOCK_SHIFT: Final = 24
_POPULATION, _BILLS, _MISTAKES, _EVENTS, _LABELS = range(5)


def simulate(  # noqa: PLR0913 - what `churn simulate` takes
    out: Path,
    customers: int,
    months: int,
    seed: int,
    start: date,
    drift: str = "none",
    drift_month: int | None = None,
    *,
    jsonl: bool = True,
    monthly_churn: float | None = None,
) -> World:
    """Simulate a Telco world and write it to a folder.

    Parameters
    ----------
    out
        An empty or missing folder.
    customers
        Average number of rows of an extract: active customers and those who left in its 30 days.
    months, start
        Number of extracts, and the date of the first; the others follow every 30 days.
    seed
        The same arguments give the same files, byte for byte.
    drift, drift_month
        One of :data:`SCENARIOS`, and the extract (1 is the first) whose 30 days first show it; by default the middle.
    jsonl
        Whether to also write the events as JSON lines.
    monthly_churn
        Share of an extract's rows that left in its 30 days, on average, :data:`MONTHLY_CHURN_MIN` to
        :data:`MONTHLY_CHURN_MAX`; None: the public file's 0.265.

    Raises
    ------
    SimulationError
        If an argument is out of range or the folder is not empty.
    """
    drift_month = months // 2 + 1 if drift_month is None else drift_month
    _check_churn(monthly_churn)
    _check(out, customers, months, seed, start, drift, drift_month)
    steady = None if monthly_churn is None else steady_state(load_calibration(), monthly_churn)
    with EventWriter(out, jsonl=jsonl) as post:
        history = WorldHistory(out, customers, months, seed, start, Drift(drift, drift_month), post, steady)
        for month in range(FIRST_MONTH, months + 1):
            history.step(month)
        history.end()
    constants = load_calibration()
    names = sorted([*history.written, *post.written])
    world = World(
        out=out,
        seed=seed,
        customers=customers,
        months=months,
        start=start,
        drift=drift,
        drift_month=drift_month,
        jsonl=jsonl,
        monthly_churn=monthly_churn,
        snapshots=tuple(start + timedelta(days=MONTH_DAYS * place) for place in range(months)),
        corrections=tuple(history.corrections),
        prices_usd=price_list_usd(),
        price_level_percent=tuple(history.drift.price_percent(month) for month in range(1, months + 1)),
        calibrated_from=f"{constants.source}: shares, quantiles and coefficients of its {constants.rows} rows",
        calibrated_from_sha256=constants.source_sha256,
        files={name: _sha256(out / name) for name in names},
    )
    world.save()
    return world


class WorldHistory:
    """State of one simulation run, and its output files.

    ``here`` are the active customers; ``written`` the paths of extracts and truths, relative to ``out``.
    """

    def __init__(
        self,
        out: Path,
        customers: int,
        months: int,
        seed: int,
        start: date,
        drift: Drift,
        post: EventWriter,
        steady: SteadyState | None,
    ) -> None:
        self.out, self.listed, self.months, self.seed, self.start = out, customers, months, seed, start
        self.drift, self.post = drift, post
        self.constants = steady.constants if steady else load_calibration()
        self.written: list[str] = []
        self.corrections: list[Correction] = []
        self._late_labels = LateLabels(drift)
        active = round(customers * (1 - self.constants.churn_rate))
        rng = self._rng(FIRST_MONTH - 1, _POPULATION)
        first = steady.customers(rng, active) if steady else first_customers(rng, active, self.constants)
        self.here = newcomers(rng, first, np.arange(active), 100, self.constants)
        self._former, self._number = FormerCustomers.empty(), active

    def step(self, month: int) -> None:
        """Simulate one month and write its files; month 1 ends with the first extract."""
        begin, here = self._day(month - 1), self.here
        effect = offer_log_odds(here) if month >= 1 else None
        told, self._former, self._number = simulate_month(
            self._rng(month, _POPULATION),
            here,
            self._former,
            self._number,
            MonthSpan(month, _seconds(begin), self.listed),
            self.drift,
            self.constants,
        )
        if effect is not None:
            old = slice(told.old)
            vanished = ~(told.stays | told.left)[old]
            self._write_truth(begin, told.people.number[old], told.hazard, told.left[old], vanished, effect)
        people = self._lived(told, month, begin)
        self.here = finish_month(self._rng(month, _BILLS), people, told)
        if month >= 1:
            self._write_extracts(month, people, told)

    def end(self) -> None:
        """Write the truth of the last date, with null outcomes."""
        here, last = self.here, self._day(self.months)
        hazard = leaving_probability(here, _seconds(last), self.constants)
        nobody = np.zeros(len(here), bool)
        self._write_truth(last, here.number, hazard, nobody, ~nobody, offer_log_odds(here))

    def _lived(self, told: MonthResult, month: int, begin: date) -> Population:
        """Simulate the month per block and write the events that arrive; return the people after it."""
        told.people.turn_month()
        # The warm-up's events are in the file of the bootstrap, which is observed a month before the first extract.
        day = self._day(max(month, 0))
        self.post.open(day, available_at(day))
        outage = self.drift.begins("fibre_outage", month)
        factor = WRONG_UNIT_FACTOR if self.drift.since("unit_change", month) else 1
        blocks = []
        for place, row in enumerate(range(0, len(told.people), BLOCK)):
            rows = slice(row, row + BLOCK)
            block = told.people.take(rows)
            rng = self._rng(month, _EVENTS, place)
            here = (told.change_row >= row) & (told.change_row < row + BLOCK)
            part = Month(
                start_s=_seconds(begin),
                from_s=told.from_s[rows],
                until_s=told.until_s[rows],
                change_row=told.change_row[here] - row,
                change_before=told.change_before[here],
                change_after=told.change_after[here],
                change_s=told.change_s[here],
                outage=outage,
            )
            true = simulate_behaviour(rng, block, part)
            key_from = (month + WARM_UP_MONTHS << _MONTH_SHIFT) + (place << _BLOCK_SHIFT)
            said = deliver_events(rng, true, key_from, int(available_at(begin).timestamp()))
            said.first = np.where(said.kind == USAGE_DAY, said.first * factor, said.first)
            self.post.write(event_table(said, customer_ids(block.number, self.seed), key_from, self.seed))
            blocks.append(block)
        return Population.concat(blocks)

    def _write_extracts(self, month: int, people: Population, told: MonthResult) -> None:
        left, here = people.take(told.left), self.here
        extract = Extract.of(here, np.zeros(len(here), bool)).with_old_labels(
            Extract.of(left, np.ones(len(left), bool))
        )
        # Sorted by number, so that joiners and leavers are among the others, as in a real export.
        extract = extract.take(np.argsort(extract.number, kind="stable"))
        extract = self._late_labels.listed(extract, month, self._rng(month, _LABELS))
        day = self._day(month)
        if month % _CORRECTED_EVERY == _CORRECTED_FIRST and month < self.months:
            name = correction_name(day, 1)
            self._write(extract, name)
            self.corrections.append(Correction(name, day, self._day(month + 1)))
            extract = extract.with_errors(self._rng(month, _MISTAKES))
        self._write(extract, extract_name(day))

    def _write(self, extract: Extract, name: str) -> None:
        write_extract(extract, self.out / name, self.seed)
        self.written.append(name)

    def _write_truth(
        self,
        day: date,
        number: Numbers,
        hazard: NDArray[np.float64],
        left: Flags,
        unknown: Flags,
        effect: NDArray[np.float64],
    ) -> None:
        name = truth_name(day)
        write_truth(self.out / name, customer_ids(number, self.seed), available_at(day), hazard, left, unknown, effect)
        self.written.append(name)

    def _day(self, month: int) -> date:
        return self.start + timedelta(days=MONTH_DAYS * (month - 1))

    def _rng(self, month: int, purpose: int, block: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, month + WARM_UP_MONTHS, purpose, block])


def _check(out: Path, customers: int, months: int, seed: int, start: date, drift: str, drift_month: int) -> None:
    for name, value, low, high in (
        ("customers", customers, CUSTOMERS_MIN, CUSTOMERS_MAX),
        ("months", months, 1, MONTHS_MAX),
        ("seed", seed, 0, 2**32 - 1),
        ("drift month", drift_month, 1, months),
        ("year of the start", start.year, 2001, 2200),
    ):
        if not low <= value <= high:
            raise SimulationError(f"{name} is {value}", f"give one from {low} to {high}")
    if drift not in SCENARIOS:
        raise SimulationError(f"unknown drift scenario {drift!r}", f"one of {', '.join(SCENARIOS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SimulationError(f"{out} is not empty", "give a new folder: nothing is ever overwritten")
    out.mkdir(parents=True, exist_ok=True)


def _check_churn(monthly_churn: float | None) -> None:
    if monthly_churn is not None and not MONTHLY_CHURN_MIN <= monthly_churn <= MONTHLY_CHURN_MAX:
        raise SimulationError(
            f"monthly churn is {monthly_churn}",
            f"give a share from {MONTHLY_CHURN_MIN} to {MONTHLY_CHURN_MAX}; without it, it is the public file's 0.265",
        )


def _seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
