"""Fit the simulator's constants on the real Telco file: `python tests/bench/calibrate_world.py CSV`.

Writes feature_repo/raw/simulator/calibration.json: shares, quantiles and regression coefficients; no row of the file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from feature_repo.raw.simulator import profile as core
from feature_repo.raw.simulator.calibration import FILE
from feature_repo.raw.snapshots.telco_csv import normalise, read_raw

STRENGTH = 0.3
"""Inverse ridge penalty: the cross-validated log loss of churn is flat from 0.1 to 1."""
QUANTILES = 51
DIGITS = 3


def profile_of(snapshot):
    """Return the :class:`Profile` of normalised rows."""
    columns = {
        "tenure": snapshot["tenure_months"],
        "contract": snapshot["contract_type"].map(core.CONTRACTS.index),
        "internet": snapshot["internet_service"].map(core.INTERNETS.index),
        "phone": snapshot["phone_service"],
        "senior": snapshot["senior_citizen"],
        "partner": snapshot["partner"],
        "dependents": snapshot["dependents"],
        "lines": snapshot["multiple_lines"] == "Yes",
        "security": snapshot["online_security"] == "Yes",
        "backup": snapshot["online_backup"] == "Yes",
        "protection": snapshot["device_protection"] == "Yes",
        "support": snapshot["tech_support"] == "Yes",
        "tv": snapshot["streaming_tv"] == "Yes",
        "movies": snapshot["streaming_movies"] == "Yes",
        "paperless": snapshot["paperless_billing"],
        "payment": snapshot["payment_method"].map(core.PAYMENT_METHODS.index),
        "gender": snapshot["gender"] == "Male",
        "noise": snapshot["tenure_months"] * 0,
    }
    profile = core.Profile(**{name: column.to_numpy().astype(np.int16) for name, column in columns.items()})
    cents = (snapshot["monthly_charges_usd"] * 100).round().to_numpy().astype(int)
    profile.noise = ((cents - core.list_price_cents(profile)) // core.GRID_CENTS).astype(np.int16)
    return profile


def chain(profile):
    """Return attribute -> coefficients of its regression on tenure and the attributes drawn before it."""
    columns, fitted = core.ProfileDesign(profile), {}
    for name, _ in core.CHAIN:
        rows = core.applicable(name, profile)
        fitted[name] = _coefficients(columns.known.T[rows], getattr(profile, name)[rows])
        columns.learn(name)
    return fitted


def _coefficients(matrix, value):
    model = LogisticRegression(C=STRENGTH, max_iter=5000, fit_intercept=False).fit(matrix, value)
    return np.round(model.coef_, DIGITS).tolist()


def _cells(profile, score, stays):
    counts = np.bincount(core.cell(profile, score), weights=stays, minlength=core.CELLS)
    return np.round(counts / counts.sum(), 6).tolist()


def constants(csv: Path) -> dict[str, object]:
    """Return everything that calibration.json holds."""
    snapshot = normalise(read_raw(csv, file_size_max_mb=64, cell_length_max_chars=1000))
    profile, churned = profile_of(snapshot), snapshot["churned"].to_numpy(dtype=bool)
    matrix = core.design(profile).T
    hazard = _coefficients(matrix, churned)[0]
    stays = 1 - 1 / (1 + np.exp(-(matrix @ np.array(hazard))))
    active = np.bincount(profile.tenure, weights=stays, minlength=core.TENURE_MAX_MONTHS + 1)
    months = profile.tenure.astype(float)
    billed = months > 1
    gap_usd = (snapshot["total_charges_usd"] - months * snapshot["monthly_charges_usd"]).to_numpy() / np.sqrt(
        months + 1e-9
    )
    levels = np.linspace(0, 1, QUANTILES)
    return {
        "source": "IBM's public Telco Customer Churn file",
        "source_sha256": hashlib.sha256(csv.read_bytes()).hexdigest(),
        "rows": len(snapshot),
        "churn_rate": round(float(churned.mean()), 6),
        "tenure_share": np.round(np.bincount(profile.tenure) / len(profile), 6).tolist(),
        "active_tenure_share": np.round(active / active.sum(), 6).tolist(),
        "active_cells": _cells(profile, matrix @ np.array(hazard), stays),
        "male_share": round(float(profile.gender.mean()), 4),
        "chain": chain(profile),
        "hazard": hazard,
        "noise_quantiles": [
            np.round(np.quantile(profile.noise[profile.internet == net], levels), 1).tolist()
            for net in range(len(core.INTERNETS))
        ],
        "bill_spread_usd": [
            {
                "median_gap": round(float(np.median(np.abs(gap_usd[billed & (profile.internet == net)]))), 3),
                "deviation": round(float(np.std(gap_usd[billed & (profile.internet == net)])), 3),
            }
            for net in range(len(core.INTERNETS))
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(constants(Path(sys.argv[1])), separators=(",", ":")).replace('],"', '],\n"') + "\n")
