import pytest

from feature_repo.raw.simulator.drift import SCENARIOS, Drift


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_sets_in_in_its_month_and_touches_no_other(scenario):
    drift = Drift(scenario, 3)
    assert [drift.begins(scenario, month) for month in (2, 3, 4)] == [False, True, False]
    assert [drift.since(scenario, month) for month in (2, 3, 4)] == [False, True, True]
    assert not any(drift.since(other, 3) for other in SCENARIOS if other != scenario)


def test_a_campaign_ends_and_a_price_rise_stays():
    assert [month for month in range(10) if Drift("competitor_campaign", 3).campaign(month)] == [3, 4, 5]
    assert [Drift("price_rise", 3).price_percent(month) for month in (2, 3, 9)] == [100, 108, 108]
    assert Drift("none", 3).price_percent(9) == 100
