"""When a drift may start a training: a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from configs.settings import RetrainingSettings
from flows.steps.retraining_policy import admit_retraining

T0 = datetime(2026, 11, 1, 6, tzinfo=UTC)
RULES = RetrainingSettings(cool_down_h=6, daily_max=2)


def hours(count):
    return T0 + timedelta(hours=count)


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ([], 0, None),
        ([0], 5.9, "retraining.cool_down_h"),
        ([0], 6, None),
        # Two in 24 hours are enough, and the older one is forgotten after a day.
        ([0, 6], 12, "retraining.daily_max"),
        ([0, 6], 24, None),
        ([0, 6], 23.9, "retraining.daily_max"),
        # A training of a later instant (months replayed out of order) holds nothing back.
        ([48], 0, None),
        # The same instant again is the same training, killed and run again.
        ([0], 0, None),
        ([0, 6], 6, None),
    ],
)
def test_a_drift_waits_for_the_cool_down_and_the_daily_cap(tmp_path, before, now, refused):
    for each in before:
        assert admit_retraining(tmp_path, hours(each), "request", RULES, drift=False) is None
    told = admit_retraining(tmp_path, hours(now), "drift", RULES, drift=True)
    assert told is None if refused is None else refused in told


def test_who_asks_by_hand_or_by_schedule_is_never_held_back_and_counts(tmp_path):
    for each in range(4):
        assert admit_retraining(tmp_path, hours(each), "schedule", RULES, drift=False) is None
    assert "retraining.cool_down_h" in admit_retraining(tmp_path, hours(4), "drift", RULES, drift=True)
    # A refused one does not count: it has not trained.
    assert "01 09:00" in admit_retraining(tmp_path, hours(5), "drift", RULES, drift=True)
