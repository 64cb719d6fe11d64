"""Customers that look like the Telco file, for whoever has no file: one cross-section, made from a seed.

Honest limits: shares, relations and the price list follow IBM's sample; churn comes from a logistic hazard with
known coefficients, so the best possible ROC-AUC is about 0.85. Nobody's behaviour changes over time here, and no
figure measured on this data says anything about a real customer base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.raw.telco_csv import COLUMNS

TENURE_MAX_MONTHS: Final = 72
LINE_USD: Final = 20.0
SECOND_LINE_USD: Final = 5.0
INTERNET_USD: Final = {"DSL": 25.0, "Fiber optic": 50.0, "No": 0.0}
ADD_ON_USD: Final = {
    "OnlineSecurity": 5.0,
    "OnlineBackup": 5.0,
    "DeviceProtection": 5.0,
    "TechSupport": 5.0,
    "StreamingTV": 10.0,
    "StreamingMovies": 10.0,
}
CONTRACTS: Final = ("Month-to-month", "One year", "Two year")
PAYMENTS: Final = ("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)")

_DIGITS: Final = 10**4
_LETTERS: Final = 26**5
_STRIDE: Final = 48_271 * 1_000_003
"""Shares no factor with 10^4 x 26^5, so that multiples of it give every id once before one recurs."""

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def simulate_snapshot(customers: int, seed: int) -> pd.DataFrame:
    """Make one snapshot in the Telco schema.

    Parameters
    ----------
    customers
        Number of rows, at least 1.
    seed
        The same seed gives the same rows, byte for byte.

    Returns
    -------
    pd.DataFrame
        ``(customers, 21)`` strings, no nulls, as :func:`feature_repo.raw.telco_csv.read_raw` gives them: charges in
        USD, tenure in months, a blank TotalCharges at tenure 0.
    """
    rng = np.random.default_rng(seed)

    def chance(share: Numbers | float) -> Flags:
        return rng.random(customers) < share

    phone = chance(0.903)
    senior = chance(0.162)
    # Without a telephone there is DSL; older customers take fibre.
    net = np.where(senior, _draw(rng, (0.16, 0.79, 0.05), customers), _draw(rng, (0.29, 0.44, 0.27), customers))
    internet = np.where(phone, np.array(["DSL", "Fiber optic", "No"])[net], "DSL")
    dsl, fibre, none = internet == "DSL", internet == "Fiber optic", internet == "No"
    contract = np.select(
        [dsl, fibre],
        [_draw(rng, (0.51, 0.24, 0.25), customers), _draw(rng, (0.69, 0.17, 0.14), customers)],
        _draw(rng, (0.34, 0.24, 0.42), customers),
    )
    # Months as a share of the six years observed: fresh on monthly contracts, long on two-year ones.
    age = rng.beta(np.array([0.6, 1.9, 2.4])[contract], np.array([1.7, 1.4, 0.6])[contract])
    tenure = np.ceil(age * TENURE_MAX_MONTHS).astype(int).clip(1)
    tenure[(contract > 0) & chance(0.0035)] = 0
    loyal = tenure / TENURE_MAX_MONTHS
    partner = chance(0.22 + 0.52 * loyal)
    dependents = chance(np.where(partner, 0.51, 0.1) * np.where(senior, 0.3, 1.1))
    second_line = phone & chance(np.where(fibre, 0.4, 0.12) + 0.5 * loyal)
    usd = LINE_USD * phone + SECOND_LINE_USD * second_line + pd.Series(internet).map(INTERNET_USD).to_numpy()
    add_ons = {}
    for name, price_usd in ADD_ON_USD.items():
        streaming = name.startswith("Streaming")
        base = np.where(fibre, 0.38 if streaming else 0.1, 0.15)
        add_ons[name] = ~none & chance(base + 0.35 * loyal + (0.1 if streaming else 0.15) * contract)
        usd = usd + price_usd * add_ons[name]
    paperless = chance(np.select([dsl, fibre], [0.55, 0.77], 0.29))
    payment = np.select(
        [contract == 0, contract == 1],
        [_draw(rng, (0.48, 0.23, 0.15, 0.14), customers), _draw(rng, (0.24, 0.22, 0.27, 0.27), customers)],
        _draw(rng, (0.10, 0.23, 0.33, 0.34), customers),
    )
    monthly = (usd + rng.normal(0, 1, customers)).clip(18.25).round(2)
    hazard = (
        0.27
        + 1.0 * fibre
        - 0.8 * none
        - 0.75 * (contract == 1)
        - 1.75 * (contract == 2)  # noqa: PLR2004 - the third contract of the list
        + 0.35 * (payment == 0)
        + 0.35 * paperless
        - 0.32 * add_ons["OnlineSecurity"]
        - 0.3 * add_ons["TechSupport"]
        + 0.3 * (add_ons["StreamingTV"].astype(int) + add_ons["StreamingMovies"])
        + 0.25 * senior
        + 0.35 * second_line
        + 0.5 * ~phone
        - 0.12 * dependents
        - 0.73 * np.log1p(tenure)
    )
    churned = chance(1 / (1 + np.exp(-hazard))) & (tenure > 0)
    frame = pd.DataFrame(
        {
            "customerID": _ids(customers, seed),
            "gender": np.where(chance(0.505), "Male", "Female"),
            "SeniorCitizen": np.where(senior, "1", "0"),
            "Partner": _yes(partner),
            "Dependents": _yes(dependents),
            "tenure": tenure.astype(str),
            "PhoneService": _yes(phone),
            "MultipleLines": np.where(phone, _yes(second_line), "No phone service"),
            "InternetService": internet,
            **{name: np.where(none, "No internet service", _yes(has)) for name, has in add_ons.items()},
            "Contract": np.array(CONTRACTS)[contract],
            "PaperlessBilling": _yes(paperless),
            "PaymentMethod": np.array(PAYMENTS)[payment],
            "MonthlyCharges": _money(monthly),
            "TotalCharges": np.where(tenure == 0, " ", _money(_total(rng, tenure, monthly))),
            "Churn": _yes(churned),
        },
        dtype=object,
    )
    return frame[list(COLUMNS)]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write raw rows as the Telco file is written: UTF-8, ``,``, LF, quotes only where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _draw(rng: np.random.Generator, shares: tuple[float, ...], size: int) -> NDArray[np.int64]:
    return rng.choice(len(shares), size=size, p=shares)


def _yes(flags: Flags) -> NDArray[np.str_]:
    return np.where(flags, "Yes", "No")


def _money(usd: Numbers) -> list[str]:
    return [f"{value:.2f}" for value in usd.tolist()]


def _total(rng: np.random.Generator, tenure: NDArray[np.int64], monthly: Numbers) -> Numbers:
    """Return tenure x monthly with a drift that grows with the root of time, as prices change; exact in month 1."""
    drift = rng.normal(0, 0.19, len(tenure)).clip(-0.95, 0.95) * np.sqrt(tenure) * monthly
    return np.where(tenure > 1, tenure * monthly + drift, tenure * monthly)


def _ids(customers: int, seed: int) -> list[str]:
    codes = [(seed + 1 + row * _STRIDE) % (_DIGITS * _LETTERS) for row in range(customers)]
    return [f"{code % _DIGITS:04d}-{_letters(code // _DIGITS)}" for code in codes]


def _letters(code: int) -> str:
    return "".join(chr(ord("A") + code // 26**place % 26) for place in range(5))
