from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from feature_repo.raw.simulator.errors import SimulationError
from feature_repo.raw.simulator.hazard import leaving_probability
from feature_repo.raw.simulator.manifest import MONTH_DAYS
from feature_repo.raw.simulator.profile import OFFLINE
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.raw.simulator.steady_state import MONTHLY_CHURN_MAX, MONTHLY_CHURN_MIN, steady_state
from feature_repo.raw.simulator.transitions import joiners, legacy, passers

pytestmark = pytest.mark.slow

START = date(2025, 1, 31)


@pytest.fixture(scope="module")
def extracts(tmp_path_factory):
    """Six extracts of 6,000 rows of a world that loses 1.5 % a month."""
    world = simulate(tmp_path_factory.mktemp("low") / "world", 6000, 6, 3, START, jsonl=False, monthly_churn=0.015)
    return world, [pd.read_csv(world.extract(day)) for day in world.snapshots]


@pytest.mark.parametrize("rate", [MONTHLY_CHURN_MIN, 0.008, 0.015, 0.1, MONTHLY_CHURN_MAX])
def test_the_rate_that_was_asked_for_is_the_rate_of_the_base(constants, rate):
    steady = steady_state(constants, rate)
    assert steady.constants.churn_rate == pytest.approx(rate, abs=1e-9)
    assert steady.share.sum() == pytest.approx(1)
    assert not steady.constants.fixed_mix


def test_extracts_hold_the_churn_that_was_asked_for_month_after_month(extracts):
    world, months = extracts
    rows, left = (sum(counts) for counts in zip(*((len(m), (m["Churn"] == "Yes").sum()) for m in months), strict=True))
    assert world.monthly_churn == 0.015
    # Behaviours move the mean a little; the standard error of the share is 0.0006.
    assert left / rows == pytest.approx(0.015, abs=0.003)
    assert all(abs(len(m) - 6000) < 100 for m in months)


def test_the_base_stays_as_it_is_and_hardly_anybody_vanishes(extracts):
    _, months = extracts
    first, last = (m[m["Churn"] == "No"] for m in (months[0], months[-1]))
    for column in ("Contract", "InternetService", "PaymentMethod"):
        then, now = (m[column].value_counts(normalize=True).sort_index() for m in (first, last))
        assert now.to_numpy() == pytest.approx(then.to_numpy(), abs=0.02), column
    assert last["tenure"].mean() == pytest.approx(first["tenure"].mean(), abs=1.0)
    vanished = [
        len(set(before.loc[before["Churn"] == "No", "customerID"]) - set(after["customerID"])) / len(before)
        for before, after in pairwise(months)
    ]
    assert max(vanished) < 0.006


def test_the_truth_s_risk_is_that_of_the_level_and_tells_customers_apart(extracts):
    world, _ = extracts
    truth = pd.read_parquet(world.truth(world.snapshots[2]))
    assert truth["hazard"].mean() == pytest.approx(0.015, abs=0.003)
    top = truth["hazard"].nlargest(len(truth) // 10).sum() / truth["hazard"].sum()
    assert 0.35 < top < 0.75


def test_joiners_are_new_and_nobody_passes_or_goes_to_a_legacy_book(rng, constants):
    level = steady_state(constants, 0.015)
    base = level.customers(rng, 3000)
    joined = joiners(rng, base.take(slice(0, 2900)), 3000, level.constants)
    assert len(joined) == 100
    assert set(joined.tenure.tolist()) <= {0, 1}
    assert (joined.internet != OFFLINE).mean() > 0.5
    assert len(passers(rng, 3000, level.constants)) == 0
    assert len(legacy(rng, np.full(3000, 72), 3000, level.constants)) == 0


def test_the_contrast_lowers_the_spread_of_risk_and_the_shift_its_level(people, constants):
    level = steady_state(constants, 0.015).constants
    people.profile.tenure[:] = np.arange(len(people)) % 72 + 1
    usual, low = (leaving_probability(people, 1_700_000_000, each) for each in (constants, level))
    assert low.mean() < usual.mean() / 5
    assert np.log(low).std() < np.log(usual).std()


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.21, 1.0, float("nan")])
def test_other_rates_make_no_world_and_no_folder(tmp_path, rate):
    with pytest.raises(SimulationError, match="monthly churn is") as refused:
        simulate(tmp_path / "out", 200, 2, 1, START, monthly_churn=rate)
    assert "0.002 to 0.2" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    one, two = (simulate(tmp_path / name, 200, 2, 1, START, jsonl=False, monthly_churn=0.02) for name in ("one", "two"))
    assert one.files == two.files
    assert (one.snapshots[1] - one.snapshots[0]).days == MONTH_DAYS
