"""What a contact costs and earns, from the file to the threshold and the expected profit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.decisions.economics import (
    ECONOMICS_FILE,
    Economics,
    EconomicsError,
    expected_profit_usd,
    load_economics,
    profit_threshold,
)
from configs.errors import ChurnError

PAPER = Economics()


def test_the_shipped_file_holds_the_papers_values() -> None:
    assert load_economics() == PAPER == load_economics(ECONOMICS_FILE)
    assert PAPER.accept_mean == pytest.approx(0.3)
    assert PAPER.gain_usd == pytest.approx(0.3 * 190 - 1)
    assert PAPER.waste_usd == 11


@pytest.mark.parametrize(
    ("toml", "names"),
    [
        ("clv_usd = 10.0", "clv_usd 10 is not above incentive_usd 10"),
        ("clv_usd = -200.0", "clv_usd -200 is not above"),
        ("incentive_usd = -1.0", "incentive_usd is -1: a cost below 0"),
        ("contact_usd = -0.5", "contact_usd is -0.5: a cost below 0"),
        ("contact_usd = 57.0", "missing a churner pays as much as catching one or more"),
        ("clv_usd = 13.0", "expected gain is -0.10 USD"),
        ("accept_alpha = 0.0", "accept_alpha is 0"),
        ("accept_beta = -3", "accept_beta is -3"),
        ("clv_usd = inf", "clv_usd is inf, not a finite number"),
        ("clv_usd = nan", "clv_usd is nan, not a finite number"),
        ("clv_usd = true", "clv_usd is True, not a finite number"),
        ('clv_usd = "200"', "clv_usd is '200', not a finite number"),
        ("clv = 200.0", "unknown key clv in economics.toml"),
        ("clv_usd = ", "cannot read"),
    ],
)
def test_a_contradictory_file_is_refused(tmp_path: Path, toml: str, names: str) -> None:
    path = tmp_path / "economics.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(EconomicsError) as refused:
        load_economics(path)
    assert names in refused.value.message
    assert refused.value.hint
    assert isinstance(refused.value, ChurnError)
    assert refused.value.exit_code == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EconomicsError, match="cannot read"):
        load_economics(tmp_path / "economics.toml")


def test_a_key_left_out_keeps_the_papers_value(tmp_path: Path) -> None:
    path = tmp_path / "economics.toml"
    path.write_text("contact_usd = 2\n", encoding="utf-8")
    assert load_economics(path) == Economics(contact_usd=2)


def test_the_threshold_is_where_contacting_breaks_even() -> None:
    p = profit_threshold(PAPER)
    assert p == pytest.approx(11 / 67)
    assert p * PAPER.gain_usd - (1 - p) * PAPER.waste_usd == pytest.approx(0)
    assert profit_threshold(Economics(incentive_usd=0, contact_usd=0)) == 0


def test_the_expected_profit_of_four_customers() -> None:
    # gain 56 of a leaver, waste 11 of a stayer.
    assert expected_profit_usd(0.0, PAPER) == -11
    assert expected_profit_usd(1.0, PAPER) == pytest.approx(56)
    assert expected_profit_usd(0.5, PAPER) == pytest.approx(22.5)
    assert expected_profit_usd(np.asarray([0.0, 0.5, 1.0]), PAPER) == pytest.approx([-11, 22.5, 56])
    assert isinstance(expected_profit_usd(0.5, PAPER), float)


@settings(deadline=None)
@given(
    st.floats(0, 1),
    st.builds(
        Economics,
        clv_usd=st.floats(100, 1000),
        incentive_usd=st.floats(0, 20),
        contact_usd=st.floats(0, 5),
        accept_alpha=st.floats(1, 10),
        accept_beta=st.floats(1, 10),
    ),
)
def test_it_is_0_at_the_threshold_and_rises_through_it(probability: float, economics: Economics) -> None:
    threshold = profit_threshold(economics)
    found = expected_profit_usd(probability, economics)
    assert expected_profit_usd(threshold, economics) == pytest.approx(0, abs=1e-9)
    assert -economics.waste_usd <= found <= economics.gain_usd
    assert (found > 1e-9) <= (probability > threshold)
    assert (found < -1e-9) <= (probability < threshold)


def test_it_loads_no_library_that_fits_models() -> None:
    code = "import sys, bentos.decisions.economics; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "sklearn", "pandas", "xgboost"} & set(loaded)
