import numpy as np
import pytest

from feature_repo.raw.simulator import hazard

NOW_S = 1_700_000_000
DAY_S = 86_400


@pytest.fixture
def quiet(people):
    """Customers with steady traffic who logged in a moment ago."""
    people.data_mb[:] = 1000
    people.login_s[:] = NOW_S
    return people


def risk(customers):
    return hazard.behaviour_log_factor(customers, NOW_S)


def test_nothing_happened_nothing_moves(quiet):
    assert (risk(quiet) == 0).all()


@pytest.mark.parametrize(
    ("name", "bucket", "value"),
    [("tickets", 0, 1), ("tickets", 2, 1), ("late", 1, 1), ("price_change_cents", 1, 500)],
)
def test_each_behaviour_raises_the_risk_of_whom_it_happened_to(quiet, name, bucket, value):
    getattr(quiet, name)[:10, bucket] += value
    assert (risk(quiet)[:10] > 0).all()
    assert (risk(quiet)[10:] == 0).all()


def test_less_traffic_more_does_not(quiet):
    quiet.data_mb[0, 0], quiet.data_mb[1, 0] = 300, 3000
    quiet.data_mb[2] = 0
    assert risk(quiet)[:3].tolist() == [pytest.approx(-1.6 * np.log(900 / 2300)), 0, 0]


def test_slow_resolution_and_absence(quiet):
    quiet.hours[:2, 1], quiet.closed[:2, 1] = [100, 40], 1
    quiet.login_s[3] = NOW_S - 30 * DAY_S
    quiet.login_s[4] = 0
    assert risk(quiet)[:5].tolist() == [pytest.approx(0.7), 0, 0, pytest.approx(0.45), pytest.approx(0.9)]


def test_a_price_cut_is_no_rise(quiet):
    quiet.price_change_cents[:, 0] = -500
    assert (risk(quiet) == 0).all()


def test_who_passes_between_extracts():
    score = np.array([-8.0, -2, 0, 2, 4])
    share = hazard.between_extracts(score)
    assert (np.diff(share) > 0).all()
    assert share[0] == pytest.approx(0, abs=1e-3)
    assert share[-1] > 0.95


def test_an_offer_helps_most_after_a_price_rise(people):
    before = hazard.offer_log_odds(people)
    people.price_change_cents[:, 2] = 100
    assert (hazard.offer_log_odds(people) >= before).all()
    assert (before >= 0).all()


def test_nobody_leaves_before_the_first_bill(people, constants):
    people.profile.tenure[:] = 0
    assert (hazard.core_log_intensity(people.profile, constants) == -6).all()
